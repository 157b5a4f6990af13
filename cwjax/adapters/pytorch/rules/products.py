"""Products of matrices, and attention."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cwjax.adapters.pytorch.rules.shared import refuse_training


def _linear(x, weight, bias=None):
    y = x @ weight.T
    return y if bias is None else y + bias


def _with_sum(total, a, b, *, beta=1, alpha=1):
    """`beta * total + alpha * (a @ b)`."""
    return (total if beta == 1 else beta * total) + (a @ b if alpha == 1 else alpha * (a @ b))


def _bilinear(a, b, weight, bias=None):
    y = jnp.einsum("...i,kij,...j->...k", a, weight, b)
    return y if bias is None else y + bias


def _einsum(equation, operands, path=None):
    return jnp.einsum(equation, *operands)


def attention(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Array:
    """Scaled dot-product attention: [..., L, E], [..., M, E], [..., M, V] -> [..., L, V]."""
    refuse_training(dropout, "the dropout of an attention")
    if enable_gqa:
        key, value = (jnp.repeat(each, query.shape[-3] // each.shape[-3], -3) for each in (key, value))
    scores = query @ key.swapaxes(-1, -2) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf) if mask.dtype == bool else scores + mask
    return jax.nn.softmax(scores, -1) @ value


RULES = {
    "linear": _linear,
    "addmm": _with_sum,
    "baddbmm": _with_sum,
    "mm": jnp.matmul,
    "bmm": jnp.matmul,
    "mv": jnp.matmul,
    "dot": jnp.dot,
    "matmul": jnp.matmul,
    "outer": jnp.outer,
    "bilinear": _bilinear,
    "einsum": _einsum,
    "scaled_dot_product_attention": attention,
}
