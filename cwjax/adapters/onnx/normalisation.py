"""Operators that normalise: batches by kept statistics, layers, groups, and softmax."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from cwjax.adapters.onnx.node import Node, Rule, aligned, by_channel


def _batch(node: Node, x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    if node.get("training_mode", 0) or any(node.outputs[1:]):
        raise node.refused("it is in training mode: export the model in evaluation mode")
    factor = scale * lax.rsqrt(variance + node.get("epsilon", 1e-5))
    return x * by_channel(factor, x.ndim) + by_channel(bias - mean * factor, x.ndim)


def _standardised(x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    centred = x - x.mean(axes, keepdims=True)
    return centred * lax.rsqrt(jnp.square(centred).mean(axes, keepdims=True) + epsilon)


def _layer(node: Node, x: Any, scale: Any, bias: Any = None) -> Any:
    node.only_first_output()
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    result, scale = aligned(_standardised(x, axes, node.get("epsilon", 1e-5)), scale)
    return result * scale if bias is None else result * scale + aligned(result, bias)[1]


def _instance(node: Node, x: Any, scale: Any, bias: Any) -> Any:
    result = _standardised(x, tuple(range(2, x.ndim)), node.get("epsilon", 1e-5))
    return result * by_channel(scale, x.ndim) + by_channel(bias, x.ndim)


def _group(node: Node, x: Any, scale: Any, bias: Any) -> Any:
    groups, channels = node.attributes["num_groups"], x.shape[1]
    cut = x.reshape(x.shape[0], groups, -1)
    result = _standardised(cut, (2,), node.get("epsilon", 1e-5)).reshape(x.shape)
    if scale.shape[0] != channels:  # before version 21 there was one number a group
        scale, bias = (jnp.repeat(each, channels // groups) for each in (scale, bias))
    return result * by_channel(scale, x.ndim) + by_channel(bias, x.ndim)


def _root_mean_square(node: Node, x: Any, scale: Any) -> Any:
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    result = x * lax.rsqrt(jnp.square(x).mean(axes, keepdims=True) + node.get("epsilon", 1e-5))
    result, scale = aligned(result, scale)
    return result * scale


def _local_response(node: Node, x: Any) -> Any:
    size = node.attributes["size"]
    low = (size - 1) // 2
    around = lax.reduce_window(
        jnp.square(x),
        jnp.zeros((), x.dtype),
        lax.add,
        (1, size, *(1,) * (x.ndim - 2)),
        (1,) * x.ndim,
        [(0, 0), (low, size - 1 - low), *((0, 0),) * (x.ndim - 2)],
    )
    return x / (node.get("bias", 1.0) + node.get("alpha", 1e-4) / size * around) ** node.get("beta", 0.75)


def _to_length_one(node: Node, x: Any) -> Any:
    axis = node.get("axis", -1)
    if node.get("p", 2) == 1:
        return x / jnp.abs(x).sum(axis, keepdims=True)
    return x / jnp.sqrt(jnp.square(x).sum(axis, keepdims=True))


def _mean_and_variance(node: Node, x: Any) -> Any:
    axes = tuple(node.get("axes", (0, 2, 3)))
    centred = x - x.mean(axes, keepdims=True)
    return centred / (jnp.sqrt(jnp.square(centred).mean(axes, keepdims=True)) + 1e-9)  # 1e-9: the standard's


def _along_axis(function: Any) -> Rule:
    """Softmax and its logarithm: before version 13 over all axes from the given one on."""

    def rule(node: Node, x: Any) -> Any:
        if node.opset >= 13:
            return function(x, axis=node.get("axis", -1))
        axis = node.get("axis", 1) % x.ndim
        return function(x.reshape(*x.shape[:axis], math.prod(x.shape[axis:])), axis=-1).reshape(x.shape)

    return rule


RULES: dict[str, Rule] = {
    "BatchNormalization": _batch,
    "GroupNormalization": _group,
    "InstanceNormalization": _instance,
    "LayerNormalization": _layer,
    "LRN": _local_response,
    "LogSoftmax": _along_axis(jax.nn.log_softmax),
    "LpNormalization": _to_length_one,
    "MeanVarianceNormalization": _mean_and_variance,
    "RMSNormalization": _root_mean_square,
    "Softmax": _along_axis(jax.nn.softmax),
}
