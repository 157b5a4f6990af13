"""An ONNX file as a cwjax model, and as the function that it is."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PyTree

from cwjax.adapters.checking import TOLERANCE, NotConvertible, confirmed
from cwjax.adapters.heads import Softmax, check_no_probabilities, check_softmax, ends_in, two_logits
from cwjax.adapters.inference import fingerprint
from cwjax.adapters.inputs import Inputs, Layout, Scale, adapted, inputs_of
from cwjax.adapters.onnx.graph import needed, program_of
from cwjax.adapters.onnx.node import onnx_package
from cwjax.adapters.slopes import check_slopes
from cwjax.models import Model

_MOVING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")  # may stand behind a softmax


class Graph(NamedTuple):
    """A graph of one input and one output that is logits."""

    proto: Any  # an onnx.ModelProto whose only output is that one
    name: str  # for errors
    given: str
    made: str
    shape: tuple[int, ...]  # of the input, with a batch of one
    batched: bool  # whether it says that it takes any batch
    inputs: Inputs
    dtype: np.dtype


def from_onnx(
    model: str | os.PathLike[str] | Any,
    *,
    layout: Layout | None = None,
    mean: Scale | None = None,
    std: Scale | None = None,
    softmax: Softmax = "refuse",
    shape: Sequence[int] | None = None,
    output: str | None = None,
    low: float = 0.0,
    high: float = 1.0,
    tolerance: float = TOLERANCE,
) -> Model:
    """The classifier of an ONNX file, run by JAX. Its logits and slopes are compared with the file's own.

    Weights are the model's `params["weights"]`: another file of the same network compiles nothing anew. The file is run
    by onnxruntime where that is installed, else by the evaluator of the package onnx, which is slow.

    Args:
      model: the path of a file, or an `onnx.ModelProto`. Operators of the versions 9 to 21 are tested.
      layout: "NCHW" or "NHWC", how the graph takes images; the model made takes [H, W, C]. None: found by the axis that
        has 1, 3 or 4 channels.
      mean: what images are normalised by before the graph: one number, or one a channel. None: 0, or not at all.
      std: likewise, > 0.
      softmax: what to do with a softmax, or a sigmoid, at the end: "refuse", or "cut" to take the logits before it.
      shape: of one input as the graph takes it, without the batch, where the graph leaves sizes open.
      output: the name of the output that is the logits, where the graph has several.
      low: the lower end of the box of images, in which the comparison draws them.
      high: the upper end.
      tolerance: the largest difference of logits that is allowed, as a share of the largest logit.

    Returns:
      What `cwjax.bind` returns: of a batch of images [B, H, W, C], or of [B, *shape], to logits [B, K]. A graph with
      one output s for yes or no becomes the two logits -s/2 and s/2.

    Raises:
      NotConvertible: an operator without a rule, one that is refused (with the reason), sizes that are left open, or
        logits or slopes that differ from the file's.
      ImportError: the package onnx is missing.

    Example:
      >>> import onnx
      >>> from onnx import helper
      >>> sides = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 3]) for name in ("x", "logits")]
      >>> weights = helper.make_tensor("weights", onnx.TensorProto.FLOAT, [3, 3], np.eye(3, dtype=np.float32).ravel())
      >>> product = helper.make_node("MatMul", ["x", "weights"], ["logits"])
      >>> graph = helper.make_graph([product], "net", sides[:1], sides[1:], [weights])
      >>> opset = [helper.make_opsetid("", 17)]
      >>> file = helper.make_model(graph, opset_imports=opset, ir_version=8)
      >>> print(cw.adapters.from_onnx(file)(x[0]))
      [0.6 0.4 0.1]
    """
    graph = _graph(model, layout, mean, std, softmax, shape, output, low, high)
    program, params = program_of(graph.proto, graph.given, graph.made, graph.shape)
    made = adapted(_Logits(program), {"weights": params, "program": fingerprint(program.identity)}, graph.inputs)
    x = graph.inputs.drawn()
    jax.eval_shape(made.of_batch, x)  # names the operator that cannot be traced, before the file is run
    run = _runner(graph)
    check_no_probabilities(run(x), graph.name)
    made = confirmed(made, run, x, name=graph.name, tolerance=tolerance)
    check_slopes(made, run, x, width=high - low, name=graph.name)
    return made


def onnx_original(
    model: str | os.PathLike[str] | Any,
    *,
    layout: Layout | None = None,
    mean: Scale | None = None,
    std: Scale | None = None,
    softmax: Softmax = "refuse",
    shape: Sequence[int] | None = None,
    output: str | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Callable[[np.ndarray], np.ndarray]:
    """The function of an ONNX file as onnxruntime runs it: images in the box, as `from_onnx` takes them, to logits.

    Args: as for `from_onnx`.

    Returns:
      x [B, H, W, C] -> logits [B, K], NumPy arrays. Nothing of it is run by JAX.
    """
    return _runner(_graph(model, layout, mean, std, softmax, shape, output, low, high))


@dataclasses.dataclass(frozen=True)
class _Logits:  # a class and not a closure: equal when the program is, so that it compiles once
    program: Callable[..., Array]

    def __call__(self, params: PyTree, x: Array) -> Array:
        return two_logits(self.program(params["weights"], x))


def _graph(model, layout, mean, std, softmax: Softmax, shape, output, low, high) -> Graph:
    check_softmax(softmax)
    proto, name = _loaded(model)
    given = _input(proto, name)
    sizes = _sizes(given, shape, name)
    batched = len(sizes) > 1 and sizes[0] is None
    inner = tuple(size for size in (sizes[1:] or sizes) if size is not None)  # a graph of one axis takes no batch
    made = _without_softmax(proto, _output(proto, output, name), softmax, name)
    del proto.graph.output[:]
    proto.graph.output.append(_any_floats(made))
    return Graph(
        proto,
        name,
        given.name,
        made,
        inner if len(sizes) == 1 else (1, *inner),
        batched,
        inputs_of(inner, layout=layout, mean=mean, std=std, low=low, high=high),
        _dtype(given, name),
    )


def _loaded(model: Any) -> tuple[Any, str]:
    """A copy of the model, with its own functions written out, and what to call it."""
    onnx = onnx_package()
    if isinstance(model, onnx.ModelProto):
        proto, name = onnx.ModelProto(), f"the ONNX graph {model.graph.name!r}"
        proto.CopyFrom(model)
    else:
        path = Path(model)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        name = f"the ONNX file {path.name}"
        try:
            proto = onnx.load(path)
        except Exception as error:
            raise NotConvertible(f"{name} cannot be read as ONNX: {error}") from error
        if not proto.graph.node:
            raise NotConvertible(f"{name} has no nodes: is it an ONNX file?")
    return (onnx_package("onnx.inliner").inline_local_functions(proto) if proto.functions else proto), name


def _input(proto: Any, name: str) -> Any:
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [each for each in proto.graph.input if each.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise NotConvertible(
            f"{name} takes {len(inputs)} inputs ({names}), and an attack changes one: export a model of one input, "
            "with the others as constants"
        )
    return inputs[0]


def _dtype(given: Any, name: str) -> np.dtype:
    onnx = onnx_package()
    code = given.type.tensor_type.elem_type
    if code not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
        kind = onnx.TensorProto.DataType.Name(code)
        raise NotConvertible(f"{name} takes {kind} and not FLOAT: export the model in 32-bit floating point")
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code))


def _sizes(given: Any, shape: Sequence[int] | None, name: str) -> list[int | None]:
    """The sizes of the input; None first where any batch will do."""
    kind = given.type.tensor_type
    sizes = [each.dim_value if each.HasField("dim_value") and each.dim_value > 0 else None for each in kind.shape.dim]
    if shape is not None:
        told = [int(size) for size in shape]
        rest = sizes[1:] if len(sizes) > 1 else told
        if len(rest) != len(told) or any(size not in (None, own) for size, own in zip(rest, told, strict=True)):
            raise NotConvertible(f"{name} takes inputs of the shape {sizes[1:]}, and shape={list(told)} is another")
        return [sizes[0] if len(sizes) > 1 else None, *told]
    if not sizes or None in (sizes[1:] or sizes):
        told = [each.dim_param or each.dim_value or "?" for each in kind.shape.dim]
        raise NotConvertible(
            f"{name} takes inputs of the shape {told}, and leaves sizes open: say shape=(…), that of one input without "
            "the batch"
        )
    if len(sizes) > 1 and sizes[0] not in (None, 1):
        raise NotConvertible(
            f"{name} takes exactly {sizes[0]} inputs at once: export it with a batch of 1, or of any size"
        )
    return sizes


def _output(proto: Any, wanted: str | None, name: str) -> str:
    """The output that is to be the logits: the only one of floating-point numbers."""
    outputs = {each.name: each for each in proto.graph.output}
    inside = {made for node in proto.graph.node for made in node.output}
    if wanted is not None:
        if wanted not in outputs and wanted not in inside:
            raise NotConvertible(f"{name} has no output {wanted!r}: it has {', '.join(outputs)}")
        return wanted
    found = [each for each, value in outputs.items() if _is_floating(value)]
    zipped = (node for node in proto.graph.node if node.op_type == "ZipMap" and node.output[0] in outputs)
    found += [node.input[0] for node in zipped]  # scikit-learn: a list of dictionaries of the probabilities
    if len(found) != 1:
        raise NotConvertible(
            f"{name} has {len(found)} outputs of floating-point numbers ({', '.join(found)}): say output=NAME, that of "
            "the logits"
        )
    return found[0]


def _is_floating(value: Any) -> bool:
    onnx = onnx_package()
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.UNDEFINED)
    return value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in kinds


def _any_floats(made: str) -> Any:
    onnx = onnx_package()
    return onnx.ValueInfoProto(name=made)


def _without_softmax(proto: Any, made: str, softmax: Softmax, name: str) -> str:
    """The name of the logits: the output itself, or what goes into a softmax at the end."""
    makers = {out: node for node in needed(proto.graph, made) for out in node.output}
    last = makers.get(made)
    while last is not None and last.op_type in _MOVING:
        last = makers.get(last.input[0])
    if last is None:
        return made
    if last.op_type in ("LinearClassifier", "Normalizer") and last.domain == "ai.onnx.ml":
        after = next((a.s.decode() for a in last.attribute if a.name == "post_transform"), "NONE")
        if last.op_type == "Normalizer" or after != "NONE":
            raise NotConvertible(
                f"{name} ends in probabilities of scikit-learn: export it by skl2onnx with "
                "options={id(classifier): {'raw_scores': True, 'zipmap': False}}, or use from_sklearn"
            )
    if last.op_type not in ("Softmax", "Sigmoid"):
        return made
    end = f"the {last.op_type.lower()} of node {last.name or last.output[0]!r}"
    return last.input[0] if ends_in(name, end, softmax) else made


def _runner(graph: Graph) -> Callable[[np.ndarray], np.ndarray]:
    """The graph as onnxruntime runs it, or the package onnx: x [B, *S] as the model made takes it -> logits [B, K]."""
    ask = _session(graph)

    def run(x: np.ndarray) -> np.ndarray:
        given = graph.inputs.to_module(np.asarray(x)).astype(graph.dtype)
        if graph.batched:
            answers = np.asarray(ask(given)).reshape(len(given), -1)
        else:
            answers = np.concatenate([np.asarray(ask(one.reshape(graph.shape))).reshape(1, -1) for one in given])
        return two_logits(answers)

    return run


def _session(graph: Graph) -> Callable[[np.ndarray], np.ndarray]:
    try:
        onnxruntime = onnx_package("onnxruntime")
    except ImportError:
        evaluator = onnx_package("onnx.reference").ReferenceEvaluator(graph.proto)
        return lambda x: evaluator.run(None, {graph.given: x})[0]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    try:
        session = onnxruntime.InferenceSession(
            graph.proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise NotConvertible(f"onnxruntime refuses {graph.name}: {error}") from error
    return lambda x: session.run(None, {graph.given: x})[0]
