"""Operators that reduce axes, and those that look along one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.adapters.onnx.node import Node, Rule, numbers, whole


def _reduced(reduce: Callable[..., Any]) -> Rule:
    """A rule that hands over the module to compute with, the array, the axes (None: all) and whether they stay.

    The axes are an attribute in older files, an input in newer ones.
    """

    def rule(node: Node, x: Any, axes: Any = None) -> Any:
        given = node.get("axes", None) if axes is None else whole(node, axes, "axes")
        if not given and node.get("noop_with_empty_axes", 0):
            given = ()
        elif not given:
            given = None
        return reduce(numbers(x), x, None if given is None else tuple(given), bool(node.get("keepdims", 1)))

    return rule


def _by_name(name: str) -> Rule:
    return _reduced(lambda module, x, axes, keep: getattr(module, name)(x, axis=axes, keepdims=keep))


def _log_sum(module: Any, x: Any, axes: Any, keep: bool) -> Any:
    return module.log(module.sum(x, axis=axes, keepdims=keep))


def _root_of_squares(module: Any, x: Any, axes: Any, keep: bool) -> Any:
    return module.sqrt(module.sum(x * x, axis=axes, keepdims=keep))


def _arg(name: str) -> Rule:
    def rule(node: Node, x: Any) -> Any:
        if node.get("select_last_index", 0):
            raise node.refused("select_last_index=1 is not covered")
        return getattr(numbers(x), name)(x, axis=node.get("axis", 0), keepdims=bool(node.get("keepdims", 1)))

    return rule


def _cumulative_sum(node: Node, x: Any, axis: Any) -> Any:
    [along] = whole(node, axis, "axis")
    if node.get("reverse", 0):
        x = jnp.flip(x, along)
    total = jnp.cumsum(x, along)
    if node.get("exclusive", 0):
        total = total - x
    return jnp.flip(total, along) if node.get("reverse", 0) else total


def _top(node: Node, x: Any, count: Any = None) -> Any:
    k = node.attributes["k"] if count is None else whole(node, count, "k")[0]
    axis, largest = node.get("axis", -1), node.get("largest", 1)
    order = jnp.argsort(-x if largest else x, axis=axis, stable=True)
    order = jax.lax.slice_in_dim(order, 0, k, axis=axis % x.ndim)
    return jnp.take_along_axis(x, order, axis=axis), order


def _hardmax(node: Node, x: Any) -> Any:
    axis = node.get("axis", 1 if node.opset < 13 else -1) % x.ndim
    shape = x.shape if node.opset >= 13 else (*x.shape[:axis], int(np.prod(x.shape[axis:])))
    flat = x.reshape(shape)
    along = axis if node.opset >= 13 else flat.ndim - 1
    return jax.nn.one_hot(flat.argmax(along), flat.shape[along], axis=along, dtype=x.dtype).reshape(x.shape)


RULES: dict[str, Rule] = {
    "ArgMax": _arg("argmax"),
    "ArgMin": _arg("argmin"),
    "CumSum": _cumulative_sum,
    "Hardmax": _hardmax,
    "ReduceL1": _reduced(lambda module, x, axes, keep: module.sum(abs(x), axis=axes, keepdims=keep)),
    "ReduceL2": _reduced(_root_of_squares),
    "ReduceLogSum": _reduced(_log_sum),
    "ReduceLogSumExp": _reduced(lambda module, x, axes, keep: jax.nn.logsumexp(x, axis=axes, keepdims=keep)),
    "ReduceMax": _by_name("max"),
    "ReduceMean": _by_name("mean"),
    "ReduceMin": _by_name("min"),
    "ReduceProd": _by_name("prod"),
    "ReduceSum": _by_name("sum"),
    "ReduceSumSquare": _reduced(lambda module, x, axes, keep: module.sum(x * x, axis=axes, keepdims=keep)),
    "TopK": _top,
}
