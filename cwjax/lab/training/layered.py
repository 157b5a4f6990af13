"""Networks of a few convolutions and dense layers: LeNet-5, dense networks, and those in which k winners take all."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float


class Convolution(NamedTuple):
    """One convolution."""

    features: int
    size: int  # of the kernel, in both directions
    stride: int = 1
    padding: str = "SAME"  # or "VALID": no border


class Layers(NamedTuple):
    """Convolutions and then dense layers, with the same activation after each but the last."""

    convolutions: tuple[Convolution, ...]
    dense: tuple[int, ...]  # units of the dense layers, without the last, which has one for each class
    pool: bool = False  # whether a 2×2 max-pool stands between each convolution and its activation
    winners: float | None = None  # the share of a layer's units that stay; none: the activation is ReLU


class LayeredNet(nnx.Module):
    """The network of a plan. Weights start Glorot uniform, biases at zero.

    Args:
      plan: its layers.
      shape: of one input, [H, W, C].
      classes: K.
      seed: of the initial weights.
    """

    def __init__(self, plan: Layers, *, shape: Sequence[int], classes: int, seed: int):
        rngs = nnx.Rngs(seed)
        glorot = nnx.initializers.glorot_uniform()
        self.pool, self.winners = plan.pool, plan.winners
        height, width, channels = shape
        convolutions = []
        for features, size, stride, padding in plan.convolutions:
            convolutions.append(
                nnx.Conv(channels, features, (size, size), stride, padding=padding, kernel_init=glorot, rngs=rngs)
            )
            lost = size - 1 if padding == "VALID" else 0
            height, width = (-(-(n - lost) // stride) // (2 if plan.pool else 1) for n in (height, width))
            channels = features
            if min(height, width) < 1:
                raise ValueError(f"this network needs larger images, got shape {list(shape)}")
        self.convolutions = nnx.List(convolutions)
        units = [height * width * channels, *plan.dense, classes]
        self.layers = nnx.List(nnx.Linear(i, o, kernel_init=glorot, rngs=rngs) for i, o in itertools.pairwise(units))

    def __call__(self, x: Float[Array, "B H W C"], *, rngs: nnx.Rngs | None = None) -> Float[Array, "B K"]:
        """The logits; nothing is random here, with `rngs` or without."""
        for convolution in self.convolutions:
            x = convolution(x)
            x = self.activated(max_pool(x) if self.pool else x)
        x = x.reshape(x.shape[0], -1)
        for layer in self.layers[:-1]:
            x = self.activated(layer(x))
        return self.layers[-1](x)

    def activated(self, x: Float[Array, "B *S"]) -> Float[Array, "B *S"]:
        """What follows a layer."""
        return nnx.relu(x) if self.winners is None else winners_take_all(x, self.winners)


def winners_take_all(x: Float[Array, "B *S"], share: float) -> Float[Array, "B *S"]:
    """The largest `share` of each example's units as they are, and 0 for all others; with equal values at the least
    winner, all of them stay.

    A small change of the input changes who wins, so the function jumps, and its slope says little about what lies a
    step away.

    Args:
      x: what a layer gives. All units of an example compete, those of a convolution over all channels and pixels.
      share: in (0, 1]; it is rounded down to a number of units, at least 1.

    References:
      Xiao, Zhong, Zheng, "Enhancing Adversarial Defense by k-Winners-Take-All", ICLR 2020, section 2 (equation 1, and
      section 2.1 for convolutions): https://arxiv.org/abs/1905.10510.
    """
    units = x.reshape(x.shape[0], -1)
    count = max(int(share * units.shape[1]), 1)
    least = lax.top_k(lax.stop_gradient(units), count)[0][:, -1:]
    return jnp.where(units >= least, units, 0).reshape(x.shape)


def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """2×2, by reshape: its gradient needs no scatter, which is slow on CPU and non-deterministic on GPU."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return jnp.max(x.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))
