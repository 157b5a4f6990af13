"""Tiny networks of one hidden layer, which agree on most inputs."""

import functools

import jax
import numpy as np

import cwjax as cw

SHAPE, CLASSES, HIDDEN = (4, 5, 1), 3, 6
FIRST = np.random.default_rng(5).normal(size=(20, HIDDEN)).astype(np.float32)
SECOND = np.random.default_rng(6).normal(size=(HIDDEN, CLASSES)).astype(np.float32)


def apply(params, x):
    """Logits [B, 3] of x [B, 4, 5, 1]."""
    hidden = jax.nn.relu(x.reshape(len(x), -1) @ params["first"] + params["bias"][None])
    return hidden @ params["second"]


def model(seed: int = 0, noise: float = 0.3) -> cw.Model:
    """The network with so much noise on its weights: others are its near twins."""
    rng = np.random.default_rng(seed)
    params = {"first": FIRST, "second": SECOND}
    params = {name: each + noise * rng.normal(size=each.shape).astype(np.float32) for name, each in params.items()}
    return cw.bind(apply, params | {"bias": -params["first"].sum(0) / 2})  # on at about half of the inputs


def inputs(count: int, seed: int = 1) -> np.ndarray:
    """Images in [0, 1]."""
    return np.random.default_rng(seed).random((count, *SHAPE)).astype(np.float32)


@functools.cache
def units(seed: int = 0, value: str = "after") -> cw.coverage.Neurons:
    """The hidden neurons."""
    return cw.coverage.neurons(model(seed), inputs(3), value=value)  # type: ignore


def keys(count: int) -> jax.Array:
    """One for each input."""
    return jax.random.split(jax.random.key(0), count)


def hidden(seed: int, x: np.ndarray) -> np.ndarray:
    """What goes into the ReLU, in NumPy."""
    params = model(seed).params
    return np.asarray(x).reshape(len(x), -1) @ params["first"] + params["bias"]


def logits(seed: int, x: np.ndarray) -> np.ndarray:
    """The outputs, in NumPy."""
    return np.maximum(hidden(seed, x), 0) @ model(seed).params["second"]
