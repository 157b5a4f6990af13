"""A tiny network of two hidden layers."""

import jax
import numpy as np

import cwjax as cw

RNG = np.random.default_rng(11)
FIRST = RNG.normal(size=(9, 5)).astype(np.float32)
SECOND = RNG.normal(size=(5, 4)).astype(np.float32)
LAST = RNG.normal(size=(4, 3)).astype(np.float32)
BIAS = -FIRST.sum(0) / 2
PARAMS = {"first": FIRST, "second": SECOND, "last": LAST, "bias": BIAS}
X = RNG.uniform(0.3, 0.7, (20, 9)).astype(np.float32)


def apply(params, x):
    """Logits [B, 3] of x [B, 9]."""
    first = jax.nn.relu(x @ params["first"] + params["bias"][None])
    return jax.nn.relu(first @ params["second"]) @ params["last"]


def hidden(x: np.ndarray) -> np.ndarray:
    """What goes into the ReLUs, in NumPy: [B, 9]."""
    first = x @ FIRST + BIAS
    return np.concatenate([first, np.maximum(first, 0) @ SECOND], -1)


MODEL = cw.bind(apply, PARAMS)
UNITS = cw.coverage.neurons(MODEL, X, unit="element", value="before")
