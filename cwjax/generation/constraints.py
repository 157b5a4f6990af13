"""What DeepXplore lets an input change: constraints on a step of `deepxplore.differential`."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from cwjax.arguments import check_count, check_number
from cwjax.base import AnyArray, Number
from cwjax.generation.requirements import Places

Constraint: TypeAlias = Callable[[PRNGKeyArray, Float[AnyArray, "*S"]], Float[AnyArray, "*S"]]
"""`(key of this iteration, direction) -> the step that is allowed`: what an input may change."""


def light(*, factor: Number = 1.0) -> Constraint:
    """All elements change alike, by the mean of the direction: lighter or darker.

    Args:
      factor: of that mean; DeepXplore's code has 1 for MNIST and 10,000 for driving and ImageNet.

    Returns:
      `(key, direction) -> direction`, of one input.

    Example:
      >>> from cwjax.generation import deepxplore
      >>> print(deepxplore.light()(keys[0], jnp.array([1.0, 3.0])))
      [2. 2.]

    References:
      Pei et al. 2017, "DeepXplore: automated whitebox testing of deep learning systems",
        https://arxiv.org/abs/1705.06640
    """
    check_number("factor", factor, least=0, above=True)
    return lambda key, direction: jnp.full_like(direction, factor * jnp.mean(direction))


def occlusion(height: int, width: int, *, top: int = 0, left: int = 0) -> Constraint:
    """Only one rectangle of an image [H, W, ...] changes.

    Args:
      height: of the rectangle, in pixels; DeepXplore has 10 by 10 for MNIST and 50 by 50 for larger images.
      width: likewise.
      top: its first row.
      left: its first column.

    Returns:
      `(key, direction) -> direction`, of one input.

    Example:
      >>> from cwjax.generation import deepxplore
      >>> print(deepxplore.occlusion(1, 2)(keys[0], jnp.ones((2, 3))))
      [[1. 1. 0.]
       [0. 0. 0.]]

    References:
      Pei et al. 2017, "DeepXplore: automated whitebox testing of deep learning systems",
        https://arxiv.org/abs/1705.06640
    """
    for name, value, least in (("height", height, 1), ("width", width, 1), ("top", top, 0), ("left", left, 0)):
        check_count(name, value, least=least)

    def step(key: PRNGKeyArray, direction: Float[AnyArray, "*S"]) -> Float[Array, "*S"]:
        del key
        return jnp.where(_patch(direction.shape, top, left, height, width), direction, 0)

    return step


def blackout(size: int) -> Constraint:
    """One square patch of an image [H, W, ...], drawn anew at each iteration, becomes darker.

    By 1 times the step, if the mean of the direction over it is below 0; else nothing changes.

    Args:
      size: of a side, in pixels; DeepXplore has 6 for MNIST and 10 for larger images.

    Returns:
      `(key, direction) -> direction`, of one input.

    Example:
      >>> from cwjax.generation import deepxplore
      >>> float(deepxplore.blackout(2)(keys[0], -jnp.ones((3, 3))).sum())  # four pixels
      -4.0

    References:
      Pei et al. 2017, "DeepXplore: automated whitebox testing of deep learning systems",
        https://arxiv.org/abs/1705.06640
    """
    check_count("size", size)

    def step(key: PRNGKeyArray, direction: Float[AnyArray, "*S"]) -> Float[Array, "*S"]:
        room = np.maximum(np.asarray(direction.shape[:2]) - size + 1, 1)
        top, left = jax.random.randint(key, (2,), 0, jnp.asarray(room))
        inside = _patch(direction.shape, top, left, size, size)
        return jnp.where(inside & (jnp.sum(jnp.where(inside, direction, 0)) < 0), -1.0, 0.0).astype(direction.dtype)

    return step


def increasing(rises: Places, free: Places | None = None) -> Constraint:
    """Some features may only grow, others may change both ways, and all others stay.

    So a document keeps what it does.

    Args:
      rises: which may only grow.
      free: which may change both ways; none, if left out.

    Returns:
      `(key, direction) -> direction`, of one input.

    Example:
      >>> from cwjax.generation import deepxplore
      >>> constraint = deepxplore.increasing(np.array([True, True, False]))
      >>> print(constraint(keys[0], jnp.array([2.0, -2.0, 2.0])))
      [2. 0. 0.]

    References:
      Pei et al. 2017, "DeepXplore: automated whitebox testing of deep learning systems",
        https://arxiv.org/abs/1705.06640
    """
    up = np.asarray(rises, bool)
    both = np.zeros_like(up) if free is None else np.asarray(free, bool)
    if up.shape != both.shape:
        raise ValueError(f"rises {list(up.shape)} and free {list(both.shape)} differ in shape")
    return lambda key, direction: jnp.where(both, direction, jnp.where(up & (direction > 0), direction, 0))


def _patch(shape: tuple[int, ...], top: Any, left: Any, height: int, width: int) -> Bool[Array, "..."]:
    """Which elements of an image of this shape lie in a rectangle."""
    if len(shape) < 2:
        raise ValueError(f"a rectangle needs images [H, W, …], got inputs of shape {list(shape)}")
    rows, columns = jnp.arange(shape[0])[:, None], jnp.arange(shape[1])[None]
    inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return jnp.broadcast_to(inside.reshape(*shape[:2], *(1,) * (len(shape) - 2)), shape)
