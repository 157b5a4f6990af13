"""What several attacks are made of: balls of the four norms, directions, and step sizes that fall along a cosine."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cwjax.base import Box, Problem, wide

TINY = 1e-30  # below any length that float32 tells from zero: what a division is guarded with

Number = float | int | Float[Array, ""] | Int[Array, ""]


def annealed(first: Number, last: Number, taken: Int[Array, ""], steps: Number) -> Float[Array, ""]:
    """From `first`, at the first of so many steps, to nearly `last`, along half a cosine (Loshchilov & Hutter 2017)."""
    return last + (first - last) * (1 + jnp.cos(jnp.pi * taken / steps)) / 2


def lengthened(
    length: Float[Array, ""], promised: Float[Array, ""], taken: Int[Array, ""], steps: Number
) -> Float[Array, ""]:
    """A tenth more, for as long as no example is known: up to three times the distance that the first slope promised,
    and to ten times at the end. Who goes on without a bound ends far from everything, where slopes say nothing.
    """
    return jnp.minimum(1.1 * length, promised * jnp.maximum(3, 10 ** (taken / steps)))


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
