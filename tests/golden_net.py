"""The network and the digits behind the golden distances; see tests/golden/README.md."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw

FILE = Path(__file__).parent / "golden" / "golden.npz"


def apply(params, x):
    """The report's MNIST CNN, with XLA's own max-pool: what a user's model may look like."""
    kernels, biases = params
    for i in range(4):
        x = jax.lax.conv_general_dilated(x, kernels[i], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + biases[i][None, None, None])
        if i % 2:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x.reshape(x.shape[0], -1)
    for i in range(4, 7):
        x = x @ kernels[i] + biases[i][None]
        x = x if i == 6 else jax.nn.relu(x)
    return x


@functools.cache
def load() -> tuple[cw.Model, dict[str, np.ndarray]]:
    """The model, and the arrays of the file."""
    with np.load(FILE) as file:
        arrays = dict(file)
    params = tuple([jnp.asarray(arrays[f"{kind}{i}"]) for i in range(7)] for kind in ("kernel", "bias"))
    return cw.bind(apply, params), arrays
