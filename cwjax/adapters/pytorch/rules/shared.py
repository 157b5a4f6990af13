"""What rules of several kinds share."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cwjax.adapters.checking import NotConvertible


def for_each_axis(value: Any, count: int) -> tuple[int, ...]:
    """One number for each of `count` axes: a single one is repeated, as in PyTorch."""
    if isinstance(value, Sequence):
        return tuple(value) * (count if len(value) == 1 else 1)
    return (int(value),) * count


def axes(dim: Any) -> Any:
    """An axis, several or all, as jax.numpy takes them."""
    if isinstance(dim, Sequence):
        return tuple(dim) or None
    return dim


def dtype_of(name: str) -> Any:
    """The dtype that JAX has for one of PyTorch, "torch.int64"; 32 bits where 64 are not enabled."""
    return jax.dtypes.canonicalize_dtype(jnp.dtype(name.removeprefix("torch.")))


def cast(x: Array, dtype: str | None) -> Array:
    return x if dtype is None else jnp.asarray(x).astype(dtype_of(dtype))


def refuse_training(training: Any, what: str) -> None:
    if training:
        raise NotConvertible(f"{what} is in training mode: call module.eval() first")


def spread(values: Array | None, x: Array) -> Any:
    """One number a channel [C], in the shape that multiplies [N, C, ...]."""
    return None if values is None else jnp.reshape(values, (1, -1, *(1,) * (x.ndim - 2)))


def whole(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in np.ravel(values))
