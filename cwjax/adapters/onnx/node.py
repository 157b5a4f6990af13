"""A node of an ONNX graph, and what its rules have in common.

A rule is a function `(node, *inputs) -> array`, or a tuple of arrays. What depends on shapes alone is a NumPy array,
and rules keep it one: ONNX computes shapes by the same operators as values, and JAX needs shapes while it traces.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from cwjax.adapters.checking import NotConvertible
from cwjax.adapters.packages import package

Rule: TypeAlias = Callable[..., Any]


class Node(NamedTuple):
    operator: str
    name: str
    attributes: Mapping[str, Any]  # numbers, text, tuples of them, NumPy arrays
    opset: int  # version of the operators of its domain
    inputs: tuple[str, ...]  # names; "" where an optional input is left out
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.operator} (node {self.name!r})"

    def get(self, attribute: str, default: Any) -> Any:
        """The attribute, or what the standard has where it is left out."""
        return self.attributes.get(attribute, default)

    def refused(self, why: str) -> NotConvertible:
        """An error that names the node."""
        return NotConvertible(f"{self}: {why}")

    def only_first_output(self) -> None:
        """Raises NotConvertible if the graph uses another output than the first."""
        if any(self.outputs[1:]):
            raise self.refused("only its first output can be used, and the graph uses others")


def static(*values: Any) -> bool:
    """Whether all are known while tracing: NumPy, or left out."""
    return all(value is None or isinstance(value, np.ndarray | np.generic | int | float) for value in values)


def numbers(*values: Any) -> Any:
    """The module to compute with: NumPy if all values are static, else jax.numpy."""
    return np if static(*values) else jnp


def whole(node: Node, value: Any, what: str) -> tuple[int, ...]:
    """Whole numbers that a shape is made of.

    Raises:
      NotConvertible: they depend on the values of the input, and not on its shape alone.
    """
    if not static(value):
        raise node.refused(
            f"its {what} depend on the values of the input, or on weights. JAX needs them while it traces: export the "
            "model with fixed shapes, without control flow that depends on data"
        )
    return tuple(int(number) for number in np.asarray(value).reshape(-1))


def aligned(*values: Any) -> list[Any]:
    """Arrays of one rank: ONNX broadcasts by leading axes, which JAX may be told to refuse."""
    rank = max(np.ndim(value) for value in values)
    return [
        value.reshape((1,) * (rank - np.ndim(value)) + np.shape(value)) if np.ndim(value) else value for value in values
    ]


def by_channel(vector: Any, rank: int) -> Any:
    """[C] so that it broadcasts to [N, C, ...]."""
    return vector.reshape((1, -1) + (1,) * (rank - 2))


def like(value: Any, x: Any) -> Any:
    """A constant in the dtype of x."""
    return value.astype(x.dtype) if static(x) else jnp.asarray(value, x.dtype)


def onnx_package(module: str = "onnx") -> Any:
    """The package onnx, or a module of it."""
    return package(module, extra="onnx", wanted_by="from_onnx")


def dtype_of(node: Node, code: int) -> np.dtype | None:
    """The dtype of ONNX's number for it; None for any floating-point one, because the input decides how precisely
    everything is computed.
    """
    dtype = onnx_package().helper.tensor_dtype_to_np_dtype(code)
    if dtype.kind in "OUS":
        raise node.refused("text cannot be computed with")
    if jnp.issubdtype(dtype, np.floating):
        return None
    return np.dtype(dtype)
