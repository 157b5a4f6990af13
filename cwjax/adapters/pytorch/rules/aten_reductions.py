"""Sums, means, norms, extremes and orders along axes."""

import jax
import jax.numpy as jnp

from cwjax.adapters.pytorch.rules.shared import axes, cast


def _reduced(function):
    def rule(x, dim=None, keepdim=False, *, dtype=None):
        return function(cast(x, dtype), axis=axes(dim), keepdims=keepdim)

    return rule


def _extreme(value, place):
    """Over all elements a number; along one axis the values and their places, with the slope at one of equals."""

    def rule(x, dim=None, keepdim=False):
        if dim is None:
            return value(x)
        if not isinstance(dim, int):  # another array
            return (jnp.maximum if value is jnp.max else jnp.minimum)(x, dim)
        places = place(x, dim, keepdims=True)
        found = jnp.take_along_axis(x, places, dim)
        return (found, places) if keepdim else (found.squeeze(dim), places.squeeze(dim))

    return rule


def _variance(x, dim=None, unbiased=True, keepdim=False, *, correction=None):
    if isinstance(dim, bool):  # var(x, unbiased)
        dim, unbiased = None, dim
    return jnp.var(x, axes(dim), ddof=int(unbiased) if correction is None else correction, keepdims=keepdim)


def _deviation(x, *args, **kwargs):
    return jnp.sqrt(_variance(x, *args, **kwargs))


def _variance_and_mean(x, dim=None, unbiased=True, keepdim=False, *, correction=None):
    variance = _variance(x, dim, unbiased, keepdim, correction=correction)
    return variance, jnp.mean(x, None if isinstance(dim, bool) else axes(dim), keepdims=keepdim)


def _norm(x, order=2, dim=None, keepdim=False, *, dtype=None):
    """As PyTorch's, its slope at 0 is 0."""
    x, order = cast(x, dtype), 2 if order is None else order
    if order in (float("inf"), float("-inf"), 0, 1):
        return jnp.linalg.vector_norm(x, ord=order, axis=axes(dim), keepdims=keepdim)
    total = jnp.sum(jnp.abs(x) ** order, axes(dim), keepdims=keepdim)
    apart = total > 0
    return jnp.where(apart, jnp.where(apart, total, 1) ** (1 / order), 0)


def _largest(x, count, dim=-1, largest=True, ordered=True):
    values, places = jax.lax.top_k(jnp.moveaxis(x if largest else -x, dim, -1), count)
    return jnp.moveaxis(values if largest else -values, -1, dim), jnp.moveaxis(places, -1, dim)


def _sorted(x, dim=-1, descending=False, *, stable=None):
    places = jnp.argsort(x, dim, descending=descending)
    return jnp.take_along_axis(x, places, dim), places


def _log_sum_exp(x, dim, keepdim=False):
    return jax.nn.logsumexp(x, axes(dim), keepdims=keepdim)


RULES = {
    "mean": _reduced(jnp.mean),
    "sum": _reduced(jnp.sum),
    "prod": _reduced(jnp.prod),
    "amax": _reduced(jnp.max),
    "amin": _reduced(jnp.min),
    "any": _reduced(jnp.any),
    "all": _reduced(jnp.all),
    "max": _extreme(jnp.max, jnp.argmax),
    "min": _extreme(jnp.min, jnp.argmin),
    "argmax": _reduced(jnp.argmax),
    "argmin": _reduced(jnp.argmin),
    "var": _variance,
    "std": _deviation,
    "var_mean": _variance_and_mean,
    "norm": _norm,
    "linalg_vector_norm": _norm,
    "logsumexp": _log_sum_exp,
    "cumsum": lambda x, dim, *, dtype=None: jnp.cumsum(cast(x, dtype), dim),
    "topk": _largest,
    "sort": _sorted,
    "argsort": lambda x, dim=-1, descending=False: jnp.argsort(x, dim, descending=descending),
}
