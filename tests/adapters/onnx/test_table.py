"""Every rule against the operator as the package onnx, or onnxruntime, runs it: values and slopes."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.adapters.onnx.graph import program_of, run
from cwjax.adapters.onnx.node import onnx_package
from cwjax.adapters.onnx.table import KINDS, REFUSED, RULES, in_markdown
from tests.adapters.onnx import made

RNG = np.random.default_rng(3)


def draw(*shape: int, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    return RNG.uniform(low, high, shape).astype(np.float32)


def floats(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32)


def whole(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


class Case(NamedTuple):
    """A node whose first input is the traced one; the others are constants, None is one left out."""

    operator: str
    x: np.ndarray
    others: tuple[Any, ...] = ()
    attributes: Mapping[str, Any] = MappingProxyType({})
    opset: int = 17
    outputs: int = 1
    flat: bool = False  # without slopes to compare: numbers that do not change with x, or change in jumps

    def __str__(self) -> str:
        told = [f"{name}={value}" for name, value in self.attributes.items() if not isinstance(value, np.ndarray)]
        return "-".join([self.operator, str(self.opset), *told]).replace(" ", "")


X, PLUS, IMAGE = draw(2, 3, 4), draw(2, 3, low=0.2, high=2.0), draw(1, 2, 5, 6)
LESS = draw(2, 3, low=-0.9, high=0.9)
SMOOTH = (
    "Cos",
    "Cosh",
    "Erf",
    "Exp",
    "Identity",
    "Neg",
    "Sigmoid",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Tanh",
)
KINKED = ("Abs", "Celu", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Selu", "Shrink", "ThresholdedRelu")
JUMPS = ("Ceil", "Floor", "IsInf", "IsNaN", "Round", "Sign")
COMPARED = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
FOLDS = {"keepdims": 0}
REDUCED = ("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")

CASES = [
    *(Case(name, X * 3) for name in SMOOTH),
    *(Case(name, X * 3) for name in KINKED),
    *(Case(name, X * 3, flat=True) for name in JUMPS),
    *(Case(name, LESS) for name in ("Acos", "Asin", "Asinh", "Atan", "Atanh", "Tan")),
    *(Case(name, PLUS) for name in ("Log", "Reciprocal", "Sqrt")),
    *(Case(name, X, (draw(3, 1),)) for name in ("Add", "Max", "Min", "Mul", "Sub", "Sum")),
    *(Case(name, X, (draw(4),), flat=True) for name in COMPARED),
    Case("Acosh", PLUS + 1),
    Case("Cast", X, (), {"to": made.FLOAT}, flat=True),
    Case("Cast", X * 5, (), {"to": made.INT}, flat=True),
    Case("CastLike", X, (draw(1),), opset=15, flat=True),
    Case("Clip", X, (np.float32(-0.3), np.float32(0.4))),
    Case("Clip", X, (), {"min": -0.3, "max": 0.4}, 9),
    Case("Clip", X, (None, np.float32(0.4))),
    Case("Div", X, (draw(3, 1, low=1, high=2),)),
    Case("Dropout", X, (np.float32(0.5),)),
    Case("Elu", X, (), {"alpha": 0.5}),
    Case("Gelu", X * 2, (), {}, 20),
    Case("Gelu", X * 2, (), {"approximate": "tanh"}, 20),
    Case("Mish", X * 2, opset=18),
    Case("Mean", X, (draw(4), draw(3, 1))),
    Case("Mod", X * 5, (floats([2.0]),), {"fmod": 1}),
    Case("Pow", PLUS, (np.float32(2.5),)),
    Case("Pow", X, (np.float32(2.0),)),
    Case("Pow", PLUS, (draw(3),)),
    Case("PRelu", X, (draw(3, 1),)),
    Case("Swish", X, (), {}, 24),
    Case("Where", X > 0, (draw(3, 4), draw(4)), flat=True),
    *(Case(name, X > 0, (draw(4) > 0,), flat=True) for name in ("And", "Or", "Xor")),
    Case("Not", X > 0, flat=True),
    # matrix products
    Case("Einsum", X, (draw(2, 4, 5),), {"equation": "bij, bjk -> bik"}),
    Case("Gemm", draw(2, 3), (draw(3, 4), draw(4))),
    Case("Gemm", draw(3, 2), (draw(4, 3), draw(2, 4)), {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("MatMul", X, (draw(4, 5),)),
    Case("MatMul", X, (draw(1, 2, 4, 5),)),
    # windows
    Case("Conv", IMAGE, (draw(3, 2, 3, 2), draw(3)), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    Case("Conv", IMAGE, (draw(4, 1, 2, 2),), {"group": 2, "dilations": [2, 2]}),
    Case("Conv", IMAGE, (draw(1, 2, 3, 2),), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Case("Conv", IMAGE, (draw(1, 2, 2, 3),), {"auto_pad": "SAME_LOWER"}),
    Case("Conv", IMAGE, (draw(1, 2, 2, 3),), {"auto_pad": "VALID"}),
    Case("Conv", draw(1, 2, 7), (draw(3, 2, 3),), {"pads": [1, 1]}),
    Case("ConvTranspose", IMAGE, (draw(2, 3, 3, 2), draw(3)), {"strides": [2, 1], "output_padding": [1, 0]}),
    Case("ConvTranspose", draw(1, 4, 3, 3), (draw(4, 1, 2, 2),), {"group": 2, "pads": [1, 0, 0, 1]}),
    Case("ConvTranspose", IMAGE, (draw(2, 1, 3, 3),), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("ConvTranspose", IMAGE, (draw(2, 1, 3, 3),), {"strides": [2, 2], "output_shape": [10, 12]}),
    Case("MaxPool", IMAGE, (), {"kernel_shape": [2, 3], "strides": [2, 2], "pads": [0, 1, 1, 0]}),
    Case("MaxPool", IMAGE, (), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    Case("MaxPool", IMAGE, (), {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    Case("AveragePool", IMAGE, (), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("AveragePool", IMAGE, (), {"kernel_shape": [3, 2], "pads": [1, 1, 0, 0]}),
    Case("AveragePool", IMAGE, (), {"kernel_shape": [3, 2], "pads": [1, 1, 0, 0], "count_include_pad": 1}),
    Case("AveragePool", IMAGE, (), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    Case("GlobalAveragePool", IMAGE),
    Case("GlobalLpPool", IMAGE, (), {"p": 3}),
    Case("GlobalMaxPool", IMAGE),
    Case("LpPool", IMAGE, (), {"kernel_shape": [2, 2], "p": 2}, 18),
    Case("Resize", IMAGE, (None, None, whole(1, 2, 10, 9)), {"mode": "nearest"}),
    Case("Resize", IMAGE, (None, floats([1, 1, 2, 1.5])), {"mode": "linear"}),
    Case(
        "Resize",
        IMAGE,
        (None, None, whole(1, 2, 3, 9)),
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    Case("Resize", IMAGE, (None, None, whole(1, 2, 8, 9)), {"mode": "cubic"}),
    Case(
        "Resize", IMAGE, (None, None, whole(1, 2, 8, 4)), {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5}
    ),
    Case(
        "Resize",
        IMAGE,
        (None, None, whole(8, 12)),
        {"axes": [2, 3], "mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"},
        18,
    ),
    Case("Resize", IMAGE, (floats([1, 1, 2, 2]),), {"mode": "nearest"}, 10),
    Case("Upsample", IMAGE, (floats([1, 1, 2, 2]),), {"mode": "nearest"}, 9),
    # normalisation
    Case("BatchNormalization", IMAGE, (draw(2), draw(2), draw(2), PLUS[0, :2]), {"epsilon": 1e-3}),
    Case("GroupNormalization", draw(1, 4, 3, 2), (draw(4), draw(4)), {"num_groups": 2}, 21),
    Case("InstanceNormalization", IMAGE, (draw(2), draw(2))),
    Case("LayerNormalization", X, (draw(4), draw(4))),
    Case("LayerNormalization", X, (draw(3, 4),), {"axis": 1}),
    Case("LRN", draw(1, 5, 3, 3), (), {"size": 3, "alpha": 0.5}),
    Case("LogSoftmax", X, (), {"axis": 1}),
    Case("LogSoftmax", X, (), {"axis": 1}, 11),
    Case("LpNormalization", X, (), {"axis": 1, "p": 1}),
    Case("LpNormalization", X, (), {"axis": -1, "p": 2}),
    Case("MeanVarianceNormalization", IMAGE, (), {"axes": [2, 3]}),
    Case("RMSNormalization", X, (draw(4),), {}, 23),
    Case("Softmax", X),
    Case("Softmax", X, (), {"axis": 1}, 11),
    # along axes
    *(Case(name, X, (), {"axes": [1]} | FOLDS) for name in REDUCED),
    *(Case(name, X, (whole(0, 2),), {}, 18) for name in REDUCED),
    Case("ReduceLogSum", PLUS, (), {"axes": [1]}),
    Case("ReduceSum", X, (whole(1),), FOLDS),
    Case("ReduceSum", X),
    Case("ReduceSum", X, (), {"noop_with_empty_axes": 1}),
    Case("ReduceSumSquare", X, (), {"axes": [-1]}),
    Case("ArgMax", X, (), {"axis": 1}, flat=True),
    Case("ArgMin", X, (), {"axis": -1} | FOLDS, flat=True),
    Case("CumSum", X, (np.int64(1),), {"reverse": 1, "exclusive": 1}),
    Case("CumSum", X, (np.int64(2),)),
    Case("Hardmax", X, (), {"axis": 1}, flat=True),
    Case("TopK", X, (whole(2),), {"axis": 1}, outputs=2),
    Case("TopK", X, (whole(2),), {"axis": -1, "largest": 0}, outputs=2),
    # shapes
    Case("Concat", X, (draw(2, 1, 4),), {"axis": 1}),
    Case("ConstantOfShape", whole(2, 3), (), {"value": made.numpy_helper.from_array(floats([7]))}, flat=True),
    Case("DepthToSpace", draw(1, 8, 2, 3), (), {"blocksize": 2}),
    Case("DepthToSpace", draw(1, 8, 2, 3), (), {"blocksize": 2, "mode": "CRD"}),
    Case("Expand", draw(3, 1), (whole(2, 1, 4),)),
    Case("EyeLike", draw(3, 4), (), {"k": 1, "dtype": made.FLOAT}, flat=True),
    Case("Flatten", X, (), {"axis": 2}),
    Case("Gather", X, (whole(2, 0),), {"axis": 1}),
    Case("Gather", X, (np.int64(-1),), {"axis": 2}),
    Case("GatherElements", X, (np.zeros((2, 3, 1), np.int64) + 2,), {"axis": 2}),
    Case("GatherND", X, (np.asarray([[0, 1], [1, 2]]),)),
    Case("OneHot", whole(1, 0, 3), (np.int64(4), floats([0, 1])), {"axis": 0}, flat=True),
    Case("Pad", X, (whole(0, 1, 0, 2, 0, 1), np.float32(0.5))),
    Case("Pad", X, (whole(1, 1), None, whole(2)), {"mode": "reflect"}, 18),
    Case("Pad", X, (), {"pads": [0, 1, 0, 0, 0, 2], "mode": "edge"}, 9),
    Case("Reshape", X, (whole(0, -1),)),
    Case("Shape", X, (), {"start": 1}, flat=True),
    Case("Size", X, flat=True),
    Case("Slice", X, (whole(-1, 1), whole(-10, 2**62), whole(1, 2), whole(-1, 1))),
    Case("Slice", X, (), {"starts": [1], "ends": [3], "axes": [2]}, 9),
    Case("SpaceToDepth", draw(1, 2, 4, 2), (), {"blocksize": 2}),
    Case("Split", X, (whole(1, 3),), {"axis": 2}, outputs=2),
    Case("Split", X, (), {"axis": 2}, 11, outputs=2),
    Case("Squeeze", draw(2, 1, 3), (whole(1),)),
    Case("Squeeze", draw(2, 1, 3), (), {"axes": [1]}, 11),
    Case("Tile", X, (whole(1, 2, 1),)),
    Case("Transpose", X, (), {"perm": [2, 0, 1]}),
    Case("Transpose", X),
    Case("Trilu", X, (np.int64(1),), {"upper": 0}),
    Case("Unsqueeze", X, (whole(0, -1),)),
    Case("Unsqueeze", X, (), {"axes": [0]}, 11),
    # ai.onnx.ml
    Case(
        "LinearClassifier",
        draw(2, 3),
        (),
        {
            "coefficients": [1.0, 2, 3, -1, 0, 1],
            "intercepts": [0.5, 1],
            "classlabels_ints": [0, 1],
            "multi_class": 0,
            "post_transform": "SOFTMAX",
        },
        outputs=2,
    ),
    Case("Normalizer", X[0], (), {"norm": "L2"}),
    Case("Normalizer", X[0], (), {"norm": "L1"}),
    Case("ArrayFeatureExtractor", draw(2, 3), (whole(2, 0),)),
    Case("Scaler", draw(2, 3), (), {"offset": [1.0, 2, 3], "scale": [0.5, 1, 2]}),
]
LEARNING = ("ArrayFeatureExtractor", "LinearClassifier", "Normalizer", "Scaler")
ELSEWHERE = {"Constant", "Range"}  # without an input: test_graph.py


def graph_of(case: Case):
    """The graph of a case, and the name of its output."""
    weights = {f"w{i}": np.asarray(value) for i, value in enumerate(case.others) if value is not None}
    names = ["x", *(f"w{i}" if value is not None else "" for i, value in enumerate(case.others))]
    domain = {"domain": "ai.onnx.ml"} if case.operator in LEARNING else {}
    node = made.node(case.operator, names, ["y", "y2"][: case.outputs], **case.attributes, **domain)
    shown = "y2" if case.operator == "LinearClassifier" else "y"
    kind = made.helper.np_dtype_to_tensor_dtype(case.x.dtype)
    graph = made.model([node], case.x.shape, weights, opset=case.opset, kind=kind, outputs=[shown])
    graph.graph.output[0].ClearField("type")
    return graph, shown


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case):
    graph, shown = graph_of(case)
    program, params = program_of(graph, "x", shown, case.x.shape)
    original, x = _judge(graph), case.x
    theirs = original(x)
    if x.dtype != np.float32:
        np.testing.assert_allclose(_outside(program, params, x), theirs)
        return
    direction = RNG.choice(floats([-1, 1]), x.shape)
    ours, slope = jax.jvp(lambda x: program(params, x[None])[0], (jnp.asarray(x),), (jnp.asarray(direction),))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)
    if not case.flat:
        step = np.float32(2e-3)
        differences = (original(x + step * direction) - original(x - step * direction)) / (2 * step)
        np.testing.assert_allclose(slope, differences, rtol=1e-2, atol=3e-3)


def _outside(program, params, x):
    """What a rule makes of an input that is known while tracing."""
    values = {"": None, **program.constants, **params, "x": x}
    run(program.nodes, values)
    return np.asarray(values[program.made]).reshape(-1)


def _judge(graph):
    """The graph run by onnxruntime, or by the package onnx where onnxruntime does not have the operator."""
    onnxruntime = onnx_package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        judge = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # its errors have no class in common
        judge = onnx_package("onnx.reference").ReferenceEvaluator(graph)
    return lambda x: np.asarray(judge.run(None, {"x": x})[0], np.float64).reshape(-1)


def test_every_rule_has_a_case():
    assert {case.operator for case in CASES} | ELSEWHERE == set(RULES)
    assert len(RULES) == sum(map(len, KINDS.values()))
    assert not set(RULES) & set(REFUSED)


def test_the_documents_have_the_table():
    assert in_markdown() in (Path(__file__).parents[3] / "docs" / "adapters.md").read_text()
