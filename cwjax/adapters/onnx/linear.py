"""Matrix products, and the linear models of the domain ai.onnx.ml, which scikit-learn exports."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.adapters.onnx.node import Node, Rule, aligned, numbers, whole


def _general(node: Node, x: Any, kernel: Any, bias: Any = None) -> Any:
    x = x.T if node.get("transA", 0) else x
    kernel = kernel.T if node.get("transB", 0) else kernel
    product = x @ kernel
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    product = product if alpha == 1 else alpha * product
    if bias is None:
        return product
    product, bias = aligned(product, bias)
    return product + (bias if beta == 1 else beta * bias)


def _product(node: Node, x: Any, y: Any) -> Any:
    if x.ndim > 2 and y.ndim > 2:
        x, y = aligned(x, y)
    return numbers(x, y).matmul(x, y)


def _sum_of_products(node: Node, *xs: Any) -> Any:
    return jnp.einsum(node.attributes["equation"].replace(" ", ""), *xs)


def _linear_classifier(node: Node, x: Any, coefficients: Any, intercepts: Any = None) -> Any:
    """Gives (labels, scores); the labels are never computed, because attacks have no use for them."""
    scores = x @ coefficients.reshape(-1, x.shape[-1]).T
    if intercepts is not None:
        scores = scores + intercepts.reshape(1, -1)
    after = node.get("post_transform", "NONE")
    if after == "LOGISTIC":
        scores = jax.nn.sigmoid(scores)
    elif after == "SOFTMAX":
        scores = jax.nn.softmax(scores)
    elif after != "NONE":
        raise node.refused(f"post_transform {after!r} is not covered")
    if scores.shape[-1] == 1:  # one score of two classes
        other = 1 - scores if after == "LOGISTIC" else -scores
        scores = jnp.concatenate([other, scores], -1)
    return None, scores


def _features(node: Node, x: Any, indices: Any) -> Any:
    return numbers(x).take(x, np.asarray(whole(node, indices, "indices")), -1)


def _scaler(node: Node, x: Any, offset: Any, scale: Any) -> Any:
    x, offset, scale = aligned(x, offset, scale)
    return (x - offset) * scale


def _normalizer(node: Node, x: Any) -> Any:
    norm = node.get("norm", "MAX")
    size = {
        "MAX": lambda: jnp.abs(x).max(-1, keepdims=True),
        "L1": lambda: jnp.abs(x).sum(-1, keepdims=True),
        "L2": lambda: jnp.sqrt((x * x).sum(-1, keepdims=True)),
    }[norm]()
    return x / jnp.where(size == 0, 1, size)


RULES: dict[str, Rule] = {
    "ArrayFeatureExtractor": _features,
    "Einsum": _sum_of_products,
    "Gemm": _general,
    "LinearClassifier": _linear_classifier,
    "MatMul": _product,
    "Normalizer": _normalizer,
    "Scaler": _scaler,
}
