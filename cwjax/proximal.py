"""Proximal steps: down the loss as Adam goes, and then what a norm without a useful gradient does to the change."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cwjax.geometry import TINY, length, onto_ball

_ITERATIONS, _CONVERGED = 5, 1e-2  # of adv-lib's PDPGD: at most so many a step, and the relative change that ends them
_SQUARES, _EPS = 0.999, 1e-8  # Adam's own


class Adam(NamedTuple):
    """Written out, because the proximal operator works in Adam's metric."""

    mean: Float[Array, "*S"]  # of gradients
    square: Float[Array, "*S"]  # of their squares
    divisor: Float[Array, "*S"]  # what the mean is divided by

    def update(self, gradient: Float[Array, "*S"], taken: Int[Array, ""], decay: float) -> "Adam":
        """With one more gradient, after so many; `decay` is how much of the mean stays."""
        square = _SQUARES * self.square + (1 - _SQUARES) * gradient**2
        return Adam(
            mean=decay * self.mean + (1 - decay) * gradient,
            square=square,
            divisor=jnp.sqrt(square / (1 - _SQUARES ** (taken + 1))) + _EPS,
        )

    def step(self, taken: Int[Array, ""], decay: float) -> Float[Array, "*S"]:
        """Of learning rate 1, uphill."""
        return self.mean / (1 - decay ** (taken + 1)) / self.divisor


def adam(like: Float[Array, "*S"]) -> Adam:
    flat = jnp.zeros_like(like)
    return Adam(mean=flat, square=flat, divisor=flat)


def _two_thirds(x: Float[Array, "*S"], weight: Float[Array, ""]) -> Float[Array, "*S"]:
    """The stationary point z != 0 of `(z - x)²/2 + weight·|z|^(2/3)` that lies next to x; 0 where there is none."""
    square = x**2 / 16
    inner = x**4 / 256 - weight**3 * 8 / 729
    exists = (inner >= 0) & (x != 0)
    root = jnp.sqrt(jnp.where(exists, inner, 0))
    b = 2 * (jnp.cbrt(square + root) + jnp.cbrt(jnp.maximum(square - root, 0)))
    side = jnp.sqrt(jnp.where(exists, b, 1))
    z = (side + jnp.sqrt(jnp.maximum(2 * jnp.abs(x) / side - b, 0))) ** 3 / 8
    return jnp.where(exists, jnp.sign(x) * z, 0)


def _soft(x: Float[Array, "*S"], weight: Float[Array, ""]) -> Float[Array, "*S"]:
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - weight, 0)


def _block(x: Float[Array, "*S"], weight: Float[Array, ""]) -> Float[Array, "*S"]:
    return x * jnp.maximum(1 - weight / jnp.maximum(length(x), TINY), 0)


def _beyond(x: Float[Array, "*S"], weight: Float[Array, ""]) -> Float[Array, "*S"]:
    return x - onto_ball["l1"](x, weight)  # Moreau's decomposition


PROXIMAL: dict[str, Callable[[Float[Array, "*S"], Float[Array, ""]], Float[Array, "*S"]]] = {
    "l0": _two_thirds,
    "l1": _soft,
    "l2": _block,
    "linf": _beyond,
}
"""By norm: the z that minimises `(z - x)²/2 + weight·|z|`; in L0 with the L2/3 norm in its place."""


def shrunk(
    norm: str,
    target: Float[Array, "*S"],
    *,
    metric: Float[Array, "*S"],
    weight: Float[Array, ""],
    clipped: Callable[[Float[Array, "*S"]], Float[Array, "*S"]],
) -> Float[Array, "*S"]:
    """The change on the way to the z that minimises `Σ_i metric_i·(z_i - target_i)²/2 + weight·|z|` (Melchior et al.
    2019, "Proximal Adam"):

        z <- prox(z - metric·(z - target), weight), clipped,           up to five times from the target

    Five times are few where the metric is small: an element whose slopes are small is then shrunk by no more than five
    weights, and not dropped at once for what it does to the loss just here.

    Args:
      norm: of `PROXIMAL`.
      target: where a step without the norm leads.
      metric: in (0, 1].
      weight: > 0.
      clipped: a change as far as the box allows it.
    """

    def iteration(_, state):
        z, change = state
        new = PROXIMAL[norm](z - metric * (z - target), weight)
        new = jnp.where(change > _CONVERGED, clipped(new), z)
        return new, length(new - z) / jnp.maximum(length(new), TINY)

    z, _ = jax.lax.fori_loop(0, _ITERATIONS, iteration, (target, jnp.ones_like(weight)))
    return z
