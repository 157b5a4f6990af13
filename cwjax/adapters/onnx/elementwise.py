"""Operators that work element by element."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.adapters.onnx.node import Node, Rule, aligned, dtype_of, like, numbers, static


def _same_name(name: str) -> Rule:
    """An operator that is a function of one array in NumPy and in jax.numpy."""
    return lambda node, x: getattr(numbers(x), name)(x)


def _broadcast(name: str) -> Rule:
    """An operator that is a function of two arrays in NumPy and in jax.numpy."""
    return lambda node, x, y: getattr(numbers(x, y), name)(*aligned(x, y))


def _of(function: Any) -> Rule:
    """An operator that is a function of JAX."""
    return lambda node, x: function(x)


def _several(name: str) -> Rule:
    """An operator of any number of arrays, two at a time."""

    def rule(node: Node, *xs: Any) -> Any:
        total = xs[0]
        for x in xs[1:]:
            total = getattr(numbers(total, x), name)(*aligned(total, x))
        return total

    return rule


def _mean(node: Node, *xs: Any) -> Any:
    return _several("add")(node, *xs) / len(xs)


def _divide(node: Node, x: Any, y: Any) -> Any:
    x, y = aligned(x, y)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        return x / y
    if static(x, y):  # towards zero, as in C
        return (np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))).astype(x.dtype)
    return jax.lax.div(*jnp.broadcast_arrays(x, y))


def _modulo(node: Node, x: Any, y: Any) -> Any:
    return getattr(numbers(x, y), "fmod" if node.get("fmod", 0) else "mod")(*aligned(x, y))


def _power(node: Node, x: Any, y: Any) -> Any:
    if np.ndim(y) == 0 or np.size(y) == 1:
        exponent = float(np.asarray(y).reshape(())) if static(y) else None
        if exponent is not None and exponent == int(exponent) and 0 <= exponent <= 8:
            return x ** int(exponent)  # by products: a slope that is finite at 0 and below
    x, y = aligned(x, y)
    return numbers(x, y).power(x, y).astype(x.dtype)


def _parametric_relu(node: Node, x: Any, slope: Any) -> Any:
    x, slope = aligned(x, slope)
    return jnp.where(x > 0, x, x * slope)


def _hard_sigmoid(node: Node, x: Any) -> Any:
    return jnp.clip(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0, 1)


def _hard_swish(node: Node, x: Any) -> Any:
    return x * jnp.clip(x / 6 + 0.5, 0, 1)


def _shrink(node: Node, x: Any) -> Any:
    bias, edge = node.get("bias", 0.0), node.get("lambd", 0.5)
    return jnp.where(x < -edge, x + bias, jnp.where(x > edge, x - bias, jnp.zeros_like(x)))


def _clip(node: Node, x: Any, low: Any = None, high: Any = None) -> Any:
    low = node.get("min", None) if low is None else low
    high = node.get("max", None) if high is None else high
    if low is not None:
        x = numbers(x, low).maximum(x, like(np.asarray(low), x) if static(low) else low)
    if high is not None:
        x = numbers(x, high).minimum(x, like(np.asarray(high), x) if static(high) else high)
    return x


def _gelu(node: Node, x: Any) -> Any:
    return jax.nn.gelu(x, approximate=node.get("approximate", "none") == "tanh")


def _cast(node: Node, x: Any) -> Any:
    return _cast_to(dtype_of(node, node.attributes["to"]), x)


def _cast_like(node: Node, x: Any, other: Any) -> Any:
    return _cast_to(None if jnp.issubdtype(other.dtype, jnp.floating) else np.dtype(other.dtype), x)


def _cast_to(dtype: np.dtype | None, x: Any) -> Any:
    if dtype is None:  # a floating-point one: x stays in its own
        return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(np.float32)
    return x.astype(dtype if static(x) else jax.dtypes.canonicalize_dtype(dtype))


def _where(node: Node, condition: Any, x: Any, y: Any) -> Any:
    return numbers(condition, x, y).where(*aligned(condition, x, y))


def _dropout(node: Node, x: Any, ratio: Any = None, training: Any = None) -> Any:
    node.only_first_output()
    if training is not None and not (static(training) and not np.any(training)):
        raise node.refused("it is in training mode: export the model in evaluation mode")
    return x


def _swish(node: Node, x: Any) -> Any:
    return x * jax.nn.sigmoid(node.get("alpha", 1.0) * x)


RULES: dict[str, Rule] = {
    "Abs": _same_name("abs"),
    "Acos": _of(jnp.arccos),
    "Acosh": _of(jnp.arccosh),
    "Add": _broadcast("add"),
    "And": _broadcast("logical_and"),
    "Asin": _of(jnp.arcsin),
    "Asinh": _of(jnp.arcsinh),
    "Atan": _of(jnp.arctan),
    "Atanh": _of(jnp.arctanh),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": _same_name("ceil"),
    "Celu": lambda node, x: jax.nn.celu(x, node.get("alpha", 1.0)),
    "Clip": _clip,
    "Cos": _same_name("cos"),
    "Cosh": _of(jnp.cosh),
    "Div": _divide,
    "Dropout": _dropout,
    "Elu": lambda node, x: jax.nn.elu(x, node.get("alpha", 1.0)),
    "Equal": _broadcast("equal"),
    "Erf": _of(jax.lax.erf),
    "Exp": _same_name("exp"),
    "Floor": _same_name("floor"),
    "Gelu": _gelu,
    "Greater": _broadcast("greater"),
    "GreaterOrEqual": _broadcast("greater_equal"),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Identity": lambda node, x: x,
    "IsInf": _same_name("isinf"),
    "IsNaN": _same_name("isnan"),
    "LeakyRelu": lambda node, x: jax.nn.leaky_relu(x, node.get("alpha", 0.01)),
    "Less": _broadcast("less"),
    "LessOrEqual": _broadcast("less_equal"),
    "Log": _same_name("log"),
    "Max": _several("maximum"),
    "Mean": _mean,
    "Min": _several("minimum"),
    "Mish": lambda node, x: x * jnp.tanh(jax.nn.softplus(x)),
    "Mod": _modulo,
    "Mul": _broadcast("multiply"),
    "Neg": _same_name("negative"),
    "Not": _same_name("logical_not"),
    "Or": _broadcast("logical_or"),
    "PRelu": _parametric_relu,
    "Pow": _power,
    "Reciprocal": lambda node, x: 1 / x,
    "Relu": _of(jax.nn.relu),
    "Round": _same_name("round"),
    "Selu": lambda node, x: (
        node.get("gamma", 1.0507009873554804934193349852946)
        * jnp.where(x > 0, x, node.get("alpha", 1.6732632423543772848170429916717) * jnp.expm1(jnp.minimum(x, 0)))
    ),
    "Shrink": _shrink,
    "Sigmoid": _of(jax.nn.sigmoid),
    "Sign": _same_name("sign"),
    "Sin": _same_name("sin"),
    "Sinh": _of(jnp.sinh),
    "Softplus": _of(jax.nn.softplus),
    "Softsign": _of(jax.nn.soft_sign),
    "Sqrt": _same_name("sqrt"),
    "Sub": _broadcast("subtract"),
    "Sum": _several("add"),
    "Swish": _swish,
    "Tan": _of(jnp.tan),
    "Tanh": _same_name("tanh"),
    "ThresholdedRelu": lambda node, x: jnp.where(x > node.get("alpha", 1.0), x, jnp.zeros_like(x)),
    "Where": _where,
    "Xor": _broadcast("logical_xor"),
}
