"""Equinox modules as cwjax models in inference mode."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from cwjax.adapters.checking import NotConvertible, kind_of
from cwjax.adapters.inference import checked, inputs_in_jax
from cwjax.adapters.inputs import Layout, Scale, adapted
from cwjax.adapters.packages import package
from cwjax.models import Model


def from_equinox(
    module: Any,
    shape: Sequence[int],
    state: Any = None,
    *,
    layout: Layout | None = "NCHW",
    mean: Scale | None = None,
    std: Scale | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Model:
    """An Equinox module of one example, in inference mode. Your module is not changed.

    Args:
      module: an `equinox.Module`, called with one example; with a state also `(x, state) -> (logits, state)`.
      shape: of one input as the module takes it. Equinox' convolutions take channels first: (1, 28, 28).
      state: the `equinox.nn.State` of a module with batch normalisation.
      layout: how the module takes images of three axes.
      mean: what images are normalised by before the module: one number, or one a channel. None: 0, or not at all.
      std: likewise, > 0.
      low: the lower end of the box of images.
      high: the upper end.

    Returns:
      What `cwjax.bind` returns, of images [H, W, C] or of [F]. Modules of one structure compile once.

    Raises:
      NotConvertible: no module; a layer that needs a random key; logits that depend on chance.
      ImportError: Equinox is missing.

    Example:
      >>> import equinox
      >>> net = equinox.nn.Linear(3, 2, key=jax.random.key(0))
      >>> bool(jnp.allclose(cw.adapters.from_equinox(net, (3,))(x[0]), net(x[0]), atol=1e-5))
      True
    """
    equinox = package("equinox", extra="equinox", wanted_by="from_equinox")

    if not isinstance(module, equinox.Module):
        raise NotConvertible(f"from_equinox takes an equinox.Module, got a {kind_of(module)}")
    name = f"the Equinox module {kind_of(module)}"
    evaluating = equinox.nn.inference_mode(module)
    leaves, structure = jax.tree.flatten((evaluating, state))
    arrays = [leaf if _is_array(leaf) else None for leaf in leaves]
    others = tuple(None if _is_array(leaf) else leaf for leaf in leaves)
    inputs = inputs_in_jax(shape, layout, mean, std, low, high)
    made = adapted(_Equinox(others, structure), arrays, inputs)
    try:
        jax.eval_shape(made.of_batch, inputs.drawn())
    except NotConvertible:
        raise
    except Exception as error:
        hint = "it has to take one example without a key" + ("" if state is not None else ", or hand over its state")
        raise NotConvertible(f"{name} cannot be called in inference mode ({hint}): {error}") from error
    return checked(made, inputs, lambda x: jax.vmap(lambda one: _called(evaluating, state, one))(jnp.asarray(x)), name)


def _called(module: Any, state: Any, x: Array) -> Any:
    return module(x) if state is None else module(x, state)[0]


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


@dataclasses.dataclass(frozen=True)
class _Equinox:
    others: tuple[Any, ...]  # functions and numbers among the leaves
    structure: Any

    def __call__(self, arrays: PyTree, x: Array) -> Any:
        leaves = [other if array is None else array for array, other in zip(arrays, self.others, strict=True)]
        module, state = jax.tree.unflatten(self.structure, leaves)
        return jax.vmap(lambda one: _called(module, state, one))(x)
