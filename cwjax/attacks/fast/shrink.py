"""Proximal descent: down the loss as Adam goes, and then what a norm without a useful gradient does to the change."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.base import Number, Problem, carried, wide
from cwjax.loop import Rule
from cwjax.parts.norms import NORMS, TINY, check_norm, length, unit, units
from cwjax.parts.schedules import annealed
from cwjax.problems import clip

_ITERATIONS, _CONVERGED = 5, 1e-2  # of adv-lib's PDPGD: the most in a step, and the relative change that ends them
_SQUARES, _EPS = 0.999, 1e-8  # Adam's own
_DECAY = 0.5  # of Adam's mean, in `proximal_descent`
_LIMITS_OF_C = (1e-3, 1e12)
_TURN = {"l2": (0.2, 0.05), "l1": (0.3, 0.05), "l0": (0.2, 0.05)}  # of log c, at the first step and at the last
_SOFTNESS = 0.5  # what m/M is multiplied by: the smaller, the farther beyond the boundary the loss still pulls


class Adam(NamedTuple):
    """Written out, because the proximal operator works in Adam's metric."""

    mean: Float[Array, "*S"]  # of gradients
    square: Float[Array, "*S"]  # of their squares

    def update(self, gradient: Float[Array, "*S"], decay: float) -> "Adam":
        """Both means with one more gradient; `decay`: how much of the first stays."""
        return Adam(
            mean=decay * self.mean + (1 - decay) * gradient,
            square=_SQUARES * self.square + (1 - _SQUARES) * gradient**2,
        )

    def divisor(self, taken: Int[Array, ""]) -> Float[Array, "*S"]:
        """What the mean is divided by, element by element."""
        return jnp.sqrt(self.square / (1 - jnp.asarray(_SQUARES, self.square.dtype) ** (taken + 1))) + _EPS

    def step(self, taken: Int[Array, ""], decay: float) -> Float[Array, "*S"]:
        """Of learning rate 1, uphill."""
        return self.mean / (1 - jnp.asarray(decay, self.mean.dtype) ** (taken + 1)) / self.divisor(taken)


def adam(like: Float[Array, "*S"]) -> Adam:
    return Adam(mean=jnp.zeros_like(like), square=jnp.zeros_like(like))


def weighted_units(norm: str, problem: Problem) -> tuple[Float[Array, "*S"], Float[Array, "..."]]:
    """The unit that changes are measured in, by element, and a factor for the weight of the proximal operator.

    The operator of L1 takes a weight for each element. So each is measured in its own width, and its weight is that
    width over `problem.span`. In the other norms the factor is 1.
    """
    if norm == "l1":
        return problem.widths, problem.widths / problem.span
    return units(norm, problem), jnp.ones_like(problem.scale)


def shrunk(
    norm: str,
    target: Float[Array, "*S"],
    *,
    divisor: Float[Array, "*S"],
    weight: Float[Array, "..."],
    clipped: Callable[[Float[Array, "*S"]], Float[Array, "*S"]],
) -> Float[Array, "*S"]:
    """The change on the way to the z that minimises `Σ_i D_i·(z_i - target_i)²/2 + weight·|z|`, D being what Adam
    divided by (Melchior et al. 2019, "Proximal Adam"); with d the largest element of D,

        z <- prox(z - D/d·(z - target), weight/d), clipped,           up to five times from the target

    Five times are few where D/d is small: an element whose slopes are small is then shrunk by no more than five
    weights, and not dropped at once for what it does to the loss just here.

    Args:
      norm: a key of NORMS.
      target: where a step without the norm leads.
      divisor: D > 0.
      weight: > 0; [], or in L1 [*S].
      clipped: a change as far as the box allows it.
    """
    largest = jnp.max(divisor)
    metric, weight = divisor / largest, weight / largest

    def iteration(_, state):
        z, change = state
        new = NORMS[norm].prox(z - metric * (z - target), weight)
        new = jnp.where(change > _CONVERGED, clipped(new), z)
        return carried(state, (new, length(new - z) / jnp.maximum(length(new), TINY)))

    z, _ = jax.lax.fori_loop(0, _ITERATIONS, iteration, (target, jnp.ones_like(largest)))
    return z


class Temper(NamedTuple):
    """Of a leg."""

    first: Number  # step, in widths of the box
    last: Number
    c: Number  # the first weight of the loss: the larger, the deeper a leg goes before it returns


_BOLD = Temper(first=1.0, last=0.2, c=10.0)


def _careful(steps: Number) -> Temper:
    """Deep; but in less than 60 steps, longer ones, and not so deep that there are too few to come back."""
    return Temper(first=jnp.clip(12 / steps, 0.2, 0.4), last=0.005, c=jnp.minimum(jnp.exp(steps / 13), 100.0))


class DescentMemory(NamedTuple):
    adam: Adam
    c: Float[Array, ""]
    margin: Float[Array, ""]  # the loss at the first point of the leg: what the others are measured in


def proximal_descent(
    norm: str, steps: Number, *, bold: Callable[[Problem], Bool[Array, ""]] = lambda problem: jnp.array(False)
) -> Rule:
    """Down `|delta| + c·softplus(m)`, m being the loss: a step of Adam down the second alone, and then the proximal
    operator of the norm in Adam's metric (`shrunk`), as PDPGD does (Matyasko & Chau 2021).

    Nothing here depends on the scale of the logits or of the box: the softplus is of m/M, M being the loss at the first
    point, slopes are of length one, and a step moves each element by a share of the box (`weighted_units`), which falls
    along a cosine.
    c is multiplied by exp(-r) where the goal is met and by exp(r) where it is not, r falling along a cosine. It is
    large at first: a leg goes deep, in many elements, and then shrinks them. On a network that was trained to be
    robust that comes to where attacks that start with few elements never do.

    Args:
      norm: "l2", "l1" or "l0".
      steps: over which steps grow short.
      bold: whether steps stay long, which comes to other minima.

    Raises:
      ValueError: an unknown norm.
    """
    check_norm(norm, tuple(_TURN))

    def temper(problem):
        return Temper(*(jnp.where(bold(problem), *both) for both in zip(_BOLD, _careful(steps), strict=True)))

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        return start, DescentMemory(
            adam=adam(start), c=jnp.asarray(temper(problem).c, start.dtype), margin=jnp.zeros_like(start, shape=())
        )

    def move(problem, memory, seen):
        clean, (width, weight) = seen.x - seen.delta, weighted_units(norm, problem)
        margin = jnp.where(seen.taken == 0, jnp.abs(seen.loss), memory.margin)
        slope = jax.nn.sigmoid(_SOFTNESS * seen.loss / jnp.maximum(margin, TINY)) * unit(width * seen.slope)
        state = memory.adam.update(slope, _DECAY)

        def clipped(share):
            return (clip(problem, clean + width * share) - clean) / width

        turn = annealed(*_TURN[norm], seen.taken, steps)
        c = jnp.clip(memory.c * jnp.exp(jnp.where(seen.met, -turn, turn)), *_LIMITS_OF_C)
        first, last, _ = temper(problem)
        step = annealed(first, last, seen.taken, steps)
        target = clipped(seen.delta / width - step * state.step(seen.taken, _DECAY))
        share = shrunk(norm, target, divisor=state.divisor(seen.taken), weight=step / c * weight, clipped=clipped)
        return clean + width * share, DescentMemory(adam=state, c=c, margin=margin)

    return Rule(init=init, move=move)
