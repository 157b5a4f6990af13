"""Balls of the L1, L2 and L-infinity norms: which way a step of length one goes, and how a change is kept within a
radius.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from cwjax import distances
from cwjax.base import Distance
from cwjax.geometry import TINY, check_norm, length, onto_ball, unit


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
