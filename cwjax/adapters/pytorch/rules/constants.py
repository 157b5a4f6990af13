"""Arrays made of numbers, casts, and what changes nothing."""

import jax.numpy as jnp
from jax import lax

from cwjax.adapters.pytorch.rules.shared import cast, dtype_of, refuse_training


def _typed(dtype):
    return None if dtype is None else dtype_of(dtype)


def _filled(value):
    return lambda sizes, *, dtype=None: jnp.full(tuple(sizes), value, _typed(dtype) or jnp.float32)


def _full(sizes, value, *, dtype=None):
    return jnp.full(tuple(sizes), value, _typed(dtype))


def _new(value):
    return lambda x, sizes, *, dtype=None: jnp.full(tuple(sizes), value, _typed(dtype) or x.dtype)


def _like(value):
    return lambda x, *, dtype=None: jnp.full_like(x, value, _typed(dtype))


def _range(*bounds, dtype=None):
    return jnp.arange(*bounds, dtype=_typed(dtype))


def _converted(x, *told, dtype=None, **_):
    named = [each for each in told if isinstance(each, str) and each.startswith("torch.")]
    return cast(x, dtype or next(iter(named), None))


def _dropout(x, rate, training):
    refuse_training(training and rate, "a dropout")
    return x


def _same(x, *_, **__):
    return x


def _nothing(*_, **__):
    return None


RULES = {
    "full": _full,
    "zeros": _filled(0),
    "ones": _filled(1),
    "new_full": lambda x, sizes, value, *, dtype=None: jnp.full(tuple(sizes), value, _typed(dtype) or x.dtype),
    "new_zeros": _new(0),
    "new_ones": _new(1),
    "full_like": lambda x, value, *, dtype=None: jnp.full_like(x, value, _typed(dtype)),
    "zeros_like": _like(0),
    "ones_like": _like(1),
    "fill": lambda x, value: jnp.full_like(x, value),
    "scalar_tensor": lambda value, *, dtype=None: jnp.asarray(value, _typed(dtype)),
    "arange": _range,
    "linspace": lambda start, end, steps, *, dtype=None: jnp.linspace(start, end, steps, dtype=_typed(dtype)),
    "eye": lambda *sizes, dtype=None: jnp.eye(*sizes, dtype=_typed(dtype)),
    "one_hot": lambda x, count: (x[..., None] == jnp.arange(count)).astype(jnp.int32),
    "to": _converted,
    "_to_copy": _converted,
    "type_as": lambda x, other: x.astype(other.dtype),
    "dropout": _dropout,
    "feature_dropout": _dropout,
    "alpha_dropout": _dropout,
    "contiguous": _same,
    "clone": _same,
    "alias": _same,
    "lift_fresh_copy": _same,
    "copy": lambda x, other, *_: jnp.broadcast_to(other, x.shape).astype(x.dtype),
    "detach": lax.stop_gradient,
    "_assert_tensor_metadata": _nothing,
    "_assert_scalar": _nothing,
}
