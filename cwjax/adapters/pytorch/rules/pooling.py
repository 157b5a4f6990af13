"""Pooling: maxima and means over windows, and over as many parts as are asked for."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from cwjax.adapters.pytorch.rules.shared import for_each_axis


def _pads(length: int, window: int, stride: int, padding: int, dilation: int, ceil: bool) -> tuple[int, int]:
    """The padding on both sides. With `ceil` a last window may reach over the end, if it begins within the image."""
    if not ceil:
        return padding, padding
    span = dilation * (window - 1) + 1
    windows = -(-(length + 2 * padding - span) // stride) + 1
    windows -= (windows - 1) * stride >= length + padding
    return padding, padding + max((windows - 1) * stride + span - length - 2 * padding, 0)


def _over_windows(
    x: Array, rank: int, window: Any, stride: Any, padding: Any, dilation: Any, ceil: bool, start: float, operation: Any
) -> Array:
    window, padding, dilation = (for_each_axis(value, rank) for value in (window, padding, dilation))
    stride = for_each_axis(stride, rank) if stride else window
    sizes = zip(x.shape[-rank:], window, stride, padding, dilation, strict=True)
    lead = x.ndim - rank
    return lax.reduce_window(
        x,
        np.asarray(start, x.dtype),  # a number that is known, or there is no gradient
        operation,
        (1,) * lead + window,
        (1,) * lead + stride,
        [(0, 0)] * lead + [_pads(*each, ceil) for each in sizes],
        window_dilation=(1,) * lead + dilation,
    )


def _max_pool(x, window, stride=(), padding=0, dilation=1, ceil=False, *, rank):
    if set(for_each_axis(dilation, rank)) != {1}:
        return _dilated_max_pool(x, window, stride, padding, dilation, ceil, rank)
    return _over_windows(x, rank, window, stride, padding, dilation, ceil, -jnp.inf, lax.max)


def _dilated_max_pool(x, window, stride, padding, dilation, ceil, rank):
    """The maximum of shifted images, because JAX has no gradient of maxima over windows with gaps."""
    window, padding, dilation = (for_each_axis(value, rank) for value in (window, padding, dilation))
    stride, lead = for_each_axis(stride, rank) if stride else window, x.ndim - rank
    pads = [_pads(*each, ceil) for each in zip(x.shape[lead:], window, stride, padding, dilation, strict=True)]
    x = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), [(0, 0, 0)] * lead + [(low, high, 0) for low, high in pads])
    spans = [d * (w - 1) for w, d in zip(window, dilation, strict=True)]
    starts = itertools.product(*(range(0, span + 1, gap) for span, gap in zip(spans, dilation, strict=True)))

    def shifted(start):
        ends = [n - span + first for n, span, first in zip(x.shape[lead:], spans, start, strict=True)]
        return x[(..., *map(slice, start, ends, stride))]

    return functools.reduce(jnp.maximum, map(shifted, starts))


def _max_pool_with_indices(x, window, stride=(), padding=0, dilation=1, ceil=False, *, rank):
    return _max_pool(x, window, stride, padding, dilation, ceil, rank=rank), None  # nobody may use the indices


def _mean_pool(x, window, stride=(), padding=0, ceil=False, count_padding=True, divisor=None, *, rank):
    total = _over_windows(x, rank, window, stride, padding, 1, ceil, 0.0, lax.add)
    if divisor:
        return total / divisor
    pads = for_each_axis(padding, rank)
    if not ceil and (count_padding or not any(pads)):
        return total / math.prod(for_each_axis(window, rank))
    ones = jnp.ones(x.shape[-rank:], x.dtype)
    if count_padding:  # the padding counts, what a last window reaches beyond it does not
        ones, padding = jnp.pad(ones, [(p, p) for p in pads], constant_values=1), 0
        # the windows are those of the padded image: the same ones
        counts = _over_windows(ones, rank, window, stride, 0, 1, ceil, 0.0, lax.add)
        return total / counts[tuple(slice(size) for size in total.shape[-rank:])]
    return total / _over_windows(ones, rank, window, stride, padding, 1, ceil, 0.0, lax.add)


def adaptive(x: Array, sizes: Any, rank: int, reduce: Callable[..., Array]) -> Array:
    """As many parts along each axis as are asked for, which overlap where they do not divide its length."""
    for axis, size in zip(range(x.ndim - rank, x.ndim), for_each_axis(sizes, rank), strict=True):
        length = x.shape[axis]
        if size is None or size == length:
            continue
        if length % size == 0:
            parts = x.reshape(*x.shape[:axis], size, length // size, *x.shape[axis + 1 :])
            x = reduce(parts, axis=axis + 1)
        else:
            bounds = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
            pieces = (lax.slice_in_dim(x, start, stop, axis=axis) for start, stop in bounds)
            x = jnp.concatenate([reduce(piece, axis=axis, keepdims=True) for piece in pieces], axis)
    return x


def _adaptive_mean(x, sizes, *, rank):
    return adaptive(x, sizes, rank, jnp.mean)


def _adaptive_max(x, sizes, *, rank):
    return adaptive(x, sizes, rank, jnp.max), None


RULES = {
    f"{name}{rank}d": functools.partial(rule, rank=rank)
    for name, rule in {
        "max_pool": _max_pool,
        "avg_pool": _mean_pool,
        "adaptive_avg_pool": _adaptive_mean,
        "adaptive_max_pool": _adaptive_max,
    }.items()
    for rank in (1, 2, 3)
} | {
    "_adaptive_avg_pool2d": functools.partial(_adaptive_mean, rank=2),
    "max_pool2d_with_indices": functools.partial(_max_pool_with_indices, rank=2),
}
