"""Valid images have integer pixels: an attack's result on the lattice of 8-bit values (Carlini & Wagner 2017, section
V-D, "Discretization"; not in their released code).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_allowed, check_count, sorted_out
from cwjax.base import (
    AnyArray,
    Bound,
    Count,
    Distance,
    Goal,
    Network,
    Objective,
    Outputs,
    Result,
    Runner,
    Terms,
    answered,
    settled,
    wide,
)
from cwjax.models import Model
from cwjax.parts.objectives import logit_margin
from cwjax.problems import Allowed
from cwjax.runners.batch import by_rows, own_and_shared, terms_of
from cwjax.runners.fast_convolutions import canonical
from cwjax.values import known

STEPS = 100  # times that a repair moves elements, at the most


class Rounding(NamedTuple):
    """What rounding cost; the Result beside it tells what came out. Every field has the batch as its only axis B."""

    distance: Float[Array, "B"]  # of the attack's own solution, in its own norm; inf where the attack failed
    success: Bool[Array, "B"]  # of the attack's own solution
    rounded: Bool[Array, "B"]  # the goal was met after plain rounding already; implies `success`
    repairs: Int[Array, "B"]  # int32: elements that the repair moved, also where it failed in the end


class RepairState(NamedTuple):
    x: Float[Array, "*S"]  # the image on the lattice
    other: Float[Array, "*S"]  # the value each element may still move to; the one it has where it may not move
    moves: Int[Array, ""]  # int32: elements that have moved
    steps: Int[Array, ""]  # int32: times that some have moved
    met: Bool[Array, ""]
    finite: Bool[Array, ""]
    done: Bool[Array, ""]


def discretised(
    runner: Runner,
    *,
    levels: int = 256,
    between: tuple[Bound, Bound] | None = None,
    steps: Count = STEPS,
    terms: Terms | None = None,
) -> Callable[..., tuple[Result, Rounding]]:
    """The runner's results as images of `levels` values an element; those that rounding breaks are repaired.

    Each adversarial example is rounded to the nearest of `levels` evenly spaced values that its bounds allow: in [0, 1]
    exactly the `byte / 255` of x's dtype. The norm, the objective and its confidence are the attack's own. If it then
    misses the goal, a greedy search moves elements to the level on the other side of the attack's own solution: those
    for which the slope of f predicts the largest falls of f, as few as bring their sum to f, and one at the least. It
    looks again, and moves more. No element moves twice, so none ends a level or more from that solution. The repair
    fails when no move is predicted to help or its steps run out; a failure is the clean input at distance inf, as
    everywhere. In L-infinity most elements lie at the radius and are rounded the same way, so that a look may have to
    move hundreds of them.

    Elements that the attack left alone, or that round to the level of the clean value, are bit for bit the clean ones:
    of an x that is no 8-bit image, only what changed is on the lattice. (A clean value is on a level if it is within
    float32 rounding of it, whatever arithmetic made it from a byte.)

    A look at an image is one forward and one backward pass, added to `forwards` and `backwards`: one look after
    rounding and one after each step. Where the attack failed, none.

    Args:
      runner: `batched(attack)`, or any other runner that returns a Result.
      levels: values an element may take, >= 2; 256 for 8 bits.
      between: the first and the last of them; the runner's `low` and `high`, if left out. Say it where each input has
        bounds of its own.
      steps: how many times the repair moves elements at the most, >= 0; may be traced. With 0, rounding is plain.
      terms: `attack.terms`, for a function of your own that returns a Result. The runners of cwjax know theirs.

    Returns:
      A function `(model, keys, x, goal, **options) -> (Result, Rounding)`, with arguments and errors as for the runner.

    Raises:
      ValueError: numbers out of range.
      TypeError: a runner whose terms are not known.

    Example:
      >>> run = cw.discretised(cw.batched(cw.attacks.fgsm(epsilon=0.3)))
      >>> result, rounding = run(model, keys, x, goal)
      >>> print(np.asarray(255 * result.x[0]).round(2), rounding.success)
      [ 76. 179. 102.] [ True  True]
    """
    check_count("levels", levels, least=2)
    check_count("the repair's steps", steps, least=0)
    agreed = terms_of(runner, terms)

    def one(terms, shared, ends, model, x, goal, result, own):
        allowed = Allowed(**shared, **own)
        ask = canonical(functools.partial(repaired, terms.objective, steps))
        end = lax.while_loop(
            lambda state: ~state.done,
            lambda state: ask(model.given(allowed.context), goal, state),
            begun(result, x, allowed, levels=levels, between=ends),
        )
        return settled_on(terms.distance, x, result, end)

    def run(model: Model, keys: Array, x: AnyArray, goal: Goal, **options: Any) -> tuple[Result, Rounding]:
        allowed, numbers = sorted_out(options)
        held_to, ends = agreed(**numbers), between or (allowed.low, allowed.high)
        check_allowed(x, allowed)
        if any(jnp.ndim(end) == x.ndim for end in ends):
            raise ValueError(
                "each input has bounds of its own: say between which values the levels lie (between=(0, 1))"
            )
        result = runner(model, keys, x, goal, **options)
        own, shared = own_and_shared(allowed._asdict(), x)
        return by_rows(functools.partial(one, held_to, shared, ends, model), jnp.asarray(x), goal, result, own)

    return run


def begun(result: Result, x: AnyArray, allowed: Allowed, *, levels: int = 256, between: Any) -> RepairState:
    """The result of one example on the lattice, before the model is asked; see `discretised`."""
    nearest, other = _allowed(_neighbours(result.x, x, levels, *between), x, allowed)
    return RepairState(
        x=nearest,
        other=other,
        moves=jnp.zeros((), jnp.int32),
        steps=jnp.zeros((), jnp.int32),
        met=jnp.array(False),
        finite=jnp.array(True),
        done=~result.success,
    )


def settled_on(distance: Distance, x: AnyArray, result: Result, end: RepairState) -> tuple[Result, Rounding]:
    """What a repair came to, for one example."""
    looks = jnp.where(result.success, end.steps + 1, 0)
    discrete = settled(result, jnp.asarray(x), end.x, end.met, distance)._replace(
        forwards=result.forwards + looks,
        backwards=result.backwards + looks,
        finite=result.finite & end.finite,
    )
    return discrete, Rounding(
        distance=result.distance,
        success=result.success,
        rounded=end.met & (end.moves == 0),
        repairs=end.moves,
    )


def loss_of(objective: Objective, outputs: Outputs, goal: Goal) -> Float[Array, ""]:
    """The loss that a repair lowers."""
    loss = objective.loss(outputs, goal)
    if loss.ndim:  # of several losses, as DeepFool's, none is f
        loss = logit_margin(objective.confidence).loss(outputs, goal)
    return loss


def repaired(objective: Objective, steps: Count, model: Network, goal: Goal, state: RepairState) -> RepairState:
    """Asks the model about the image, and moves some elements if the goal is not met."""

    def value(x):
        outputs = model(x)
        return loss_of(objective, outputs, goal), outputs

    (loss, outputs), slope = jax.value_and_grad(value, has_aux=True)(state.x)
    fall = slope.astype(wide(slope)) * (state.x.astype(wide(slope)) - state.other.astype(wide(slope)))
    finite = jnp.isfinite(loss) & answered(outputs) & jnp.isfinite(slope).all()
    met = objective.met(outputs, goal) & finite
    move = ~met & finite & (fall.max() > 0) & (state.steps < steps)
    chosen = move & _enough(fall, loss)
    return RepairState(
        x=jnp.where(chosen, state.other, state.x),
        other=state.other,  # and the chosen elements have arrived there: they are not moved again
        moves=state.moves + chosen.sum(dtype=jnp.int32),
        steps=state.steps + move,
        met=met,
        finite=finite,
        done=~move,
    )


def _enough(fall: Float[Array, "*S"], needed: Float[Array, ""]) -> Bool[Array, "*S"]:
    """The fewest elements whose falls come to what is needed: the largest, and as many more as it takes, or as help."""
    falls = fall.reshape(-1)
    order = jnp.argsort(-falls)
    sorted_falls = falls[order]
    before = jnp.cumsum(sorted_falls) - sorted_falls
    largest = jnp.arange(falls.size) == 0
    chosen = (sorted_falls > 0) & (largest | (before < needed))
    return jnp.zeros_like(chosen).at[order].set(chosen).reshape(fall.shape)


def _allowed(values, clean, allowed):
    """Of both values of each element, the nearest first, those between its bounds; else the clean one."""
    low, high = (jnp.broadcast_to(jnp.asarray(end, clean.dtype), clean.shape) for end in (allowed.low, allowed.high))

    def inside(value):
        return (value >= low) & (value <= high)

    nearest, other = values
    nearest = jnp.where(inside(nearest), nearest, jnp.where(inside(other), other, clean))
    return nearest, jnp.where(inside(other), other, nearest)


def _neighbours(solution, clean, levels, lower, upper):
    """The lattice values on both sides of each element of the solution, the nearest first. Both are the same where the
    solution lies on the lattice, or where it is the clean value.
    """
    numpy = np if known(lower, upper) else jnp  # on the host in float64, since XLA may turn `/ 255` into `* (1 / 255)`
    low, high = numpy.broadcast_arrays(numpy.asarray(lower, float), numpy.asarray(upper, float))
    place = np.broadcast_to(np.arange(low.size).reshape(low.shape), clean.shape)  # which of the bounds is whose
    low, high = low.reshape(1, -1), high.reshape(1, -1)
    table = numpy.minimum(low + (high - low) * np.arange(levels)[:, None] / (levels - 1), high)
    table = jnp.asarray(table, wide(clean))

    low, high = table[0][place], table[-1][place]
    tolerance = 4 * jnp.finfo(jnp.float32).eps * jnp.maximum(jnp.abs(low), jnp.abs(high))

    def at(index):
        value = table[jnp.clip(index, 0, levels - 1), place].astype(clean.dtype)
        return jnp.where(jnp.abs(value.astype(table.dtype) - clean.astype(table.dtype)) <= tolerance, clean, value)

    width = jnp.where(high > low, high - low, 1)
    index = jnp.round((solution.astype(table.dtype) - low) / width * (levels - 1)).astype(jnp.int32)
    nearest = at(index)
    other = at(index + jnp.sign(solution - nearest).astype(jnp.int32))
    return tuple(jnp.where(solution == clean, clean, value) for value in (nearest, other))
