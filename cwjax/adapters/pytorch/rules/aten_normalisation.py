"""Batch, layer, group, instance and root-mean-square normalisation, with fixed statistics where there are any."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cwjax.adapters.pytorch.rules.shared import refuse_training, spread


def _standardised(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    centred = x - x.mean(axes, keepdims=True)
    return centred * lax.rsqrt(jnp.square(centred).mean(axes, keepdims=True) + eps)


def _scaled(x: Array, weight: Array | None, bias: Array | None) -> Array:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _by_statistics(x, weight, bias, mean, variance, eps):
    scale = lax.rsqrt(variance + eps) * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * scale
    return (x * spread(scale, x) + spread(shift, x)).astype(x.dtype)


def _batch_norm(x, weight, bias, mean, variance, training, momentum, eps, cudnn=False):
    refuse_training(training, "a batch norm")
    return _by_statistics(x, weight, bias, mean, variance, eps)


def _batch_norm_no_training(x, weight, bias, mean, variance, momentum, eps):
    return _by_statistics(x, weight, bias, mean, variance, eps), None, None


def _batch_norm_by_itself(x, weight, bias, training, momentum, eps):
    """Without statistics of its own, as networks that standardise their weights call it. A network that does so with
    its inputs depends on the batch, which is noticed where it is compared with the original.
    """
    y = _standardised(x, (0, *range(2, x.ndim)), eps)
    return _scaled(y, spread(weight, x), spread(bias, x)), None, None


def _layer_norm(x, shape, weight=None, bias=None, eps=1e-5, cudnn=True):
    return _scaled(_standardised(x, tuple(range(-len(shape), 0)), eps), weight, bias)


def _native_layer_norm(x, shape, weight, bias, eps):
    return _layer_norm(x, shape, weight, bias, eps), None, None


def _group_norm(x, groups, weight=None, bias=None, eps=1e-5, cudnn=True):
    y = _standardised(x.reshape(x.shape[0], groups, -1), (-1,), eps).reshape(x.shape)
    return _scaled(y, spread(weight, x), spread(bias, x))


def _native_group_norm(x, weight, bias, count, channels, elements, groups, eps):
    return _group_norm(x, groups, weight, bias, eps), None, None


def _instance_norm(x, weight, bias, mean, variance, use_input, momentum, eps, cudnn):
    if not use_input:
        return _by_statistics(x, weight, bias, mean, variance, eps)
    return _scaled(_standardised(x, tuple(range(2, x.ndim)), eps), spread(weight, x), spread(bias, x))


def _rms_norm(x, shape, weight=None, eps=None):
    eps = jnp.finfo(x.dtype).eps if eps is None else eps
    square = jnp.square(x).mean(tuple(range(-len(shape), 0)), keepdims=True)
    return _scaled(x * lax.rsqrt(square + eps), weight, None)


RULES = {
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm_no_training,
    "_native_batch_norm_legit": _batch_norm_by_itself,
    "layer_norm": _layer_norm,
    "native_layer_norm": _native_layer_norm,
    "group_norm": _group_norm,
    "native_group_norm": _native_group_norm,
    "instance_norm": _instance_norm,
    "rms_norm": _rms_norm,
}
