"""What a device does of the engine: a turn, in which free lanes take rows from the queue and all lanes do some steps.

`queue.py` drives it from the host.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from cwjax.base import Goal, Result, State, carried, select, untouched
from cwjax.models import Model
from cwjax.problems import Allowed, problem
from cwjax.runners.batch import lanes, own_and_shared, result_of


class Queue(NamedTuple):
    """What is to be done: N rows."""

    keys: PRNGKeyArray  # [N]
    x: Float[Array, "N *S"]
    goal: Goal  # fields [N]
    allowed: Allowed  # fields [N, *S], or one for all that broadcasts to [*S]


class Pool(NamedTuple):
    """How far a run has come. On D devices their arrays lie one after the other along the leading axis."""

    states: State  # [W]: one a lane
    row: Int[Array, "W"]  # int32: of the queue, that the lane works on; N: none
    head: Int[Array, ""]  # int32: rows that have been handed out
    results: Result  # [D·N]: what is known of every row; on each device, of those that its lanes worked on


class Tally(NamedTuple):
    """What the host reads of a turn, one entry a device."""

    finished: Int[Array, "D"]  # int32: rows whose attack has come to its end
    found: Int[Array, "D"]  # int32: rows with an adversarial example so far
    forwards: Float[Array, "D"]  # float32: forward passes spent
    spent: Int[Array, "D"]  # int32: of these in this turn
    running: Int[Array, "D"]  # int32: lanes at work
    head: Int[Array, "D"]  # int32: rows that all devices together have taken from the queue


def take_turn(make, every: int, axes, numbers, model: Model, queue: Queue, pool: Pool) -> tuple[Pool, Tally]:
    """What one device does in a turn: free lanes take rows, all lanes do `every` steps, and store what they found."""
    begin, advance, result = lanes(make(**numbers))
    total, free = queue.x.shape[0], pool.states.progress.done

    place, taken = places(free, axes)
    row = jnp.where(free, jnp.minimum(pool.head + place, total), pool.row)
    own, shared = own_and_shared(queue.allowed._asdict(), queue.x)
    keys, x, goal, own = jax.tree.map(lambda leaf: leaf.at[row].get(mode="clip"), (*queue[:3], own))
    allowed = Allowed(**own, **shared)
    states = jax.vmap(select)(free, begin(keys, x, goal, allowed), pool.states)
    states = _ended(states, states.progress.done | (row == total))
    begun, states = states, advance(model, x, goal, states, every, allowed)

    own, running = result(states), ~states.progress.done
    results = jax.tree.map(lambda all, some: all.at[row].set(some, mode="drop"), pool.results, own)

    def summed(of_row, of_lane):
        # A row that moved to another device has left an old result here: count it where it runs, or where it ended.
        return jnp.where(results.finished, of_row, 0).sum() + jnp.where(running, of_lane, 0).sum()

    head = jnp.minimum(pool.head + taken, total)
    count = Tally(
        finished=results.finished.sum(),
        found=summed(results.success, own.success),
        forwards=summed(results.forwards.astype(jnp.float32), own.forwards.astype(jnp.float32)),
        spent=(states.progress.forwards - begun.progress.forwards).sum(),
        running=running.sum(),
        head=head,
    )
    after = carried(pool, Pool(states=states, row=row, head=head, results=results))
    return after, jax.tree.map(lambda leaf: leaf[None], count)


def places(free: Bool[Array, "W"], axes: tuple[str, ...]) -> tuple[Int[Array, "W"], Int[Array, ""]]:
    """For each free lane, how many free lanes come before it, those of the devices before included; and how many
    there are in all.
    """
    each = lax.all_gather(free.sum(), axes)
    before = jnp.where(jnp.arange(each.size) < lax.axis_index(axes), each, 0).sum()
    return before + jnp.cumsum(free) - 1, each.sum()


def empty_pool(make, work, width: int, devices: int) -> Pool:
    """A pool before the first turn: no lane has anything to do, and no row a result."""
    numbers, _, queue = work
    total = queue.x.shape[0]
    states = jax.eval_shape(lanes(make(**numbers)).begin, *queue)
    states = jax.tree.map(lambda leaf: jnp.zeros((width, *leaf.shape[1:]), leaf.dtype), states)
    nothing = jax.vmap(lambda x, goal: result_of(untouched(problem(x, goal))))(queue.x, queue.goal)
    return Pool(
        states=_ended(states, jnp.ones(width, bool)),
        row=jnp.full(width, total, jnp.int32),
        head=jnp.zeros((), jnp.int32),
        results=jax.tree.map(lambda leaf: jnp.concatenate([leaf] * devices), nothing),
    )


def _ended(states: State, done: Bool[Array, "W"]) -> State:
    return states._replace(progress=states.progress._replace(done=done))


def merged(results: Result, devices: int) -> Result:
    """Of every row, the result from the device that spent most on it: where it ran last."""
    if devices == 1:
        return results
    parts = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(devices, -1, *leaf.shape[1:]), results)
    last = parts.forwards.argmax(0)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[last, np.arange(len(last))]), parts)
