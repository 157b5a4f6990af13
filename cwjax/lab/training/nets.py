"""The networks by name: those of the technical report and the paper, and others of other kinds, in Flax NNX. They
return logits.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, PyTree

from cwjax.lab.training.layered import Convolution, LayeredNet, Layers, max_pool
from cwjax.models import Model, bind


class Widths(NamedTuple):
    """Channels of the two convolutions before and after the first pool, and units of the dense layers."""

    first: int
    second: int
    dense: int


class Stages(NamedTuple):
    """Channels of the residual blocks, one block each; from the second on, a block halves height and width first."""

    widths: tuple[int, ...]


GROUP = 16  # channels that are normalised together, in each image by itself

LENET = Layers((Convolution(6, 5), Convolution(16, 5, padding="VALID")), dense=(120, 84), pool=True)

NETS: dict[str, Widths | Stages | Layers] = {
    "mnist_cnn": Widths(first=32, second=64, dense=200),  # the technical report's Table 1; the paper's Table I, MNIST
    "cifar_cnn": Widths(first=64, second=128, dense=256),  # the paper's Table I, CIFAR-10
    "cifar_resnet": Stages((16, 32, 96)),  # 16 million multiply-adds on 32×32 pixels
    "mnist_dense": Layers((), dense=(128, 64)),
    # Wong and Kolter 2018 (arXiv 1711.00851), section 4.2, their small network
    "mnist_small": Layers((Convolution(16, 4, stride=2), Convolution(32, 4, stride=2)), dense=(100,)),
    # LeCun et al. 1998, "Gradient-based learning applied to document recognition", with ReLU and max-pool
    "mnist_lenet": LENET,
    "mnist_winners": LENET._replace(winners=0.1),  # the share is the sparsest of Xiao et al. 2020 (arXiv 1905.10510)
}


class ConvolutionalNet(nnx.Module):
    """conv, conv, max-pool, conv, conv, max-pool, dense, dense, dense; 3×3 kernels, valid padding, ReLU between.

    Dropout of 0.5 stands between the first two dense layers, while training, as in the released code. Weights start as
    Keras starts them: Glorot uniform, biases zero.

    Args:
      widths: of the layers; see `NETS`.
      shape: of one input, [H, W, C].
      classes: K.
      seed: of the initial weights.
    """

    def __init__(self, widths: Widths, *, shape: Sequence[int], classes: int, seed: int):
        rngs = nnx.Rngs(seed)
        glorot = nnx.initializers.glorot_uniform()
        height, width, channels = shape
        first, second, dense = widths
        plan = [(channels, first), (first, first), (first, second), (second, second)]
        self.convolutions = nnx.List(
            nnx.Conv(i, o, (3, 3), padding="VALID", kernel_init=glorot, rngs=rngs) for i, o in plan
        )
        for _ in range(2):  # two convolutions take a border of 2 in all, twice, and the pool halves
            height, width = (height - 4) // 2, (width - 4) // 2
        units = [height * width * second, dense, dense, classes]
        if min(units) < 1:
            raise ValueError(f"these networks need images of at least 16×16 pixels, got shape {list(shape)}")
        self.layers = nnx.List(nnx.Linear(i, o, kernel_init=glorot, rngs=rngs) for i, o in itertools.pairwise(units))
        self.dropout = nnx.Dropout(0.5)

    def __call__(self, x: Float[Array, "B H W C"], *, rngs: nnx.Rngs | None = None) -> Float[Array, "B K"]:
        """The logits; with dropout if `rngs` is given."""
        for index, convolution in enumerate(self.convolutions):
            x = nnx.relu(convolution(x))
            if index % 2:
                x = max_pool(x)
        x = nnx.relu(self.layers[0](x.reshape(x.shape[0], -1)))
        x = self.dropout(x, deterministic=rngs is None, rngs=rngs)
        x = nnx.relu(self.layers[1](x))
        return self.layers[2](x)


class ResidualNet(nnx.Module):
    """conv, residual blocks, mean over all pixels, dense; 3×3 kernels, same padding.

    Channels are normalised in groups (Wu and He, 2018), each image by itself, before every ReLU. Where blocks halve the
    image they take means of 2×2 pixels: strides would be slow on CPU. Weights start as He et al. start them, biases at
    zero.

    Args:
      stages: see `NETS`.
      shape: of one input, [H, W, C].
      classes: K.
      seed: of the initial weights.
    """

    def __init__(self, stages: Stages, *, shape: Sequence[int], classes: int, seed: int):
        rngs = nnx.Rngs(seed)
        halvings = len(stages.widths) - 1
        if min(shape[:2]) < 2**halvings:
            raise ValueError(
                f"this network needs images of at least {2**halvings}×{2**halvings} pixels, got shape {list(shape)}"
            )
        self.stem = _conv(shape[-1], stages.widths[0], 3, rngs)
        plan = [
            (stages.widths[0], stages.widths[0], False),
            *((i, o, True) for i, o in itertools.pairwise(stages.widths)),
        ]
        self.blocks = nnx.List(ResidualBlock(i, o, halve, rngs) for i, o, halve in plan)
        self.norm = nnx.GroupNorm(stages.widths[-1], num_groups=None, group_size=GROUP, rngs=rngs)
        self.head = nnx.Linear(stages.widths[-1], classes, rngs=rngs)

    def __call__(self, x: Float[Array, "B H W C"], *, rngs: nnx.Rngs | None = None) -> Float[Array, "B K"]:
        """The logits; nothing is random here, with `rngs` or without."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(nnx.relu(self.norm(x)).mean((1, 2)))


class ResidualBlock(nnx.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))), where x is first halved and given its channels if it has others."""

    def __init__(self, channels: int, features: int, halve: bool, rngs: nnx.Rngs):
        self.halve = halve
        self.shortcut = _conv(channels, features, 1, rngs) if halve else None
        self.norms = nnx.List(
            nnx.GroupNorm(n, num_groups=None, group_size=GROUP, rngs=rngs) for n in (channels, features)
        )
        self.first = _conv(channels, features, 3, rngs)
        self.second = _conv(features, features, 3, rngs)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        """The block's output."""
        if self.halve:
            x = _mean_pool(x)
        branch = self.first(nnx.relu(self.norms[0](x)))
        branch = self.second(nnx.relu(self.norms[1](branch)))
        return (self.shortcut(x) if self.shortcut else x) + branch


def _conv(channels: int, features: int, size: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(channels, features, (size, size), kernel_init=nnx.initializers.he_normal(), rngs=rngs)


Net = ConvolutionalNet | ResidualNet | LayeredNet


def build(name: str, *, shape: Sequence[int], classes: int, seed: int) -> Net:
    """A freshly initialised network of `NETS`. Raises ValueError for an unknown name, images too small for it, or no
    classes.
    """
    if name not in NETS:
        raise ValueError(f"unknown network {name!r}: choose one of {', '.join(NETS)}")
    if min(*shape, classes) < 1:
        raise ValueError(f"a network needs inputs and classes, got shape {list(shape)} and {classes} classes")
    plan = NETS[name]
    if isinstance(plan, Widths):
        return ConvolutionalNet(plan, shape=shape, classes=classes, seed=seed)
    if isinstance(plan, Layers):
        return LayeredNet(plan, shape=shape, classes=classes, seed=seed)
    return ResidualNet(plan, shape=shape, classes=classes, seed=seed)


def as_model(net: nnx.Module) -> Model:
    """The model of any NNX network whose `__call__` takes a batch [B, *S] to logits [B, K], as it is at this moment."""
    graph, params = nnx.split(net)
    return bind(_Forward(graph), nnx.to_pure_dict(params))


def as_net(model: Model) -> Net:
    """The network of a model that `as_model` made."""
    forward: Any = model.apply
    return nnx.merge(forward.graph, nnx.State(model.params))


@dataclasses.dataclass(frozen=True)
class _Forward:  # a class and not a closure: equal for equal networks, so that new weights do not compile again
    graph: nnx.GraphDef

    def __call__(self, params: PyTree, x: ArrayLike) -> Array:
        return nnx.merge(self.graph, nnx.State(params))(jnp.asarray(x))


def _mean_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """2×2, by reshape, like `max_pool`."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
