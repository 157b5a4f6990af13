"""Operators that look at windows of an image: convolutions, pools, and resizing. Images are [N, C, ...]."""

import itertools
import math
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from cwjax.adapters.onnx.node import Node, Rule, by_channel, whole


class Window(NamedTuple):
    """Where a window goes, for each axis after the channels."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]  # before and after
    ceiling: tuple[int, ...]  # elements after the padding that only a last window that hangs over reaches

    @property
    def reach(self) -> tuple[int, ...]:
        """How many elements a window spans."""
        return tuple((size - 1) * dilation + 1 for size, dilation in zip(self.sizes, self.dilations, strict=True))


def window_of(node: Node, x: Any, sizes: Sequence[int]) -> Window:
    """The window as the attributes say, in any of ONNX's ways to say its padding."""
    rank = len(sizes)
    strides = tuple(node.get("strides", (1,) * rank))
    dilations = tuple(node.get("dilations", (1,) * rank))
    window = Window(tuple(sizes), strides, dilations, ((0, 0),) * rank, (0,) * rank)
    lengths, automatic = x.shape[2:], node.get("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for length, reach, stride in zip(lengths, window.reach, strides, strict=True):
            total = max((-(-length // stride) - 1) * stride + reach - length, 0)
            less, more = total // 2, total - total // 2
            pads.append((less, more) if automatic == "SAME_UPPER" else (more, less))
        return window._replace(pads=tuple(pads))
    if automatic == "NOTSET":
        flat = node.get("pads", (0,) * (2 * rank))
        window = window._replace(pads=tuple(zip(flat[:rank], flat[rank:], strict=True)))
    if not node.get("ceil_mode", 0):
        return window
    hanging = []
    for length, reach, stride, (low, high) in zip(lengths, window.reach, strides, window.pads, strict=True):
        more = -(length + low + high - reach) % stride
        last = length + low + high + more - reach  # where the last window starts
        hanging.append(more if last < length + low else 0)  # one that starts in the padding after is left out
    return window._replace(ceiling=tuple(hanging))


def _letters(rank: int) -> str:
    if rank > 3:
        raise ValueError(f"{rank} axes after the channels, at most 3 are covered")
    return "DHW"[3 - rank :]


def _convolution(node: Node, x: Any, kernel: Any, bias: Any = None) -> Any:
    window = window_of(node, x, kernel.shape[2:])
    letters = _letters(kernel.ndim - 2)
    result = lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.pads,
        rhs_dilation=window.dilations,
        feature_group_count=node.get("group", 1),
        dimension_numbers=(f"NC{letters}", f"OI{letters}", f"NC{letters}"),
    )
    return result if bias is None else result + by_channel(bias, result.ndim)


def _transposed_convolution(node: Node, x: Any, kernel: Any, bias: Any = None) -> Any:
    rank, groups = kernel.ndim - 2, node.get("group", 1)
    window = window_of(node, x, kernel.shape[2:])
    extra = node.get("output_padding", (0,) * rank)
    pads = window.pads
    if "output_shape" in node.attributes or node.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        pads = _pads_of_output(node, x, window, extra)
    padding = [
        (reach - 1 - low, reach - 1 - high + more)
        for reach, (low, high), more in zip(window.reach, pads, extra, strict=True)
    ]
    inputs, outputs = kernel.shape[:2]
    swapped = kernel.reshape(groups, inputs // groups, outputs, *kernel.shape[2:]).swapaxes(1, 2)
    swapped = swapped.reshape(groups * outputs, inputs // groups, *kernel.shape[2:])
    letters = _letters(rank)
    result = lax.conv_general_dilated(
        x,
        jnp.flip(swapped, tuple(range(2, 2 + rank))),
        (1,) * rank,
        padding,
        lhs_dilation=window.strides,
        rhs_dilation=window.dilations,
        feature_group_count=groups,
        dimension_numbers=(f"NC{letters}", f"OI{letters}", f"NC{letters}"),
    )
    return result if bias is None else result + by_channel(bias, result.ndim)


def _pads_of_output(node: Node, x: Any, window: Window, extra: Sequence[int]) -> list[tuple[int, int]]:
    wanted = node.get("output_shape", [n * stride for n, stride in zip(x.shape[2:], window.strides, strict=True)])
    pads = []
    for size, length, reach, stride, more in zip(
        wanted[-len(window.sizes) :], x.shape[2:], window.reach, window.strides, extra, strict=True
    ):
        total = max(stride * (length - 1) + more + reach - size, 0)
        less, rest = total // 2, total - total // 2
        pads.append((less, rest) if node.get("auto_pad", "NOTSET") == "SAME_UPPER" else (rest, less))
    return pads


def _pooled(x: Any, window: Window, start: float, combine: Any) -> Any:
    pads = [(low, high + more) for (low, high), more in zip(window.pads, window.ceiling, strict=True)]
    sizes, strides = (1, 1, *window.sizes), (1, 1, *window.strides)
    if set(window.dilations) == {1}:
        return lax.reduce_window(x, np.array(start, x.dtype), combine, sizes, strides, [(0, 0), (0, 0), *pads])
    # XLA has no gradient of a dilated maximum: the same as a reduction of shifted copies
    padded = lax.pad(x, np.array(start, x.dtype), [(0, 0, 0), (0, 0, 0), *((low, high, 0) for low, high in pads)])
    counts = [
        (n - reach) // stride + 1
        for n, reach, stride in zip(padded.shape[2:], window.reach, window.strides, strict=True)
    ]
    parts = []
    for offset in itertools.product(*map(range, window.sizes)):
        first = [o * dilation for o, dilation in zip(offset, window.dilations, strict=True)]
        last = [
            begin + (count - 1) * stride + 1 for begin, count, stride in zip(first, counts, window.strides, strict=True)
        ]
        parts.append(lax.slice(padded, (0, 0, *first), (*padded.shape[:2], *last), strides))
    return reduce(combine, parts)


def _max_pool(node: Node, x: Any) -> Any:
    node.only_first_output()
    return _pooled(x, window_of(node, x, node.attributes["kernel_shape"]), -np.inf, lax.max)


def _average_pool(node: Node, x: Any) -> Any:
    window = window_of(node, x, node.attributes["kernel_shape"])
    total = _pooled(x, window, 0.0, lax.add)
    if node.get("count_include_pad", 0):  # padding counts, what only hangs over does not
        ones = np.pad(np.ones((1, 1, *x.shape[2:]), x.dtype), [(0, 0), (0, 0), *window.pads], constant_values=1)
        window = window._replace(pads=((0, 0),) * len(window.sizes))
    else:
        ones = np.ones((1, 1, *x.shape[2:]), x.dtype)
    if set(map(sum, window.pads)) | set(window.ceiling) == {0}:
        return total / math.prod(window.sizes)
    return total / _pooled(jnp.asarray(ones), window, 0.0, lax.add)


def _norm_pool(node: Node, x: Any) -> Any:
    p = node.get("p", 2)
    window = window_of(node, x, node.attributes["kernel_shape"])
    return _pooled(jnp.abs(x) ** p, window, 0.0, lax.add) ** (1 / p)


def _global_norm_pool(node: Node, x: Any) -> Any:
    p = node.get("p", 2)
    return (jnp.abs(x) ** p).sum(tuple(range(2, x.ndim)), keepdims=True) ** (1 / p)


def _resize(node: Node, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
    if node.opset < 11:  # Resize of version 10: (x, scales)
        roi, scales = None, roi
    if node.get("antialias", 0):
        raise node.refused("antialias=1 is not covered: resize images before the model")
    return _resampled(node, x, scales, sizes)


def _upsample(node: Node, x: Any, scales: Any = None) -> Any:
    scales = np.asarray(node.attributes["scales"], np.float32) if scales is None else scales
    return _resampled(node, x, scales, None)


def _resampled(node: Node, x: Any, scales: Any, sizes: Any) -> Any:
    """Each axis is a matrix product: the matrix is made while tracing."""
    axes = node.get("axes", tuple(range(x.ndim)))
    if sizes is not None and np.size(sizes):
        wanted = whole(node, sizes, "sizes")
        ratios = [size / x.shape[axis] for size, axis in zip(wanted, axes, strict=True)]
        policy = node.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [ratio] * len(ratios)
            wanted = [round(ratio * x.shape[axis]) for axis in axes]
    else:
        whole(node, scales, "scales")
        ratios = [float(scale) for scale in np.asarray(scales).reshape(-1)]
        wanted = [int(np.floor(x.shape[axis] * ratio)) for axis, ratio in zip(axes, ratios, strict=True)]
    for axis, size, ratio in zip(axes, wanted, ratios, strict=True):
        if ratio != 1:
            matrix = jnp.asarray(resampling(node, x.shape[axis], size, ratio), x.dtype)
            x = jnp.moveaxis(jnp.matmul(jnp.moveaxis(x, axis, -1), matrix.T, precision="highest"), -1, axis)
    return x


def resampling(node: Node, length: int, size: int, ratio: float) -> np.ndarray:
    """The matrix [size, length] that resizes an axis, in NumPy."""
    place = np.arange(size, dtype=np.float64)
    old = node.operator == "Upsample" or node.opset < 11
    mode = node.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    if mode == "asymmetric":
        source = place / ratio
    elif mode == "align_corners":
        source = place * (length - 1) / max(size - 1, 1)
    elif mode == "half_pixel" or (mode == "pytorch_half_pixel" and size > 1):
        source = (place + 0.5) / ratio - 0.5
    elif mode == "pytorch_half_pixel":
        source = np.zeros(size)
    elif mode == "half_pixel_symmetric":
        source = length / 2 * (1 - size / (ratio * length)) + (place + 0.5) / ratio - 0.5
    else:
        raise node.refused(f"coordinate_transformation_mode {mode!r} is not covered")
    kind = node.get("mode", "nearest")
    matrix, rows = np.zeros((size, length)), np.arange(size)
    if kind == "nearest":
        rounding = node.get("nearest_mode", "floor" if old else "round_prefer_floor")
        nearest = {
            "floor": np.floor(source),
            "ceil": np.ceil(source),
            "round_prefer_floor": np.ceil(source - 0.5),
            "round_prefer_ceil": np.floor(source + 0.5),
        }[rounding]
        matrix[rows, np.clip(nearest, 0, length - 1).astype(int)] = 1
        return matrix
    left = np.floor(source)
    share = source - left
    if kind == "linear":
        weights = {0: 1 - share, 1: share}
    elif kind == "cubic":
        weights = _cubic(share, node.get("cubic_coeff_a", -0.75))
    else:
        raise node.refused(f"mode {kind!r} is not covered")
    for offset, weight in weights.items():
        column = left + offset
        if node.get("exclude_outside", 0):
            weight = np.where((column >= 0) & (column < length), weight, 0)
        np.add.at(matrix, (rows, np.clip(column, 0, length - 1).astype(int)), weight)
    return matrix / matrix.sum(1, keepdims=True) if node.get("exclude_outside", 0) else matrix


def _cubic(share: np.ndarray, a: float) -> dict[int, np.ndarray]:
    """The weights of the four neighbours (Keys 1981, "Cubic convolution interpolation for digital image
    processing").
    """

    def near(t):
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t):
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return {-1: far(share + 1), 0: near(share), 1: near(1 - share), 2: far(2 - share)}


RULES: dict[str, Rule] = {
    "AveragePool": _average_pool,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "GlobalAveragePool": lambda node, x: x.mean(tuple(range(2, x.ndim)), keepdims=True),
    "GlobalLpPool": _global_norm_pool,
    "GlobalMaxPool": lambda node, x: x.max(tuple(range(2, x.ndim)), keepdims=True),
    "LpPool": _norm_pool,
    "MaxPool": _max_pool,
    "Resize": _resize,
    "Upsample": _upsample,
}
