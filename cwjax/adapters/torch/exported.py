"""A PyTorch module as a program of jax.numpy: torch.export writes its graph down, and our rules run it."""

# pyright: reportMissingImports=false
import copy
import dataclasses
import functools
import hashlib
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Array

from cwjax.adapters.checking import NotConvertible
from cwjax.adapters.inputs import logits_of
from cwjax.adapters.torch.rules import REFUSED, RULES

_WHERE_TO = {"device", "pin_memory", "memory_format", "layout", "non_blocking"}  # arguments that say where, not what
_REGIONS = {"wrap_with_set_grad_enabled", "wrap_with_autocast"}  # a part of the graph under a switch of PyTorch's
_OTHERWISE = 'use how="ask", which asks PyTorch itself at every step'


class Ref(str):
    """The name of a value in the graph, in the place of the value."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation."""

    name: str
    operator: str  # a key of RULES
    args: tuple[Any, ...]  # of numbers, texts, tuples, dictionaries, and a Ref for each value of the graph
    kwargs: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Region:
    """A part of the graph that PyTorch runs under a switch: with gradients or without, or in other dtypes."""

    name: str
    gradient: bool
    graph: "Graph"
    args: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Graph:
    """Operations in their order."""

    inputs: tuple[str, ...]
    nodes: tuple[Node | Region, ...]
    outputs: Any  # a Ref, or a tuple of them


@dataclasses.dataclass(frozen=True)
class Program:
    """A graph as a function of its weights and of inputs [B, *S]. Two programs of equal graphs are equal, so that a
    module with other weights compiles nothing.
    """

    digest: str  # SHA-256 of the graph
    graph: Graph = dataclasses.field(compare=False, repr=False)
    sources: tuple[str | None, ...] = dataclasses.field(
        compare=False, repr=False
    )  # a key of the weights; None: the input

    def __call__(self, params: Mapping[str, Array], x: Array) -> Array:
        with jax.numpy_rank_promotion("allow"):
            return jax.vmap(functools.partial(self._of_one, params))(x)

    def _of_one(self, params: Mapping[str, Array], x: Array) -> Array:
        values = [x[None] if source is None else params[source] for source in self.sources]
        return _run(self.graph, values)[0]


def _run(graph: Graph, inputs: Any) -> Any:
    values = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        args = _filled(node.args, values)
        if isinstance(node, Region):
            given = args if node.gradient else jax.lax.stop_gradient(args)
            values[node.name] = _run(node.graph, given)
        elif node.operator == "getitem":
            values[node.name] = operator.getitem(*args)
        else:
            values[node.name] = RULES[node.operator](*args, **_filled(node.kwargs, values))
    return _filled(graph.outputs, values)


def _filled(part: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(part, Ref):
        return values[part]
    if isinstance(part, tuple):
        return tuple(_filled(each, values) for each in part)
    if isinstance(part, dict):
        return {name: _filled(each, values) for name, each in part.items()}
    return part


def converted(module: torch.nn.Module, example: torch.Tensor, name: str) -> tuple[Program, dict[str, np.ndarray]]:
    """The program of a module in evaluation mode, and its weights.

    Args:
      module: is left as it is.
      example: an input [1, *S].
      name: of the module, for an error.

    Raises:
      NotConvertible: torch.export refuses it; an operator without a rule.
    """
    hooked = [place or "the module itself" for place, each in module.named_modules() if _has_hooks(each)]
    if hooked:
        raise NotConvertible(f"{name} has hooks, on {hooked[0]}, which a converted model would not call: {_OTHERWISE}")
    if any(tensor.device.type != "cpu" for tensor in _tensors(module)):
        module, example = copy.deepcopy(module).cpu(), example.cpu()
    exported, place = _exported(module, example, name)
    signature = exported.graph_signature
    outputs = [spec for spec in signature.output_specs if spec.kind.name == "USER_OUTPUT"]
    graph = _pruned(_graph(exported.graph_module), Ref(outputs[place].arg.name))
    refused = sorted(set(_unknown(graph)))
    if refused:
        raise NotConvertible(f"{name} has {'; '.join(map(_reason, refused))}: {_OTHERWISE}")
    weights, sources = {}, []
    for spec in signature.input_specs:
        if spec.kind.name == "USER_INPUT":
            sources.append(None)
            continue
        tensor = exported.state_dict.get(spec.target, exported.constants.get(spec.target))
        if spec.arg.name in _used(graph):
            weights[spec.target] = _as_array(tensor)
        sources.append(spec.target)
    kept = [place for place, name in enumerate(graph.inputs) if sources[place] is None or sources[place] in weights]
    graph = dataclasses.replace(graph, inputs=tuple(graph.inputs[place] for place in kept))
    sources = tuple(sources[place] for place in kept)
    digest = hashlib.sha256(repr((graph, sources)).encode()).hexdigest()
    return Program(digest, graph, sources), weights


def _exported(module: torch.nn.Module, example: torch.Tensor, name: str) -> tuple[Any, int]:
    """The graph without in-place operations, and the place of the logits among its outputs."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own code about itself
        outputs = module(example)
        leaves = torch.utils._pytree.tree_leaves(outputs)
        logits = logits_of(outputs, name)
        place = next(i for i, leaf in enumerate(leaves) if leaf is logits)
        try:
            exported = torch.export.export(module, (example,)).run_decompositions({})
            for _ in range(3):  # what has no rule is taken apart by PyTorch, and that again
                missing = set(_unknown(_graph(exported.graph_module)))
                table = torch.export.default_decompositions()
                parts = {known: f for known, f in table.items() if _name(known) in missing - set(REFUSED)}
                if not parts:
                    break
                exported = exported.run_decompositions(parts)
        except Exception as error:  # whatever torch.export makes of a user's code
            said = str(error).strip().partition("\n")[0]
            raise NotConvertible(
                f"torch.export refuses {name} ({type(error).__name__}: {said}): the network depends on values, or on "
                f"Python outside PyTorch; {_OTHERWISE}"
            ) from error
    return exported, place


def _graph(module: torch.fx.GraphModule) -> Graph:
    inputs, nodes, outputs = [], [], None
    for node in module.graph.nodes:
        if node.op == "placeholder":
            inputs.append(node.name)
        elif node.op == "output":
            outputs = _plain(node.args[0])
        elif node.op == "call_function" and _name(node.target) in _REGIONS:
            inner = next(each for each in node.args if isinstance(each, torch.fx.Node) and each.op == "get_attr")
            place = node.args.index(inner)
            graph = _graph(getattr(module, str(inner.target)))
            off = _name(node.target) == "wrap_with_set_grad_enabled" and not node.args[0]
            nodes.append(Region(node.name, not off, graph, _plain(node.args[place + 1 :])))
        elif node.op == "call_function":
            kwargs = {key: _plain(value) for key, value in node.kwargs.items() if key not in _WHERE_TO}
            nodes.append(Node(node.name, _name(node.target), _plain(node.args), kwargs))
    return Graph(tuple(inputs), tuple(nodes), outputs)


def _plain(part: Any) -> Any:
    """Arguments without anything of PyTorch's in them."""
    if isinstance(part, torch.fx.Node):
        return Ref(part.name)
    if isinstance(part, list | tuple):
        return tuple(map(_plain, part))
    if isinstance(part, dict):
        return {key: _plain(value) for key, value in part.items()}
    if isinstance(part, bool | int | float | str | None):
        return part
    return str(part)  # a dtype, a device, a memory format


def _pruned(graph: Graph, logits: Ref) -> Graph:
    """What the logits need, and no more: no loss, no second head, no assertion."""
    needed, nodes = {logits}, []
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(_refs((node.args, node.kwargs if isinstance(node, Node) else ())))
            nodes.append(node)
    return Graph(graph.inputs, tuple(reversed(nodes)), logits)


def _used(graph: Graph) -> set[str]:
    return {
        ref for node in graph.nodes for ref in _refs((node.args, node.kwargs if isinstance(node, Node) else ()))
    } | {graph.outputs}


def _refs(part: Any) -> Iterator[str]:
    if isinstance(part, Ref):
        yield part
    elif isinstance(part, tuple | dict):
        for each in part.values() if isinstance(part, dict) else part:
            yield from _refs(each)


def _unknown(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        if isinstance(node, Region):
            yield from _unknown(node.graph)
        elif node.operator not in RULES and node.operator != "getitem":
            yield node.operator


def _reason(name: str) -> str:
    return f"the operator {name} ({REFUSED.get(name, 'no rule covers it')})"


def _name(target: Callable[..., Any]) -> str:
    """The operator's name without its namespace and overload: "aten::add.Tensor" is "add"."""
    if isinstance(target, torch._ops.OpOverload):
        return target.name().split("::")[-1].split(".")[0]
    return getattr(target, "__name__", str(target))


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # NumPy itself has none
        return tensor.float().numpy().astype(jnp.bfloat16)
    array = tensor.numpy()
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype))


def _tensors(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _has_hooks(module: torch.nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
