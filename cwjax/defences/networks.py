"""Small networks in plain JAX, of which detectors and autoencoders are made: a pytree of weights and a function."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Weights = dict[str, Any]

_PLAN = ("NHWC", "HWIO", "NHWC")


def layer(key: Array, shape: Sequence[int]) -> Weights:
    """Weights as He et al. start them, and biases of zero."""
    spread = np.sqrt(2 / np.prod(shape[:-1]))
    return {"weights": spread * jax.random.normal(key, tuple(shape)), "bias": jnp.zeros(shape[-1])}


def logistic_layer(key: Array, shape: Sequence[int]) -> Weights:
    """Weights [3, 3, C, D] before a logistic sigmoid: four times as wide as Glorot and Bengio 2010 start those before a
    tanh, whose slope at 0 is four times as steep. Biases are zero.
    """
    spread = 4 * np.sqrt(2 / (np.prod(shape[:-2]) * (shape[-2] + shape[-1])))
    return {"weights": spread * jax.random.normal(key, tuple(shape)), "bias": jnp.zeros(shape[-1])}


def dense(weights: Weights, x: Float[Array, "B *S F"]) -> Float[Array, "B *S G"]:
    """A dense layer; of a picture, the same at every pixel."""
    return _biased(weights, x @ weights["weights"])


def convolved(weights: Weights, x: Float[Array, "B H W C"], stride: int = 1) -> Float[Array, "B h w D"]:
    """A convolution of the same size, or of a part of it."""
    steps = (stride, stride)
    return _biased(weights, jax.lax.conv_general_dilated(x, weights["weights"], steps, "SAME", dimension_numbers=_PLAN))


def halved(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """The largest of 2×2 pixels, by reshape."""
    return _in_fours(x).max((2, 4))


def averaged(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """The mean of 2×2 pixels, by reshape."""
    return _in_fours(x).mean((2, 4))


def doubled(x: Float[Array, "B H W C"]) -> Float[Array, "B 2*H 2*W C"]:
    """Each pixel as 2×2."""
    return x.repeat(2, 1).repeat(2, 2)


def detector(key: Array, shape: Sequence[int], *, units: int = 64) -> Weights:
    """Fresh weights of `suspicion`: for pictures [H, W, C] two convolutions, for other inputs none."""
    keys, convolutions, size = jax.random.split(key, 4), [], int(np.prod(shape))
    if len(shape) == 3:
        height, width, channels = shape
        convolutions = [layer(keys[0], (3, 3, channels, 16)), layer(keys[1], (3, 3, 16, 32))]
        size = -(-height // 4) * -(-width // 4) * 32
    return {"convolutions": convolutions, "hidden": layer(keys[2], (size, units)), "last": layer(keys[3], (units, 1))}


def suspicion(weights: Weights, x: Float[Array, "B *S"]) -> Float[Array, "B"]:
    """One number of each input: convolutions of 3×3 with a stride of 2, a dense layer, and the output."""
    for each in weights["convolutions"]:
        x = jax.nn.relu(convolved(each, x, stride=2))
    return dense(weights["last"], jax.nn.relu(dense(weights["hidden"], x.reshape(len(x), -1))))[:, 0]


def _biased(weights: Weights, x: Array) -> Array:
    return x + weights["bias"].reshape((1,) * (x.ndim - 1) + (-1,))


def _in_fours(x: Float[Array, "B H W C"]) -> Float[Array, "B h 2 w 2 C"]:
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)
