"""What a neuron is, and the values of all neurons of a batch."""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from cwjax.base import Outputs, wide

Value: TypeAlias = Literal["after", "before"]
Unit: TypeAlias = Literal["channel mean", "channel maximum", "element"]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer whose neurons are counted."""

    name: str  # "relu_0", "convolution_1": its function, and a number among the layers of that function
    kind: str  # "activation", "convolution", "dense", "pool", or "given" by a function or by Flax
    shape: tuple[int, ...]  # of one input's values
    channel_axis: int  # of that shape
    neurons: int


@dataclasses.dataclass(frozen=True)
class Convention:
    """What a neuron is. It travels with every profile and every result, because coverage means little without it.

    Example:
      >>> units.convention.neurons, units.convention.slices
      (4, (slice(0, 2, None), slice(2, 4, None)))
    """

    layers: tuple[Layer, ...]
    value: Value  # after the activation function, or before it
    unit: Unit

    @property
    def neurons(self) -> int:
        """How many there are in all."""
        return sum(layer.neurons for layer in self.layers)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each layer's neurons lie among all."""
        ends = itertools.accumulate(layer.neurons for layer in self.layers)
        return tuple(slice(end - layer.neurons, end) for end, layer in zip(ends, self.layers, strict=True))

    def __str__(self) -> str:
        names = ", ".join(layer.name for layer in self.layers)
        return f"{self.neurons:,} neurons, each the {self.unit} {self.value} the activation function, of {names}"


class Activations(NamedTuple):
    """What criteria read of a batch."""

    values: Float[Array, "B N"]  # of the neurons, layer after layer
    low: Float[Array, "B L"]  # the least element of each layer, before any channel's mean
    high: Float[Array, "B L"]  # the largest


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Neurons:
    """A network that also returns the values of its neurons; make it with `neurons`.

    A pytree: new weights do not compile again.

    Example:
      >>> outputs, activations = units(x)
      >>> print(np.asarray(activations.values).round(1))  # relu(a - b), relu(b - a); then the next layer
      [[0.8 0.  0.8 0. ]
       [0.  0.5 0.  0.5]]
    """

    read: Callable[..., tuple[Outputs, list[Array]]]  # (x [B, *S], context) -> outputs, a value [B, …] for each layer
    convention: Convention = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Float[ArrayLike, "B *S"], context: PyTree = None) -> tuple[Outputs, Activations]:
        """The outputs and the activations of a batch, in one pass of the network."""
        outputs, values = self.read(jnp.asarray(x), context)
        return outputs, of_layers(values, self.convention)

    def network(self) -> str:
        """A hash of the weights: a profile is of one network, and refused for another."""
        digest = hashlib.sha256()
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.read):
            typed = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
            array = np.asarray(jax.random.key_data(leaf) if typed else leaf)
            digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode() + array.tobytes())
        return digest.hexdigest()


def of_layers(values: Sequence[Array], convention: Convention) -> Activations:
    """The activations of layers' values [B, …], by the convention."""
    units, low, high = [], [], []
    for layer, value in zip(convention.layers, values, strict=True):
        value = value.astype(wide(value))
        rest = tuple(axis for axis in range(1, value.ndim) if axis != layer.channel_axis + 1)
        flat = value.reshape(len(value), -1)
        reduced = {
            "channel mean": lambda value=value, rest=rest: value.mean(rest),
            "channel maximum": lambda value=value, rest=rest: value.max(rest),
            "element": lambda flat=flat: flat,
        }
        units.append(reduced[convention.unit]())
        low.append(flat.min(1))
        high.append(flat.max(1))
    return Activations(jnp.concatenate(units, axis=1), jnp.stack(low, axis=1), jnp.stack(high, axis=1))
