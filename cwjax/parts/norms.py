"""What the four norms are: units, lengths, directions and balls."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from cwjax.base import Distance, Problem
from cwjax.parts import distances

TINY = 1e-30  # below any length that float32 tells from zero: what a division is guarded with


def length(v: Float[Array, "*S"]) -> Float[Array, ""]:
    """The Euclidean norm, also where squares would underflow, as those of a saturated network's slopes do."""
    largest = jnp.maximum(jnp.max(jnp.abs(v)), TINY)
    return largest * jnp.sqrt(jnp.sum((v / largest) ** 2))


def unit(v: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """The vector at Euclidean length 1; 0 where it is 0."""
    return v / jnp.maximum(length(v), TINY)


def units(norm: str, problem: Problem) -> Float[Array, "*S"]:
    """The unit that changes are measured in, by element, where a norm is to be small.

    L0 does not depend on the unit of an element, so each is measured in its own width. The other norms add or compare
    elements: those have one unit, `problem.span`.
    """
    return problem.widths if norm == "l0" else jnp.full_like(problem.widths, problem.span)


def farthest(problem: Problem) -> Float[Array, "*S"]:
    """The largest change of each element that bounds and mask allow, >= 0."""
    clean = problem.x.astype(problem.low.dtype)
    return jnp.where(problem.mask, jnp.maximum(clean - problem.low, problem.high - clean), 0)


def _onto_l0(delta: Float[Array, "*S"], radius: Float[Array, ""]) -> Float[Array, "*S"]:
    """The `radius` largest elements (at least one, and all that equal the last of them), and 0 for the rest."""
    sizes = jnp.sort(jnp.abs(delta).ravel(), descending=True)
    last = jnp.clip(radius, 1, delta.size).astype(jnp.int32) - 1
    return jnp.where(jnp.abs(delta) < sizes[last], 0, delta)


def _onto_l1(delta: Float[Array, "*S"], radius: Float[Array, ""]) -> Float[Array, "*S"]:
    """By sorting (Duchi et al. 2008, figure 1): every element loses the same, and none its sign."""
    sizes = jnp.sort(jnp.abs(delta).ravel(), descending=True)
    losses = (jnp.cumsum(sizes) - radius) / jnp.arange(1, delta.size + 1)
    count = jnp.sum(sizes > losses)  # of elements that stay: they come first
    lost = jnp.maximum(losses[jnp.maximum(count, 1) - 1], 0)
    return jnp.sign(delta) * jnp.maximum(jnp.abs(delta) - lost, 0)


def _onto_l2(delta: Float[Array, "*S"], radius: Float[Array, ""]) -> Float[Array, "*S"]:
    return delta * jnp.minimum(1, radius / jnp.maximum(length(delta), TINY))


def _onto_linf(delta: Float[Array, "*S"], radius: Float[Array, ""]) -> Float[Array, "*S"]:
    return jnp.clip(delta, -radius, radius)


def onto_sphere(delta: Float[Array, "*S"], radius: Float[Array, ""]) -> Float[Array, "*S"]:
    """The vector at Euclidean length `radius`, also from inside; 0 where it is 0."""
    return radius * unit(delta)


def check_norm(norm: str, norms: tuple[str, ...]) -> None:
    """Raises ValueError unless the norm is one of these."""
    if norm not in norms:
        raise ValueError(f"norm must be one of {', '.join(norms)}, got {norm!r}")


def _l1(delta):
    return jnp.sum(jnp.abs(delta))


def _by_l1(slope):
    return slope / jnp.maximum(_l1(slope), TINY)


def _largest(delta):
    return jnp.max(jnp.abs(delta))


def _in_l1(key, like):
    """Exponential variables, one more than there are elements, over their sum are uniform on a simplex; the signs are
    drawn.
    """
    key, signs = jax.random.split(key)
    sizes = jax.random.exponential(key, (like.size + 1,), like.dtype)
    inside = (sizes[:-1] / jnp.sum(sizes)).reshape(like.shape)
    return inside * jax.random.rademacher(signs, like.shape, like.dtype)


def _in_l2(key, like):
    """A uniform point on the sphere of two dimensions more, without two of its elements, is uniform in the ball
    (Voelker et al. 2017, "Efficiently sampling vectors and coordinates from the n-sphere and n-ball").
    """
    direction = jax.random.normal(key, (like.size + 2,), like.dtype)
    return (direction / jnp.linalg.norm(direction))[:-2].reshape(like.shape)


def _in_linf(key, like):
    return jax.random.uniform(key, like.shape, like.dtype, -1, 1)


def _two_thirds(x: Float[Array, "*S"], weight: Float[Array, "..."]) -> Float[Array, "*S"]:
    """The stationary point z != 0 of `(z - x)²/2 + weight·|z|^(2/3)` that lies next to x; 0 where there is none."""
    square = x**2 / 16
    inner = x**4 / 256 - weight**3 * 8 / 729
    exists = (inner >= 0) & (x != 0)
    root = jnp.sqrt(jnp.where(exists, inner, 0))
    larger = _cube_root(jnp.where(exists, square + root, 1))
    b = 2 * (larger + weight * 2 / 9 / larger)  # the other root is that of square - root, and their product is known
    side = jnp.sqrt(jnp.where(exists, b, 1))
    z = (side + jnp.sqrt(jnp.maximum(2 * jnp.abs(x) / side - b, 0))) ** 3 / 8
    return jnp.where(exists, jnp.sign(x) * z, 0)


def _cube_root(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Of x > 0, and one step of Newton's: a sixth of the time of `jnp.cbrt` on CPU."""
    near = jnp.exp(jnp.log(x) / 3)
    return near - (near - x / near**2) / 3


def _soft(x: Float[Array, "*S"], weight: Float[Array, "..."]) -> Float[Array, "*S"]:
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - weight, 0)


def _block(x: Float[Array, "*S"], weight: Float[Array, ""]) -> Float[Array, "*S"]:
    return x * jnp.maximum(1 - weight / jnp.maximum(length(x), TINY), 0)


def _beyond(x: Float[Array, "*S"], weight: Float[Array, ""]) -> Float[Array, "*S"]:
    return x - _onto_l1(x, weight)  # Moreau's decomposition


def _lacking(*_: object) -> Array:
    raise TypeError("this norm has no such function")


class Norm(NamedTuple):
    """What attacks ask of a norm, of changes [*S] of one example. What a norm lacks raises TypeError."""

    distance: Distance  # measure, and the penalty of a descent
    # (delta, radius >= 0) -> the point nearest to delta (Euclidean) in the ball of that radius
    onto: Callable[[Float[Array, "*S"], Float[Array, ""]], Float[Array, "*S"]]
    # (x, weight) -> the z that minimises (z - x)²/2 + weight·|z|; in L1 and L0 each element may have its own weight
    prox: Callable[[Float[Array, "*S"], Float[Array, "..."]], Float[Array, "*S"]]
    slope: Callable[[Float[Array, "*S"]], Float[Array, "*S"]] = _lacking  # of the norm at delta; 0 where delta is 0
    unit: Callable[[Float[Array, "*S"]], Float[Array, "*S"]] = _lacking  # slope -> the step of norm one along it
    dual: Callable[[Float[Array, "*S"]], Float[Array, ""]] = _lacking  # slope -> how fast a loss rises at the most
    draw: Callable[[PRNGKeyArray, Float[Array, "*S"]], Float[Array, "*S"]] = _lacking  # (key, like) -> in its unit ball


NORMS = {
    # Of elements, as a change is not a pixel's. Its operator is that of the L2/3 norm, a smooth count.
    "l0": Norm(distances.l0(per_pixel=False), onto=_onto_l0, prox=_two_thirds),
    # A step goes along the whole slope, as in foolbox; the steepest would be its largest element alone.
    "l1": Norm(distances.l1(), _onto_l1, _soft, slope=jnp.sign, unit=_by_l1, dual=_largest, draw=_in_l1),
    "l2": Norm(distances.l2(), _onto_l2, _block, slope=unit, unit=unit, dual=length, draw=_in_l2),
    "linf": Norm(distances.linf(), _onto_linf, _beyond, unit=jnp.sign, dual=_l1, draw=_in_linf),
}
"""By name: the one table of norms."""

BALLS = ("l1", "l2", "linf")
"""The norms that have a ball to step along and to draw from."""


def ball(norm: str) -> Norm:
    """The norm of that name, "l1", "l2" or "linf". Raises ValueError for another."""
    check_norm(norm, BALLS)
    return NORMS[norm]
