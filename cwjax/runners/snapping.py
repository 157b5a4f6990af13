"""An attack's result where inputs are features: on a lattice of any levels, with what follows from what, and with no
more changes than the goal needs.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_allowed, check_count, check_part, sorted_out
from cwjax.base import AnyArray, Count, Goal, Network, Result, Runner, Terms, answered, wide
from cwjax.models import Model
from cwjax.parts.lattices import Lattice, check_on
from cwjax.parts.norms import TINY
from cwjax.problems import Allowed, ends
from cwjax.runners.batch import by_rows, own_and_shared, terms_of
from cwjax.runners.fast_convolutions import canonical
from cwjax.runners.rounding import RepairState, Rounding, loss_of, settled_on

STEPS = 200  # looks at the model, at the most, in each of the two parts


class Room(NamedTuple):
    """Of one example: between what its levels may lie, and what follows from what."""

    clean: Float[Array, "*S"]
    low: Float[Array, "*S"]  # the smallest value that an element may be given
    high: Float[Array, "*S"]
    cost: Float[Array, "*S"]  # of a change of each element
    by_length: bool  # whether a change costs so much times its length, or once

    def price(self, change: Float[Array, "*S"]) -> Float[Array, "*S"]:
        """What it costs to change each element by so much."""
        return jnp.maximum(self.cost * jnp.abs(change) if self.by_length else self.cost, TINY)


class SnapState(NamedTuple):
    x: Float[Array, "*S"]  # on the lattice
    best: Float[Array, "*S"]  # the last that met the goal; the clean input before one did
    way: Float[Array, "*S"]  # where each element has gone in the repair: 1 up, -1 down, 0 nowhere yet
    needed: Bool[Array, "*S"]  # changes of `best` that were undone in vain
    undone: Bool[Array, "*S"]  # the changes of `best` that x lacks
    moves: Int[Array, ""]  # int32: of the repair
    looks: Int[Array, ""]  # int32: at the model
    met: Bool[Array, ""]  # whether `best` is an example
    finite: Bool[Array, ""]
    done: Bool[Array, ""]


def snapped(
    runner: Runner, lattice: Lattice, *, steps: Count = STEPS, terms: Terms | None = None
) -> Callable[..., tuple[Result, Rounding]]:
    """The runner's results on a lattice, for inputs that are features: what an app asks for, what a document counts.

    1. Each changed element goes to the nearest of its levels that its bounds allow. What then has to follow from what
       was added, follows; what may not follow is not added.
    2. While the goal is missed, one element moves on by one level: the one for which the slope of f predicts the
       largest fall of f, over the cost of the distance. What follows from it moves too, and counts. Any element that
       has room may move, also one that the attack left alone; none turns back. This ends when no move is predicted to
       help, or the steps run out.
    3. From an example, one change after the other is undone, as long as the goal is met without it: first those whose
       slope predicts the least loss, over their cost. A change that another one needs stays as long as that does.

    Elements that do not move are the clean ones, bit for bit. A failure is the clean input at distance inf. A look at
    an input is one forward and one backward pass, added to `forwards` and `backwards`. Where the attack failed, none.

    Args:
      runner: `batched(attack)`, or any other runner that returns a Result. Bounds and mask are its own: `low=x` where
        elements may only rise.
      lattice: from `cwjax.lattices.lattice`.
      steps: looks at the model in part 2, and in part 3, at the most; >= 1, may be traced.
      terms: `attack.terms`, for a function of your own that returns a Result.

    Returns:
      A function `(model, keys, x, goal, **options) -> (Result, Rounding)`, with arguments and errors as for the runner.
      `Rounding.repairs` counts the moves of part 2. It raises ValueError where an element that may
      move is on none of its levels.

    Raises:
      TypeError, ValueError: arguments that are not that.

    Example:
      >>> import jax, jax.numpy as jnp, cwjax as cw
      >>> model = cw.bind(lambda weights, x: x @ weights, jnp.array([[0.0, 1.0], [0.0, 3.0], [2.0, 0.0]]))
      >>> x, goal, keys = jnp.array([[0.0, 0.0, 1.0]]), cw.untargeted([0]), jax.random.split(jax.random.key(0), 1)
      >>> run = cw.runners.snapped(cw.batched(cw.fast("l1", steps=50)), cw.lattices.lattice())
      >>> result, rounding = jax.jit(run)(model, keys, x, goal, low=x)
      >>> result.x[0].tolist()
      [0.0, 1.0, 1.0]
    """
    check_part("lattice", lattice, Lattice)
    check_count("the steps on the lattice", steps)
    agreed = terms_of(runner, terms)

    def one(terms, shared, model, x, goal, result, own):
        allowed = Allowed(**shared, **own)
        room = room_of(lattice, x, allowed, terms)
        look = canonical(functools.partial(_looked, lattice, room, terms, steps, x.dtype))
        end = lax.while_loop(
            lambda state: ~state.done,
            lambda state: look(model.given(allowed.context), goal, state),
            _begun(lattice, room, result),
        )
        return _settled(terms, x, result, end)

    def run(model: Model, keys: Array, x: AnyArray, goal: Goal, **options: Any) -> tuple[Result, Rounding]:
        allowed, numbers = sorted_out(options)
        held_to = agreed(**numbers)
        check_allowed(x, allowed)
        check_on(lattice, x, allowed.mask)
        result = runner(model, keys, x, goal, **options)
        own, shared = own_and_shared(allowed._asdict(), x)
        return by_rows(functools.partial(one, held_to, shared, model), jnp.asarray(x), goal, result, own)

    return run


def room_of(lattice: Lattice, x: Float[Array, "*S"], allowed: Allowed, terms: Terms) -> Room:
    """Where one example may go. An element whose consequences may not follow has no room to be added."""
    clean = x.astype(wide(x))
    low, high = ends(allowed, x)
    mask = jnp.broadcast_to(True if allowed.mask is None else allowed.mask, x.shape)
    low, high = jnp.where(mask, lattice.above(low), clean), jnp.where(mask, lattice.below(high), clean)
    low, high = jnp.minimum(low, clean), jnp.maximum(high, clean)  # where no level is between the bounds
    if lattice.implies is not None:
        never = (high <= 0) | (_added(lattice, clean) > high)
        blocked = (jnp.asarray(lattice.implies) & never.reshape(1, -1)).any(1).reshape(x.shape)
        high = jnp.where(blocked & (clean <= 0), clean, high)
    cost = jnp.broadcast_to(jnp.asarray(terms.distance.cost, clean.dtype), clean.shape)
    return Room(clean, low, high, cost, by_length=terms.distance.norm != "l0")


def _added(lattice, x):
    """The first level above 0 of each element that has none yet."""
    return jnp.where(x > 0, x, lattice.next(jnp.zeros_like(x), jnp.ones(x.shape, bool)))


def followed(lattice: Lattice, room: Room, x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """The nearest point above x that lacks nothing that follows from what it has. What the clean input lacks already
    is no concern.
    """
    if lattice.implies is None:
        return x
    implies = jnp.asarray(lattice.implies)

    def lacking(point):
        there = (point > 0).reshape(-1)
        return implies & there[:, None] & ~there[None]

    new = (lacking(x) & ~lacking(room.clean)).any(0).reshape(x.shape)
    return jnp.where(new, jnp.where(room.clean > 0, room.clean, _added(lattice, x)), x)


def _begun(lattice, room, result) -> SnapState:
    solution = result.x.astype(room.clean.dtype)
    below, above = lattice.below(solution), lattice.above(solution)
    nearest = jnp.where(solution - below < above - solution, below, above)
    nearest = jnp.where(solution == room.clean, room.clean, jnp.clip(nearest, room.low, room.high))
    nothing, zero = jnp.zeros(solution.shape, bool), jnp.zeros((), jnp.int32)
    return SnapState(
        x=followed(lattice, room, nearest),
        best=room.clean,
        way=jnp.zeros_like(solution),
        needed=nothing,
        undone=nothing,
        moves=zero,
        looks=zero,
        met=jnp.array(False),
        finite=jnp.array(True),
        done=~result.success,
    )


def _looked(lattice, room, terms, steps, dtype, model: Network, goal: Goal, state: SnapState) -> SnapState:
    """Asks the model about the point, as the inputs' dtype has it, and goes on to the next."""

    def value(x):
        outputs = model(x.astype(dtype))
        return loss_of(terms.objective, outputs, goal), outputs

    (loss, outputs), slope = jax.value_and_grad(value, has_aux=True)(state.x)
    slope = slope.astype(wide(slope))
    finite = jnp.isfinite(loss) & answered(outputs) & jnp.isfinite(slope).all()
    met = terms.objective.met(outputs, goal) & finite
    state = state._replace(looks=state.looks + 1, finite=state.finite & (finite | state.met))
    moved, way, helps = _moved(lattice, room, state, slope)
    move = ~met & finite & helps & (state.moves < steps)
    repaired = state._replace(x=moved, way=way, moves=state.moves + 1, done=jnp.array(False))
    repaired = jax.tree.map(lambda new, old: jnp.where(move, new, old), repaired, state._replace(done=jnp.array(True)))
    pruned = _pruned(lattice, room, state, slope, met, steps)
    return jax.tree.map(lambda later, first: jnp.where(state.met | met, later, first), pruned, repaired)


def _moved(lattice, room, state, slope):
    """The point with one element moved on, where each has gone then, and whether that is predicted to help."""
    up = jnp.where(state.way == 0, slope < 0, state.way > 0)
    further = jnp.clip(lattice.next(state.x, up), room.low, room.high)
    fall = slope * (state.x - further)
    price = room.price(further - state.x)
    if lattice.implies is not None:
        # What is to be added with each element, and what it brings and costs; an element that something present needs
        # is not taken away.
        implies, there = jnp.asarray(lattice.implies), (state.x > 0).reshape(-1)
        follows = implies & ~there[None] & ((further > 0).reshape(-1) & ~there)[:, None]
        added = _added(lattice, state.x)
        fall = fall + (follows @ (slope * (state.x - added)).reshape(-1)).reshape(fall.shape)
        price = price + (follows @ room.price(added - state.x).reshape(-1)).reshape(fall.shape)
        held = (implies & there[:, None]).any(0).reshape(fall.shape)
        fall = jnp.where(held & (further <= 0), 0, fall)
    promised = jnp.where(further != state.x, fall / price, 0)
    chosen = jnp.arange(fall.size).reshape(fall.shape) == jnp.argmax(promised)
    x = followed(lattice, room, jnp.where(chosen, further, state.x))
    return x, jnp.where(chosen, jnp.sign(further - state.x), state.way), promised.max() > 0


def _pruned(lattice, room, state, slope, met, steps) -> SnapState:
    """The example with one change less, to look at next."""
    best = jnp.where(met, state.x, state.best)
    needed = state.needed | (state.undone & ~met)
    changed = best != room.clean
    open_ = changed & ~needed
    if lattice.implies is not None:
        # What something added needs, stays; and what needs something that is gone, stays away.
        implies, altered = jnp.asarray(lattice.implies), changed.reshape(-1)
        there, before = (best > 0).reshape(-1), (room.clean > 0).reshape(-1)
        held = (implies & (altered & there)[:, None]).any(0) & there
        lacking = (implies & (altered & ~there)[None]).any(1) & before
        open_ = open_ & ~(held | lacking).reshape(open_.shape)
    loss = jnp.where(open_, slope * (room.clean - best) / room.price(best - room.clean), jnp.inf)
    undone = (jnp.arange(loss.size).reshape(loss.shape) == jnp.argmin(loss)) & open_
    return state._replace(
        x=jnp.where(undone, room.clean, best),
        best=best,
        needed=needed,
        undone=undone,
        met=jnp.array(True),
        done=~open_.any() | (state.looks > state.moves + steps),
    )


def _settled(terms: Terms, x, result: Result, end: SnapState) -> tuple[Result, Rounding]:
    """What it came to, for one example: a success only where the model met the goal at the very point."""
    best = end.best.astype(x.dtype)
    ended = RepairState(best, best, end.moves, end.moves, end.met, end.finite, end.done)
    discrete, rounding = settled_on(terms.distance, x, result, ended)
    spent = {"forwards": result.forwards + end.looks, "backwards": result.backwards + end.looks}
    return discrete._replace(**spent), rounding
