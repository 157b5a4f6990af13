"""Convolutions of any number of axes, and their transposes. Images are [N, C, ...], kernels [O, I, ...]."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cwjax.adapters.pytorch.rules.shared import for_each_axis


def _convolution(
    x: Array,
    kernel: Array,
    bias: Array | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Array:
    rank = kernel.ndim - 2
    stride, dilation = for_each_axis(stride, rank), for_each_axis(dilation, rank)
    if isinstance(padding, str):
        pads: Any = padding.upper()
    else:
        pads = [(p, p) for p in for_each_axis(padding, rank)]
    if transposed:
        y = _transposed(x, kernel, stride, pads, dilation, for_each_axis(output_padding, rank), groups)
    else:
        y = lax.conv_general_dilated(x, kernel, stride, pads, rhs_dilation=dilation, feature_group_count=groups)
    return y if bias is None else y + bias.reshape(1, -1, *(1,) * rank)


def _transposed(
    x: Array,
    kernel: Array,
    stride: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
) -> Array:
    """The gradient of a convolution in its images: a convolution of images with gaps by the kernel turned round."""
    inputs, outputs, *window = kernel.shape
    rank = len(window)
    spans = [d * (w - 1) for d, w in zip(dilation, window, strict=True)]
    pads = [(s - p, s - p + o) for s, (p, _), o in zip(spans, pads, output_padding, strict=True)]
    grouped = kernel.reshape(groups, inputs // groups, outputs, *window).swapaxes(1, 2)
    turned = jnp.flip(grouped.reshape(groups * outputs, inputs // groups, *window), range(2, 2 + rank))
    return lax.conv_general_dilated(
        x, turned, (1,) * rank, pads, lhs_dilation=stride, rhs_dilation=dilation, feature_group_count=groups
    )


def _plain(x, kernel, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return _convolution(x, kernel, bias, stride, padding, dilation, False, 0, groups)


def _plain_transposed(x, kernel, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return _convolution(x, kernel, bias, stride, padding, dilation, True, output_padding, groups)


RULES = {
    "convolution": _convolution,
    "conv1d": _plain,
    "conv2d": _plain,
    "conv3d": _plain,
    "conv_transpose1d": _plain_transposed,
    "conv_transpose2d": _plain_transposed,
    "conv_transpose3d": _plain_transposed,
}
