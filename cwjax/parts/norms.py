"""What the four norms are: units, lengths, directions and balls."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from cwjax.base import Box, Distance, Problem, wide
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


def ends(box: Box, like: Float[Array, "*S"]) -> tuple[Float[Array, "*S"], Float[Array, "*S"]]:
    """The least and the largest value of each element that the box allows."""
    return box.project(jnp.full_like(like, -jnp.inf)), box.project(jnp.full_like(like, jnp.inf))


def farthest(problem: Problem, box: Box) -> Float[Array, "*S"]:
    """The largest change of each element that box and mask allow, >= 0."""
    clean = problem.x.astype(wide(problem.x))
    below, above = ends(box, clean)
    return jnp.where(problem.mask, jnp.maximum(clean - below, above - clean), 0)


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


onto_ball: dict[str, Callable[[Float[Array, "*S"], Float[Array, ""]], Float[Array, "*S"]]] = {
    "l0": _onto_l0,
    "l1": _onto_l1,
    "l2": _onto_l2,
    "linf": _onto_linf,
}
"""By norm: the point nearest to `delta` (Euclidean) in the ball of a radius >= 0 around 0."""


def check_norm(norm: str, norms: tuple[str, ...]) -> None:
    """Raises ValueError unless the norm is one of these."""
    if norm not in norms:
        raise ValueError(f"norm must be one of {', '.join(norms)}, got {norm!r}")


class Ball(NamedTuple):
    distance: Distance
    unit: Callable[[Float[Array, "*S"]], Float[Array, "*S"]]  # slope -> the direction of norm one; 0 where slope is 0
    dual: Callable[[Float[Array, "*S"]], Float[Array, ""]]  # slope -> how fast a loss rises along the steepest one
    project: Callable[[Float[Array, "*S"], Float[Array, ""]], Float[Array, "*S"]]  # (delta, radius)
    draw: Callable[[PRNGKeyArray, Float[Array, "*S"]], Float[Array, "*S"]]  # (key, like) -> uniform, radius one


def ball(norm: str) -> Ball:
    """The ball of a norm, "l1", "l2" or "linf". Raises ValueError for another."""
    check_norm(norm, tuple(BALLS))
    return BALLS[norm]


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


BALLS = {
    # Along the whole slope, as foolbox steps; steepest would be its largest element alone.
    "l1": Ball(distances.l1(), unit=_by_l1, dual=_largest, project=onto_ball["l1"], draw=_in_l1),
    "l2": Ball(distances.l2(), unit=unit, dual=length, project=onto_ball["l2"], draw=_in_l2),
    "linf": Ball(
        distances.linf(),
        unit=jnp.sign,
        dual=_l1,
        project=onto_ball["linf"],
        draw=_in_linf,
    ),
}
