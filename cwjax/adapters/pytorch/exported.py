"""A PyTorch module as a program of jax.numpy: torch.export writes its graph down, and our rules run it."""

# pyright: reportMissingImports=false
import copy
import dataclasses
import functools
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Array

from cwjax.adapters.checking import NotConvertible
from cwjax.adapters.inference import fingerprint
from cwjax.adapters.inputs import logits_of
from cwjax.adapters.pytorch.rules import REFUSED, RULES

_WHERE_TO = {"device", "pin_memory", "memory_format", "layout", "non_blocking"}  # arguments that say where, not what
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
class Graph:
    """Operations in their order."""

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    output: Ref


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

    def __call__(self, params: Mapping[str, Any], x: Array) -> Array:
        with jax.numpy_rank_promotion("allow"):
            return jax.vmap(functools.partial(self._of_one, params["weights"]))(x)

    def _of_one(self, weights: Mapping[str, Array], x: Array) -> Array:
        values = [x[None] if source is None else weights[source] for source in self.sources]
        return _run(self.graph, values)[0]


def _run(graph: Graph, inputs: Any) -> Any:
    values = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        rule = operator.getitem if node.operator == "getitem" else RULES[node.operator]
        values[node.name] = rule(*_filled(node.args, values), **_filled(node.kwargs, values))
    return values[graph.output]


def _filled(part: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(part, Ref):
        return values[part]
    if isinstance(part, tuple):
        return tuple(_filled(each, values) for each in part)
    if isinstance(part, dict):
        return {name: _filled(each, values) for name, each in part.items()}
    return part


def converted(module: torch.nn.Module, example: torch.Tensor, name: str) -> tuple[Program, dict[str, Any]]:
    """The program of a module in evaluation mode, and its params: the weights by their names in the module, and the
    program's fingerprint, so that a sweep sees another network of the same weights.

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
    graph = _graph(exported.graph_module, Ref(outputs[place].arg.name))
    refused = sorted(_unknown(graph.nodes))
    if refused:
        raise NotConvertible(f"{name} has {'; '.join(map(_reason, refused))}: {_OTHERWISE}")
    given = {spec.arg.name: None if spec.kind.name == "USER_INPUT" else spec.target for spec in signature.input_specs}
    sources = tuple(given[name] for name in graph.inputs)
    tensors = {**exported.constants, **exported.state_dict}
    weights = {source: _as_array(tensors[source]) for source in sources if source is not None}
    structure = fingerprint(repr((graph, sources)))
    return Program(structure.tobytes().hex(), graph, sources), {"weights": weights, "program": structure}


def _exported(module: torch.nn.Module, example: torch.Tensor, name: str) -> tuple[Any, int]:
    """The graph without in-place operations, and the place of the logits among its outputs."""
    with torch.enable_grad(), warnings.catch_warnings():  # with gradients, or the graph would not tell what has none
        warnings.simplefilter("ignore")  # of PyTorch's own code about itself
        outputs = module(example)
        leaves = torch.utils._pytree.tree_leaves(outputs)
        logits = logits_of(outputs, name)
        place = next(i for i, leaf in enumerate(leaves) if leaf is logits)
        try:
            exported = torch.export.export(module, (example,))
            _detach_what_has_no_gradient(exported.graph_module)
            exported = exported.run_decompositions({})
            for _ in range(3):  # what has no rule is taken apart by PyTorch, and that again
                missing = _unknown(_nodes(exported.graph_module))
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


def _detach_what_has_no_gradient(module: torch.fx.GraphModule) -> None:
    """Says in the graph itself that nothing goes back through a part under `torch.no_grad()`: PyTorch's decompositions
    forget it.
    """
    for node in list(module.graph.nodes):
        if _name(node.target) != "wrap_with_set_grad_enabled" or node.args[0]:
            continue
        for given in node.args[2:]:
            with module.graph.inserting_before(node):
                apart = module.graph.call_function(torch.ops.aten.detach.default, (given,))
            apart.meta = dict(given.meta)
            node.replace_input_with(given, apart)
    module.recompile()


def _nodes(module: torch.fx.GraphModule) -> list[Node]:
    calls = (node for node in module.graph.nodes if node.op == "call_function")
    return [
        Node(
            node.name,
            _name(node.target),
            _plain(node.args),
            {key: _plain(value) for key, value in node.kwargs.items() if key not in _WHERE_TO},
        )
        for node in calls
    ]


def _graph(module: torch.fx.GraphModule, logits: Ref) -> Graph:
    """What the logits need, and no more: no loss, no second head, no assertion."""
    needed: set[str] = {logits}
    nodes = []
    for node in reversed(_nodes(module)):
        if node.name in needed:
            needed.update(_refs((node.args, node.kwargs)))
            nodes.append(node)
    inputs = [node.name for node in module.graph.nodes if node.op == "placeholder" and node.name in needed]
    return Graph(tuple(inputs), tuple(reversed(nodes)), logits)


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


def _refs(part: Any) -> Iterator[str]:
    if isinstance(part, Ref):
        yield part
    elif isinstance(part, tuple | dict):
        for each in part.values() if isinstance(part, dict) else part:
            yield from _refs(each)


def _unknown(nodes: Iterable[Node]) -> set[str]:
    return {node.operator for node in nodes} - set(RULES) - {"getitem"}


def _reason(name: str) -> str:
    return f"the operator {name} ({REFUSED.get(name, 'no rule covers it')})"


def _name(target: Callable[..., Any]) -> str:
    """The operator's name without its namespace and overload: "aten.add.Tensor" is "add"."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target).split(".")[1]  # "aten.add.Tensor"
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
