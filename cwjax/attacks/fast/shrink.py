"""Shrink: down the loss as Adam goes, far beyond the boundary, and then what makes the change small."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cwjax.attacks.fast.legs import UNIT
from cwjax.base import Number, Problem, found, seldom, wide
from cwjax.loop import Rule
from cwjax.parts.distances import costs
from cwjax.parts.norms import TINY, check_norm, unit
from cwjax.parts.proximal import Adam, adam, shrunk, weighted_units
from cwjax.parts.schedules import annealed, turned
from cwjax.problems import clip

_DECAY = 0.5  # of Adam's mean
_LIMITS_OF_C = (1e-3, 1e12)
_TURN = (0.2, 0.05)  # of log c, at the first step and at the last
_STEPS = (1.0, 0.2, 0.005)  # widths of the box: from the first to the second if bold, else from there to the third
_DEPTH = 100.0  # the first c: the larger, the deeper a leg goes before it returns
_SOFTNESS = 0.5  # what m/M is multiplied by: the smaller, the farther beyond the boundary the loss still pulls
_NORMS = ("l2", "l1", "l0")

Channels = Callable[[tuple[int, ...]], int | None]  # of an input's shape: the axis of a pixel's channels, if it has one


def _none(shape: tuple[int, ...]) -> None:
    """Every element is a pixel of its own."""


class DescentMemory(NamedTuple):
    """What `shrink` carries from step to step."""

    adam: Adam
    c: Float[Array, ""]
    margin: Float[Array, ""]  # the loss at the first point of the leg: what the others are measured in


def shrink(
    norm: str,
    steps: Number,
    *,
    bold: Callable[[Problem], Bool[Array, ""]] = lambda problem: jnp.array(False),
    cost: float | np.ndarray = 1.0,
    channels: Channels = _none,
    lost: bool | Bool[Array, ""] = False,
) -> Rule:
    """The rule that goes deep beyond the boundary by Adam, and shrinks the change by a proximal operator.

    Down `|delta| + c·softplus(m)`, m being the loss: a step of Adam down the second alone, and then the proximal
    operator of the norm in Adam's metric (`shrunk`), as PDPGD does (Matyasko & Chau 2021).

    Nothing here depends on the scale of the logits or of the box: the softplus is of m/M, M being the loss at the first
    point, slopes are of length one, and a step moves each element by a share of the box (`weighted_units`), which falls
    along a cosine.
    c is multiplied by exp(-r) where the goal is met and by exp(r) where it is not, r falling along a cosine. It is
    large at first: a leg goes deep, in many elements, and then shrinks them. On a network that was trained to be
    robust that comes to where attacks that start with few elements never do. In less than 60 steps it is smaller, and
    steps are longer, so that there are enough to come back.

    Args:
      norm: "l2", "l1" or "l0".
      steps: over which steps grow short.
      bold: whether steps stay long, which comes to other minima.
      cost: of a change of each element, in L1 and L0; see `distances.l1`.
      channels: which axis of an input holds the channels of a pixel, where pixels are counted; see `distances.l0`.
      lost: whether legs before this one found no example. Until this one has, steps are bold, and the norm costs
        nothing: else the operator takes the point back to where they failed.

    Raises:
      ValueError: an unknown norm.

    Example:
      >>> rule = cw.attacks.fast.shrink.shrink("l1", 40)
      >>> attack = cw.loop.iterated(
      ...     rule, objective=cw.losses.softened_margin(), distance=cw.distances.l1(), steps=40
      ... )
      >>> result = jax.jit(cw.batched(attack))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(1))  # the least is 0.2 and 0.3
      [0.2 0.3]

    References:
      Matyasko & Chau 2021, "PDPGD: primal-dual proximal gradient descent adversarial attack", section 3.3,
        https://arxiv.org/abs/2106.01538
    """
    check_norm(norm, _NORMS)
    of_a_unit = jnp.minimum(jnp.asarray(steps) / UNIT, 1)

    def length(problem: Problem, seeking: Bool[Array, ""], taken: Int[Array, ""]) -> Float[Array, ""]:
        long, short, shortest = _STEPS
        stays = bold(problem) | seeking
        first = jnp.where(stays, long, jnp.minimum(short / of_a_unit, long))
        return annealed(first, jnp.where(stays, short, shortest), taken, steps)

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        return start, DescentMemory(
            adam=adam(start), c=(_DEPTH**of_a_unit).astype(start.dtype), margin=jnp.zeros_like(start, shape=())
        )

    def move(problem, memory, seen):
        clean, (width, weight) = seen.x - seen.delta, weighted_units(norm, problem)
        margin = jnp.where(seen.taken == 0, jnp.abs(seen.loss), memory.margin)
        slope = jax.nn.sigmoid(_SOFTNESS * seen.loss / jnp.maximum(margin, TINY)) * unit(width * seen.slope)
        state = memory.adam.update(slope, _DECAY)

        def clipped(share):
            return (clip(problem, clean + width * share) - clean) / width

        seeking = lost & ~found(seen.best)
        c = jnp.clip(turned(memory.c, seen.met, _TURN, seen.taken, steps), *_LIMITS_OF_C)
        c = jnp.where(seeking, memory.c, c)
        step = length(problem, seeking, seen.taken)
        target = clipped(seen.delta / width - step * state.step(seen.taken, _DECAY))
        price = jnp.where(seeking, 0, step / c * weight * costs(cost, seen.x))
        axis, divisor = channels(seen.x.shape), state.divisor(seen.taken)
        share = shrunk(norm, target, divisor=divisor, weight=price, clipped=clipped, channels=axis)
        return clean + width * share, DescentMemory(adam=state, c=c, margin=margin)

    return Rule(init=init, move=move)


class ThenMemory(NamedTuple):
    """What `then` carries from step to step."""

    first: Any
    last: Any
    since: Int[Array, ""]  # int32: steps of the last rule


def then(first: Rule, last: Rule, going: Number) -> Rule:
    """The first rule for `going` steps, and then the last one, once there is an example.

    The last rule is told how many steps it has taken itself.

    Args:
      first: a rule.
      last: a rule that goes on from the best example.
      going: steps of the first.

    Example:
      >>> from cwjax.attacks.fast.shrink import shrink, then
      >>> from cwjax.attacks.fast.slide import follow
      >>> rule = then(shrink("l2", 30), follow("l2", 20), 30)
      >>> attack = cw.loop.iterated(
      ...     rule, objective=cw.losses.softened_margin(), distance=cw.distances.l2(), steps=50
      ... )
      >>> print(np.asarray(jax.jit(cw.batched(attack))(model, keys, x, goal).distance).round(2))
      [0.14 0.21]
    """

    def init(key, problem):
        start, memory = first.init(key, problem)
        return start, ThenMemory(memory, last.init(key, problem)[1], jnp.zeros((), jnp.int32))

    def move(problem, memory, seen):
        x, after = first.move(problem, memory.first, seen)

        def end(problem, memory, seen):
            x, later = last.move(problem, memory.last, seen._replace(taken=memory.since))
            return x, ThenMemory(memory.first, later, memory.since + 1)

        late = (seen.taken >= going) & found(seen.best)
        return seldom(late, end, (problem, memory, seen), (x, memory._replace(first=after)))

    return Rule(init=init, move=move)


class Undoing(NamedTuple):
    """What `remove` carries from step to step. With channels their axis has length 1."""

    needed: Bool[Array, "*P"]  # pixels that could not be removed from the best example
    tried: Bool[Array, "*P"]  # the pixel that was removed last


def remove(*, cost: float | np.ndarray = 1.0, channels: Channels = _none) -> Rule:
    """The rule that undoes one changed pixel at a step, from the best example.

    Each step undoes the pixel whose slope times change promises to cost least, while the others go on down the slope;
    where that is no example, the pixel stays for good. As the paper's L0 attack (section VI-B), one pixel at a
    step. What is dearer goes first: slope times change is divided by the cost. All channels of a changed pixel move,
    since they cost no more.

    Args:
      cost: of a change of each element; see `distances.l0`.
      channels: which axis of an input holds the channels of a pixel; by default every element is one.

    Example:
      >>> from cwjax.attacks.fast.shrink import remove, shrink, then
      >>> rule = then(shrink("l2", 20), remove(), 20)
      >>> attack = cw.loop.iterated(
      ...     rule, objective=cw.losses.softened_margin(), distance=cw.distances.l0(per_pixel=False), steps=25
      ... )
      >>> print(jax.jit(cw.batched(attack))(model, keys, x, goal).distance)
      [1. 1.]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-B,
        https://arxiv.org/abs/1608.04644
    """

    def whole(values, how):
        """The values of elements as one of each pixel."""
        axis = channels(values.shape)
        return values if axis is None else how(values, axis=axis, keepdims=True)

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        nothing = jnp.zeros_like(whole(start, jnp.sum), bool)
        return start, Undoing(needed=nothing, tried=nothing)

    def move(problem, memory, seen):
        clean = seen.x - seen.delta
        best = seen.best.x.astype(clean.dtype) - clean
        improved = (best == seen.delta).all()
        needed = memory.needed | jnp.where(improved, False, memory.tried)
        changed = whole(best != 0, jnp.any)
        open_ = changed & ~needed
        price = jnp.maximum(whole(jnp.broadcast_to(costs(cost, best), best.shape), jnp.max), TINY)
        loss = jnp.where(open_, whole(-seen.slope * best, jnp.sum) / price, jnp.inf)
        tried = (jnp.arange(loss.size).reshape(loss.shape) == jnp.argmin(loss)) & open_
        farther = clip(problem, clean + best - jnp.sign(seen.slope) * problem.widths)
        return jnp.where(changed & ~tried, farther, clean), Undoing(needed, tried)

    return Rule(init=init, move=move)
