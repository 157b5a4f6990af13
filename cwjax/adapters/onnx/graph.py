"""An ONNX graph as a program of rules and its weights."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cwjax.adapters.checking import NotConvertible
from cwjax.adapters.onnx.node import Node, onnx_package, static
from cwjax.adapters.onnx.table import REFUSED, RULES

# Inputs that have to be known while tracing, by operator: shapes, and numbers that stand for them.
_TRACED_BY_SHAPE: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "If": (0,),
    "OneHot": (1, 2),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Tile": (1,),
    "TopK": (1,),
    "Upsample": (1,),
}
_NUMBERS = {"Clip": (1, 2), "Pow": (1,)}  # single numbers that are no weights where they are constants
_OF_SHAPE = ("Shape", "Size")  # know their input's shape alone
_WEIGHTS = {  # of the domain ai.onnx.ml, where weights are attributes
    "LinearClassifier": ("coefficients", "intercepts"),
    "Scaler": ("offset", "scale"),
}
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
_OLDEST = 7  # before it, operators broadcast by an attribute


class Branch(NamedTuple):
    """One of the two graphs of an `If`."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray]
    outputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Program:
    """Called with weights and a batch [B, *S] it gives the wanted output [B, K]. Two programs are equal if they
    compute the same function of their weights, so that a second file of the same network compiles nothing.
    """

    identity: str  # SHA-256 of all that follows
    nodes: tuple[Node, ...] = dataclasses.field(compare=False, repr=False)
    constants: Mapping[str, np.ndarray] = dataclasses.field(compare=False, repr=False)
    given: str = dataclasses.field(compare=False)  # the name of the input
    made: str = dataclasses.field(compare=False)  # the name of the output
    shape: tuple[int, ...] = dataclasses.field(compare=False)  # of one example, as the graph takes it

    def __call__(self, params: Mapping[str, Array], x: Array) -> Array:
        return jax.vmap(lambda one: self._of_one(params, one))(x)

    def _of_one(self, params: Mapping[str, Array], x: Array) -> Array:
        weights = {name: weight.astype(x.dtype) for name, weight in params.items()}  # x decides how precisely
        values = {"": None, **self.constants, **weights, self.given: x.reshape(self.shape)}
        run(self.nodes, values)
        return jnp.asarray(values[self.made]).reshape(-1)


def run(nodes: Iterable[Node], values: dict[str, Any]) -> None:
    """Runs nodes in their order; each reads its inputs in `values` and puts its outputs there.

    Raises:
      NotConvertible: a node cannot be run; the error names it.
    """
    for node in nodes:
        inputs = [values[name] for name in node.inputs]
        try:
            outputs = _chosen(node, inputs[0], values) if node.operator == "If" else RULES[node.operator](node, *inputs)
        except NotConvertible:
            raise
        except Exception as error:
            raise NotConvertible(f"{node}: {type(error).__name__}: {error}") from error
        outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
        values.update(zip(node.outputs, outputs, strict=False))


def _chosen(node: Node, condition: Any, values: dict[str, Any]) -> tuple[Any, ...]:
    if not static(condition):
        raise node.refused("which branch it takes depends on the values of the input: export the model without it")
    branch: Branch = node.attributes["then_branch" if np.all(condition) else "else_branch"]
    inner = {**values, **branch.constants}
    run(branch.nodes, inner)
    return tuple(inner[name] for name in branch.outputs)


def program_of(model: Any, given: str, made: str, shape: tuple[int, ...]) -> tuple[Program, dict[str, Array]]:
    """The program from an input to an output, and its weights by name.

    Args:
      model: an `onnx.ModelProto`.
      given: the name of the input.
      made: the name of the output, which may be one inside.
      shape: of one example, as the graph takes it.

    Raises:
      NotConvertible: an operator without a rule, or of another domain; operators of a version that is too old.
    """
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("", opsets.get("ai.onnx", _OLDEST)) < _OLDEST:
        raise NotConvertible(
            f"the operators are of version {opsets.get('', 0)}, and {_OLDEST} is the oldest that is covered: "
            "onnx.version_converter.convert_version(model, 13) makes newer ones of them"
        )
    protos = needed(model.graph, made)
    _check_covered(protos)
    nodes, arrays = _read(protos, model.graph.initializer, opsets)
    fixed = _fixed(nodes, arrays)
    floats = {name for name, value in arrays.items() if jnp.issubdtype(value.dtype, np.floating)}
    used = {name for node in nodes for name in node.inputs}
    params = {name: jnp.asarray(arrays[name]) for name in sorted(floats - fixed) if name in used}
    constants = {
        name: value.astype(np.float32) if name in floats else value
        for name, value in arrays.items()
        if name not in params and (name in used or _has_branches(nodes))
    }
    identity = hashlib.sha256(repr((_told(nodes), _told(constants), given, made, shape)).encode()).hexdigest()
    return Program(identity, nodes, constants, given, made, shape), params


def needed(graph: Any, made: str) -> list[Any]:
    """The nodes that an output needs, in their order: of what else a graph makes, such as labels, nothing is run."""
    wanted, kept = {made}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= _names_read(node)
    return kept[::-1]


def _names_read(node: Any) -> set[str]:
    inside = [a.g for a in node.attribute if a.name in ("then_branch", "else_branch", "body")]
    return set(node.input).union(*(_names_read(inner) for graph in inside for inner in graph.node))


def _check_covered(protos: Sequence[Any]) -> None:
    for proto in protos:
        named = f"{proto.op_type} (node {proto.name or proto.output[0]!r})"
        if proto.domain not in _DOMAINS:
            raise NotConvertible(
                f"{named} is of the domain {proto.domain!r}: only standard operators are covered. Export the model "
                "anew without the optimisations of a runtime"
            )
        if proto.op_type in REFUSED:
            raise NotConvertible(f"{named} cannot be converted: {REFUSED[proto.op_type]}")
        if proto.op_type not in RULES and proto.op_type != "If":
            raise NotConvertible(
                f"{named} has no rule (the page Adapters of the documentation lists those that have): export the model "
                "with other operators, or "
                "convert it from its own framework"
            )
        for attribute in proto.attribute:
            if attribute.name in ("then_branch", "else_branch"):
                _check_covered(attribute.g.node)


def _read(
    protos: Sequence[Any], initializers: Iterable[Any], opsets: Mapping[str, int]
) -> tuple[tuple[Node, ...], dict[str, np.ndarray]]:
    """Nodes, and arrays by name: initializers, constants among the nodes, and weights that are attributes."""
    onnx = onnx_package()
    arrays = {tensor.name: np.asarray(onnx.numpy_helper.to_array(tensor)) for tensor in initializers}
    nodes = []
    for proto in protos:
        node = _node(proto, opsets)
        if node.operator == "Constant":
            arrays[node.outputs[0]] = np.asarray(RULES["Constant"](node))
            continue
        if node.operator in _WEIGHTS:
            names = [name for name in _WEIGHTS[node.operator] if name in node.attributes]
            own = {f"{node.name}.{name}": np.asarray(node.attributes[name], np.float32) for name in names}
            rest = {name: value for name, value in node.attributes.items() if name not in names}
            node = node._replace(inputs=(*node.inputs, *own), attributes=rest)
            arrays |= own
        nodes.append(node)
    return tuple(nodes), arrays


def _node(proto: Any, opsets: Mapping[str, int]) -> Node:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    opset = opsets.get(domain, opsets.get("ai.onnx", 1) if domain == "" else 1)
    attributes = {attribute.name: _value(attribute, opsets) for attribute in proto.attribute}
    name = proto.name or (proto.output[0] if proto.output else proto.op_type)
    return Node(proto.op_type, name, attributes, opset, tuple(proto.input), tuple(proto.output))


def _value(attribute: Any, opsets: Mapping[str, int]) -> Any:
    onnx = onnx_package()
    if attribute.type == onnx.AttributeProto.GRAPH:
        nodes, arrays = _read(attribute.g.node, attribute.g.initializer, opsets)
        return Branch(nodes, arrays, tuple(output.name for output in attribute.g.output))
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str | int | float):
        return value
    return tuple(each.decode() if isinstance(each, bytes) else each for each in value)


def _fixed(nodes: Sequence[Node], arrays: Mapping[str, np.ndarray]) -> set[str]:
    """Names of the arrays that have to be known while tracing: those that shapes are computed from."""
    names: set[str] = set()
    for node in reversed(nodes):
        slots = _TRACED_BY_SHAPE.get(node.operator, ())
        names |= {node.inputs[slot] for slot in slots if slot < len(node.inputs)} - {""}
        if names & set(node.outputs) and node.operator not in _OF_SHAPE:
            names |= set(node.inputs) - {""}
        single = [node.inputs[slot] for slot in _NUMBERS.get(node.operator, ()) if slot < len(node.inputs)]
        names |= {name for name in single if name in arrays and arrays[name].size == 1}
    return names


def _has_branches(nodes: Sequence[Node]) -> bool:
    return any(node.operator == "If" for node in nodes)


def _told(value: Any) -> Any:
    """The value in plain Python, with arrays by their bytes: equal programs have equal ones."""
    if isinstance(value, np.ndarray | np.generic):
        return (str(value.dtype), np.shape(value), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest())
    if isinstance(value, Mapping):
        return [(name, _told(value[name])) for name in sorted(value)]
    if isinstance(value, tuple | list):
        return [_told(each) for each in value]
    return value
