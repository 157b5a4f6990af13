"""What is done element by element, and activations.

Slopes are PyTorch's also where a function has a corner: the whole slope at the ends of a clamp, where `jnp.clip` has
half of it, and none at the ends of a hard tanh. Clean images have many pixels at exactly 0 and 1.
"""

import operator

import jax
import jax.numpy as jnp
from jax import lax

from cwjax.adapters.pytorch.rules.shared import cast, spread


def _with_factor(operation):
    return lambda a, b, *, alpha=1: operation(a, b * alpha if alpha != 1 else b)


def _divided(a, b, *, rounding_mode=None):
    return {None: lambda q: q, "floor": jnp.floor, "trunc": jnp.trunc}[rounding_mode](jnp.true_divide(a, b))


def _clamped(x, low=None, high=None):
    x = x if low is None else jnp.where(x < low, jnp.asarray(low, x.dtype), x)
    return x if high is None else jnp.where(x > high, jnp.asarray(high, x.dtype), x)


def _absolute(x):
    return x * jnp.sign(x)


def _hard_tanh(x, low=-1.0, high=1.0):
    return jnp.where(x <= low, jnp.asarray(low, x.dtype), jnp.where(x >= high, jnp.asarray(high, x.dtype), x))


def _relu6(x):
    return _hard_tanh(x, 0.0, 6.0)


def _elu(x, alpha=1.0, scale=1.0, input_scale=1.0):
    negative = jnp.where(x > 0, jnp.zeros_like(x), x)  # so that no slope is infinite where x is large
    return scale * jnp.where(x > 0, x, alpha * jnp.expm1(negative * input_scale))


def _celu(x, alpha=1.0):
    return _elu(x, alpha, 1.0, 1 / alpha)


def _prelu(x, slope):
    factor = slope.reshape(()) if slope.size == 1 else spread(slope, x)
    return jnp.where(x > 0, x, x * factor)


def _softplus(x, beta=1.0, threshold=20.0):
    return jnp.where(x * beta > threshold, x, jax.nn.softplus(x * beta) / beta)


def _hard_sigmoid(x):
    return _relu6(x + 3) / 6


def _gated(x, dim=-1):
    kept, gate = jnp.split(x, 2, dim)
    return kept * jax.nn.sigmoid(gate)


def _gelu(x, *, approximate="none"):
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def _softmax(x, dim, half_to_float=None, *, dtype=None):
    return jax.nn.softmax(cast(x, half_to_float if isinstance(half_to_float, str) else dtype), dim)


def _log_softmax(x, dim, half_to_float=None, *, dtype=None):
    return jax.nn.log_softmax(cast(x, half_to_float if isinstance(half_to_float, str) else dtype), dim)


def _threshold(x, threshold, value):
    return jnp.where(x > threshold, x, jnp.asarray(value, x.dtype))


def _power(x, exponent):
    return operator.pow(x, exponent)  # a whole exponent stays one


def _masked(x, mask, value):
    return jnp.where(mask, jnp.asarray(value, x.dtype), x)


def _scaled_sum(total, a, b, *, value=1):
    return total + value * a * b


def _hard_shrunk(x, edge=0.5):
    return jnp.where(jnp.abs(x) > edge, x, jnp.zeros_like(x))


def _soft_shrunk(x, edge=0.5):
    return jnp.where(jnp.abs(x) > edge, x - jnp.sign(x) * edge, jnp.zeros_like(x))


def _logit(x, eps=None):
    x = x if eps is None else _clamped(x, eps, 1 - eps)
    return jnp.log(x / (1 - x))


def _interpolated(start, end, weight):
    return start + weight * (end - start)


RULES = {
    "relu": jax.nn.relu,
    "relu6": _relu6,
    "hardtanh": _hard_tanh,
    "sigmoid": jax.nn.sigmoid,
    "log_sigmoid": jax.nn.log_sigmoid,
    "tanh": jnp.tanh,
    "silu": jax.nn.silu,
    "gelu": _gelu,
    "elu": _elu,
    "celu": _celu,
    "selu": jax.nn.selu,
    "leaky_relu": jax.nn.leaky_relu,
    "prelu": _prelu,
    "hardsigmoid": _hard_sigmoid,
    "hardswish": lambda x: x * _hard_sigmoid(x),
    "hardshrink": _hard_shrunk,
    "softshrink": _soft_shrunk,
    "mish": jax.nn.mish,
    "softplus": _softplus,
    "threshold": _threshold,
    "glu": _gated,
    "softmax": _softmax,
    "_softmax": _softmax,
    "log_softmax": _log_softmax,
    "_log_softmax": _log_softmax,
    "add": _with_factor(operator.add),
    "sub": _with_factor(operator.sub),
    "rsub": lambda a, b, *, alpha=1: b - a * alpha,
    "mul": operator.mul,
    "div": _divided,
    "true_divide": _divided,
    "floor_divide": jnp.floor_divide,
    "remainder": jnp.remainder,
    "fmod": jnp.fmod,
    "pow": _power,
    "float_power": _power,
    "addcmul": _scaled_sum,
    "lerp": _interpolated,
    "neg": operator.neg,
    "abs": _absolute,
    "exp": jnp.exp,
    "expm1": jnp.expm1,
    "exp2": jnp.exp2,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "log2": jnp.log2,
    "log10": jnp.log10,
    "logit": _logit,
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "square": jnp.square,
    "reciprocal": lambda x: 1 / x,
    "erf": lax.erf,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": jnp.tan,
    "atan": jnp.arctan,
    "atan2": jnp.arctan2,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "sign": jnp.sign,
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "trunc": jnp.trunc,
    "round": jnp.round,
    "frac": lambda x: x - jnp.trunc(x),
    "clamp": _clamped,
    "clip": _clamped,
    "clamp_min": _clamped,
    "clamp_max": lambda x, high: _clamped(x, None, high),
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "where": jnp.where,
    "masked_fill": _masked,
    "nan_to_num": lambda x, nan=0.0, high=None, low=None: jnp.nan_to_num(x, nan=nan, posinf=high, neginf=low),
    "isnan": jnp.isnan,
    "isinf": jnp.isinf,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
    "logical_not": jnp.logical_not,
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "logical_xor": jnp.logical_xor,
    "bitwise_not": jnp.bitwise_not,
    "bitwise_and": jnp.bitwise_and,
    "bitwise_or": jnp.bitwise_or,
}
