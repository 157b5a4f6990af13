"""Small ONNX graphs for tests. A test that imports this is skipped where the package onnx is missing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

onnx: Any = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def model(
    nodes: Sequence[Any],
    shape: Sequence[int | str],
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    kind: int = FLOAT,
    learning: int = 3,
) -> Any:
    """A graph from the input x to outputs of any shape; `learning` is the version of ai.onnx.ml."""
    graph = helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", learning)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any) -> Any:
    return helper.make_node(operator, list(inputs), list(outputs), name=f"my_{operator}", **attributes)
