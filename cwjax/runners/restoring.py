"""Changes that an adversarial example does not need are undone: the smallest first, in groups, while its goal holds (an
idea of mydeepconcolic, https://github.com/ducanhnguyen/mydeepconcolic; batched and counted here).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from cwjax.arguments import check_allowed, check_count, sorted_out
from cwjax.base import AnyArray, Count, Distance, Goal, Network, Result, Runner, Terms, answered, settled, wide
from cwjax.models import Model
from cwjax.problems import Allowed
from cwjax.runners.batch import by_rows, own_and_shared, terms_of
from cwjax.runners.fast_convolutions import canonical

LOOKS = 100  # forward passes for an example, at the most


class Restoration(NamedTuple):
    """What undoing came to; the Result beside it tells what is left. Every field has the batch as its only axis B."""

    distance: Float[Array, "B"]  # of the attack's own solution, in its own norm; inf where the attack failed
    changed: Int[Array, "B"]  # int32: elements that the attack's own solution changes; 0 where it failed
    undone: Int[Array, "B"]  # int32: of those, the ones that are back at their clean value
    looks: Int[Array, "B"]  # int32: forward passes that it took


class RestoreState(NamedTuple):
    x: Float[Array, "*S"]  # the best so far
    place: Int[Array, ""]  # int32: how many changes have been decided on, in the order of their size
    group: Int[Array, ""]  # int32: how many to undo next
    looks: Int[Array, ""]  # int32


def restored(
    runner: Runner, *, looks: Count = LOOKS, terms: Terms | None = None
) -> Callable[..., tuple[Result, Restoration]]:
    """The runner's results with every change undone that the goal does not need.

    The changes of an example are ranked by their size, the smallest first. A group of them goes back to the clean
    values, at first half of all. If the goal still holds, the group stays undone and the next one is twice as large. If
    it does not, the group comes back and is halved; a single change that is needed stays. So the search ends with the
    largest change, or after `looks` forward passes.

    No element ends farther from its clean value than the attack left it. A group is undone only where the attack's own
    norm does not grow. So no example gets worse, and a success stays one. Where the attack counts pixels (L0 with
    channels), the channels of a pixel go together.

    A look is one forward pass, added to `forwards`. Where the attack failed there is none.

    Args:
      runner: `batched(attack)`, or any other runner that returns a Result.
      looks: forward passes for an example, >= 0; may be traced.
      terms: `attack.terms`, for a function of your own that returns a Result. The runners of cwjax know theirs.

    Returns:
      A function `(model, keys, x, goal, **options) -> (Result, Restoration)`, with arguments and errors as for the
      runner.

    Raises:
      ValueError: numbers out of range.
      TypeError: a runner whose terms are not known.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import cwjax as cw
      >>> model = cw.bind(lambda params, x: jnp.stack([x[:, 0], jnp.full(len(x), 0.5)], 1))
      >>> attack = cw.attacks.fgsm(epsilon=0.4)                  # changes elements that the model does not read, too
      >>> x, keys = jnp.full((1, 4), 0.3), jax.random.split(jax.random.key(0), 1)
      >>> result, told = cw.restored(cw.batched(attack))(model, keys, x, cw.untargeted([1]))
      >>> bool(result.success[0]), int((result.x != x).sum())
      (True, 1)
    """
    check_count("looks", looks, least=0)
    agreed = terms_of(runner, terms)

    def one(terms, shared, model, x, goal, result, own):
        allowed = Allowed(**shared, **own)
        rank, first, count = _ranked(terms.distance, x, result.x)
        step = canonical(functools.partial(_tried, terms, rank, count, x))
        half = jnp.maximum((count - first + 1) // 2, 1)
        begin = RestoreState(result.x, first, half.astype(jnp.int32), jnp.zeros((), jnp.int32))
        end = lax.while_loop(
            lambda state: result.success & (state.place < count) & (state.looks < looks),
            lambda state: step(model.given(allowed.context), goal, state),
            begin,
        )
        return _settled_on(terms.distance, x, result, end)

    def run(model: Model, keys: Array, x: AnyArray, goal: Goal, **options: Any) -> tuple[Result, Restoration]:
        allowed, numbers = sorted_out(options)
        held_to = agreed(**numbers)
        check_allowed(x, allowed)
        result = runner(model, keys, x, goal, **options)
        own, shared = own_and_shared(allowed._asdict(), x)
        return by_rows(functools.partial(one, held_to, shared, model), jnp.asarray(x), goal, result, own)

    return run


def _ranked(
    distance: Distance, clean: Float[Array, "*S"], x: Float[Array, "*S"]
) -> tuple[Int[Array, "..."], Int[Array, ""], Int[Array, ""]]:
    """The rank of each change by its size; the rank of the first that is one; and how many ranks there are."""
    size = jnp.abs(x.astype(wide(x)) - clean.astype(wide(x)))
    axis = distance.channels(size.shape)
    size = size if axis is None else jnp.max(size, axis=axis, keepdims=True)
    rank = jnp.argsort(jnp.argsort(size.reshape(-1))).reshape(size.shape).astype(jnp.int32)
    return rank, jnp.sum(size == 0, dtype=jnp.int32), jnp.asarray(size.size, jnp.int32)


def _tried(
    terms: Terms,
    rank: Int[Array, "..."],
    count: Int[Array, ""],
    clean: Float[Array, "*S"],
    model: Network,
    goal: Goal,
    state: RestoreState,
) -> RestoreState:
    """Asks the model whether the goal holds without the next group of changes."""
    group = jnp.minimum(state.group, count - state.place)
    trial = jnp.where((rank >= state.place) & (rank < state.place + group), clean, state.x)
    outputs = model(trial)
    far, before = (terms.distance.measure(x.astype(wide(x)) - clean.astype(wide(x))) for x in (trial, state.x))
    holds = terms.objective.met(outputs, goal) & answered(outputs) & (far <= before)
    decided = jnp.where(holds, group, jnp.where(group == 1, 1, 0))  # a single change that is needed stays
    return RestoreState(
        x=jnp.where(holds, trial, state.x),
        place=state.place + decided,
        group=jnp.where(holds, 2 * group, jnp.maximum(group // 2, 1)),
        looks=state.looks + 1,
    )


def _settled_on(
    distance: Distance, x: Float[Array, "*S"], result: Result, end: RestoreState
) -> tuple[Result, Restoration]:
    """What undoing came to, for one example."""
    left = settled(result, x, end.x, result.success, distance)
    left = left._replace(
        distance=jnp.minimum(left.distance, result.distance),  # the same sum may round otherwise in another program
        c=result.c,
        forwards=result.forwards + end.looks,
    )
    before, after = (jnp.sum(each != x, dtype=jnp.int32) for each in (result.x, end.x))
    return left, Restoration(result.distance, before, before - after, end.looks)
