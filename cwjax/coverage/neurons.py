"""The neurons of a network: which values of which layers, for every way to hand over a network."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from cwjax.arguments import check_model
from cwjax.base import Outputs
from cwjax.coverage.convention import Convention, Layer, Neurons, Unit, Value
from cwjax.coverage.jaxprs import evaluated, flattened
from cwjax.coverage.layers import KINDS
from cwjax.coverage.layers import found as found_in
from cwjax.models import Model

ROWS = 3  # of the batch that layers are looked for with: a number that no other axis is likely to have


def neurons(
    model: Model,
    x: Float[ArrayLike, "B *S"],
    *,
    layers: str | Sequence[str] = "activation",
    value: Value = "after",
    unit: Unit = "channel mean",
    context: PyTree = None,
) -> Neurons:
    """The neurons of any model that runs in JAX: its layers are found in the program that JAX traces of it.

    Activation functions are those of `jax.nn` and `jnp.tanh`, and ReLU, SiLU and GELU written out. A convolution or a
    dense layer counts its bias. What is inside a loop (`scan`) or a branch is not seen: make the function return
    it, and take `from_function`.

    Args:
      model: from `bind`.
      x: inputs; only their shape and dtype are used, so any batch will do.
      layers: which are counted, in the order in which they run: kinds ("activation", "convolution", "dense", "pool")
        or names, as `neurons(…).convention` has them, such as "relu_0".
      value: of an activation function, what comes out ("after") or what goes in ("before"): DeepXplore and DeepGauge
        read it after, DeepConcolic before.
      unit: what a neuron is: the mean of a channel over its positions (DeepXplore), its maximum, or each element. They
        are the same in a dense layer.
      context: what the model is told besides, as the runner was.

    Raises:
      ValueError: no such layer, or one whose values have no axis of the batch in front; a value or unit that there is
        not; `value="before"` for layers that are no activation functions.

    Example:
      >>> units = cw.coverage.neurons(network, x, unit="element")
      >>> units.convention.neurons, units.convention.layers[0].name
      (4, 'relu_0')
    """
    indices, kept = _chosen(model, x, layers, value, context)
    if value == "before" and (others := [layer.name for layer in kept if layer.kind != "activation"]):
        raise ValueError(f"only activation functions have a value before them, and {', '.join(others)} is none")
    read = jax.tree_util.Partial(_Read(indices, value), model)
    return Neurons(read, _convention(kept, value, unit))


def rewired(
    model: Model,
    x: Float[ArrayLike, "B *S"],
    change: Callable[[PyTree, Array], Array],
    more: PyTree = (),
    *,
    layers: str | Sequence[str] = "activation",
) -> Model:
    """The model with the values of some layers changed on their way to the next: dropout, or a bound on activations.

    Args:
      model: from `bind`.
      x: inputs; only their shape and dtype are used.
      change: `(more, values [B, …]) -> values` of the same shape and dtype, applied to each of the layers. It is part
        of the compiled program's identity: hand over the same function again, not a new lambda.
      more: a pytree of arrays for it; traced. The new model's weights are the pair (model, more).
      layers: as in `neurons`.

    Raises:
      ValueError: no such layer.

    Example:
      >>> import jax, jax.numpy as jnp, cwjax as cw
      >>> model = cw.bind(lambda weights, x: jax.nn.relu(x @ weights), jnp.eye(2))
      >>> capped = cw.coverage.rewired(model, jnp.ones((1, 2)), jnp.minimum, jnp.array(0.5))
      >>> [float(each) for each in capped(jnp.array([0.2, 0.9]))]
      [0.20000000298023224, 0.5]
    """
    indices, _ = _chosen(model, x, layers, "after", None)
    return Model(apply=_Rewired(indices, change), params=(model, more))


def from_function(
    function: Callable[..., tuple[Outputs, Mapping[str, Array]]],
    params: PyTree,
    x: Float[ArrayLike, "B *S"],
    *,
    unit: Unit = "channel mean",
    value: Value = "after",
    channel_axis: int = -1,
    context: PyTree = None,
) -> Neurons:
    """The neurons that a function returns.

    Args:
      function: `(params, x) -> (outputs, activations)`, the activations by name, each [B, …]. They are counted in the
        order of their names, because JAX sorts dictionaries.
      params: its weights.
      x: inputs; only their shape and dtype are used.
      unit: as in `neurons`.
      value: what the function returns: it is written into the convention.
      channel_axis: of the activations, the axis of the batch counted; it is the last, unless yours are [B, C, H, W].
      context: what the function is told besides, as its third argument; only its shape and dtype are used.

    Raises:
      ValueError: activations that have no axis of the batch in front.

    Example:
      >>> def read(params, x):
      ...     hidden = jax.nn.relu(x)
      ...     return hidden.sum(1), {"hidden": hidden}
      >>> cw.coverage.from_function(read, (), x).convention.neurons
      2
    """
    read = jax.tree_util.Partial(_Given(function), params)
    _, given = jax.eval_shape(function, params, *_batch_of_three(x, context))
    found = []
    for name, array in sorted(given.items()):
        if array.shape[:1] != (ROWS,) or len(array.shape) < 2:
            raise ValueError(f"the activations {name!r} must be [B, …], got {list(array.shape)} from three inputs")
        found.append(_layer(name, "given", array.shape[1:], channel_axis % len(array.shape)))
    return Neurons(read, _convention(found, value, unit))


def from_nnx(
    net: Any,
    x: Float[ArrayLike, "B *S"],
    *,
    unit: Unit = "channel mean",
    value: Value = "after",
    channel_axis: int = -1,
) -> Neurons:
    """The neurons that a module of Flax NNX keeps as it runs: `self.sow(nnx.Intermediate, "name", value)`.

    Args:
      net: the module, after `net.eval()`; it is called with a batch.
      x: inputs; only their shape and dtype are used.
      unit: as in `neurons`.
      value: as in `from_function`.
      channel_axis: as in `from_function`.

    Raises:
      ValueError: the module keeps nothing, or what it keeps has no axis of the batch in front.

    Example:
      >>> from flax import nnx
      >>> class Net(nnx.Module):
      ...     def __call__(self, x):
      ...         self.sow(nnx.Intermediate, "hidden", jax.nn.relu(x))
      ...         return x
      >>> cw.coverage.from_nnx(Net(), x).convention.neurons
      2
    """
    from flax import nnx  # for this alone: nothing else here needs Flax

    graph, weights = nnx.split(net)

    def function(params, x):
        merged = nnx.merge(graph, params)
        outputs, kept = nnx.capture(merged, nnx.Intermediate)(x)
        named = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(kept))
        return outputs, {jax.tree_util.keystr(path, simple=True, separator="."): array for path, array in named}

    units = from_function(function, weights, x, unit=unit, value=value, channel_axis=channel_axis)
    if not units.convention.layers:
        raise ValueError("this module keeps no activations: call self.sow(nnx.Intermediate, name, value) in it")
    return units


@dataclasses.dataclass(frozen=True)
class _Read:  # a class and not a closure: equal for equal choices, so that it compiles once
    indices: tuple[int, ...]
    value: Value

    def __call__(self, model: Model, x: Array, context: PyTree) -> tuple[Outputs, list[Array]]:
        arguments = (model.params, x, context)
        program, structure, found = _traced(model, *arguments)
        wanted = [getattr(found[index], self.value) for index in self.indices]
        answers = evaluated(program, jax.tree.leaves(arguments), [*program.jaxpr.outvars, *wanted])
        outputs = jax.tree.unflatten(structure, answers[: len(program.jaxpr.outvars)])
        return outputs, answers[len(program.jaxpr.outvars) :]


@dataclasses.dataclass(frozen=True)
class _Rewired:
    indices: tuple[int, ...]
    change: Callable[[PyTree, Array], Array]

    def __call__(self, params: tuple[Model, PyTree], x: Array) -> Outputs:
        model, more = params
        arguments = (model.params, x, None)
        program, structure, found = _traced(model, *arguments)
        change = functools.partial(self.change, more)
        changes = {found[index].after: change for index in self.indices}
        return jax.tree.unflatten(structure, evaluated(program, jax.tree.leaves(arguments), None, changes))


@dataclasses.dataclass(frozen=True)
class _Given:
    function: Callable[..., Any]

    def __call__(self, params: PyTree, x: Array, context: PyTree) -> tuple[Outputs, list[Array]]:
        outputs, given = self.function(params, x, *(() if context is None else (context,)))
        return outputs, [given[name] for name in sorted(given)]


def _traced(model: Model, params: PyTree, x: Any, context: PyTree):
    def function(params, x, context):
        return dataclasses.replace(model, params=params).of_batch(x, context)

    program, structure = flattened(function, params, x, context)
    first = len(jax.tree.leaves(params))
    return program, structure, list(found_in(program, slice(first, first + 1)))


def _chosen(
    model: Model, x: Any, layers: str | Sequence[str], value: Value, context: PyTree
) -> tuple[tuple[int, ...], list[Layer]]:
    """The places of the layers that are asked for among all, and the layers."""
    check_model(model)
    chosen = (layers,) if isinstance(layers, str) else tuple(layers)
    names, found = _layers_of(model, x, context, value)
    indices = [i for i, layer in enumerate(found) if layer is not None and {layer.kind, layer.name} & set(chosen)]
    missing = [name for name in chosen if name not in {*KINDS, *names}]
    if missing or not indices:
        asked = " or ".join(map(repr, missing or chosen))
        raise ValueError(f"the model has no layer {asked}: it has {', '.join(names)}")
    return tuple(indices), [layer for i, layer in enumerate(found) if i in indices and layer is not None]


def _layers_of(model: Model, x: Any, context: PyTree, value: Value) -> tuple[list[str], list[Layer | None]]:
    """The names of all layers that can be counted; and every layer, None where it cannot."""
    if value not in get_args(Value):
        raise ValueError(f"value must be one of {', '.join(map(repr, get_args(Value)))}, got {value!r}")
    shown, *told = _batch_of_three(x, context)
    _, _, all_found = _traced(model, model.params, shown, *(told or [None]))
    counts: dict[str, itertools.count] = {}
    layers: list[Layer | None] = []
    for each in all_found:
        shape = getattr(each, value).aval.shape
        batched = shape[:1] == (ROWS,) and len(shape) > 1
        name = f"{each.function}_{next(counts.setdefault(each.function, itertools.count()))}"
        axis = min(each.channel_axis, len(shape) - 1)
        layers.append(_layer(name, each.kind, shape[1:], axis) if batched else None)
    return [layer.name for layer in layers if layer], layers


def _layer(name: str, kind: str, shape: tuple[int, ...], axis: int) -> Layer:
    """A layer with an axis of the batch counted; `neurons` is set by `_convention`."""
    return Layer(name=name, kind=kind, shape=shape, channel_axis=axis - 1, neurons=0)


def _convention(found: Sequence[Layer], value: Value, unit: Unit) -> Convention:
    if unit not in get_args(Unit):
        raise ValueError(f"unit must be one of {', '.join(map(repr, get_args(Unit)))}, got {unit!r}")

    def size(layer: Layer) -> int:
        return int(np.prod(layer.shape)) if unit == "element" else layer.shape[layer.channel_axis]

    layers = tuple(dataclasses.replace(layer, neurons=size(layer)) for layer in found)
    return Convention(layers=layers, value=value, unit=unit)


def _batch_of_three(x: Any, context: PyTree) -> tuple[Any, ...]:
    told = () if context is None else (jax.tree.map(lambda leaf: _like(leaf, ROWS), context),)
    return _like(x, ROWS), *told


def _like(x: Any, rows: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((rows, *np.shape(x)[1:]), jnp.result_type(x))
