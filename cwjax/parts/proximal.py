"""The proximal operator of a norm in Adam's metric, as PDPGD and the fast attacks that shrink a change use it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cwjax.base import Problem, carried
from cwjax.parts.norms import NORMS, TINY, units

_ITERATIONS, _CONVERGED = 5, 1e-2  # of adv-lib's PDPGD: the most in a step, and the relative change that ends them
_SQUARES, _EPS = 0.999, 1e-8  # Adam's own


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


def of_pixels(
    prox: Callable[[Float[Array, "*S"], Float[Array, "..."]], Float[Array, "*S"]], channels: int | None
) -> Callable[[Float[Array, "*S"], Float[Array, "..."]], Float[Array, "*S"]]:
    """The operator of a norm of the lengths of pixels: each keeps its direction, and the operator says how much of it.

    Args:
      prox: the operator of the norm of elements, for changes and weights.
      channels: the axis of a pixel's channels; None: every element is a pixel.
    """
    if channels is None:
        return prox

    def of_whole(x, weight):
        if x.shape[channels] == 1:
            return prox(x, weight)
        size = jnp.sqrt(jnp.sum(x**2, axis=channels, keepdims=True))
        dearest = jnp.broadcast_to(weight, x.shape).max(axis=channels, keepdims=True)
        return x * prox(size, dearest) / jnp.where(size > 0, size, 1)

    return of_whole


def shrunk(
    norm: str,
    target: Float[Array, "*S"],
    *,
    divisor: Float[Array, "*S"],
    weight: Float[Array, "..."],
    clipped: Callable[[Float[Array, "*S"]], Float[Array, "*S"]],
    channels: int | None = None,
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
      weight: > 0; [], or in L1 and L0 [*S].
      clipped: a change as far as the box allows it.
      channels: the axis of a pixel's channels, where the norm is of the lengths of pixels; None: of elements.
    """
    prox, largest = of_pixels(NORMS[norm].prox, channels), jnp.max(divisor)
    metric, weight = divisor / largest, weight / largest

    def iteration(_, state):
        z, change = state
        new = prox(z - metric * (z - target), weight)
        new = jnp.where(change > _CONVERGED, clipped(new), z)
        moved = jnp.sqrt(jnp.sum((new - z) ** 2) / jnp.maximum(jnp.sum(new**2), TINY))
        return carried(state, (new, moved))

    z, _ = jax.lax.fori_loop(0, _ITERATIONS, iteration, (target, jnp.ones_like(largest)))
    return z
