"""A layer inside a model: its name, and its values."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float

from cwjax.base import AnyArray
from cwjax.coverage.convention import Layer, Neurons
from cwjax.coverage.neurons import neurons
from cwjax.models import Model

_AT_ONCE = 250  # inputs in one pass


def activations(model: Model, x: Float[AnyArray, "N *S"]) -> tuple[Layer, ...]:
    """The activation functions of a model, in their order. Raises ValueError where it has none."""
    return neurons(model, x[:1], unit="element").convention.layers


def inside(
    model: Model, x: Float[AnyArray, "N *S"], layer: str | int
) -> tuple[Neurons, Callable[[AnyArray], Float[np.ndarray, "B ..."]]]:
    """The model with the values of one layer, and a function that reads them of many inputs.

    Args:
      model: from `bind`.
      x: inputs; only their shape and dtype are used.
      layer: a name of `cwjax.coverage.neurons`, or a place among the activation functions, -1 the last.

    Raises:
      ValueError: no such layer.
    """
    if isinstance(layer, int):
        layer = activations(model, x)[layer].name
    units = neurons(model, x[:1], layers=layer, unit="element")
    read = jax.jit(lambda units, x: units.read(x, None)[1][0])

    def values(x: AnyArray) -> Float[np.ndarray, "B ..."]:
        return np.concatenate([np.asarray(read(units, x[i : i + _AT_ONCE])) for i in range(0, len(x), _AT_ONCE)])

    return units, values


def values_of(units: Neurons, x: Float[Array, "B *S"]) -> Float[Array, "B ..."]:
    """The values of the one layer, as they are."""
    return units.read(x, None)[1][0]
