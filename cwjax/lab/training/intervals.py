"""What a network may answer anywhere in a ball around an image: interval bounds, to train by and to certify with.

References:
  Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models", 2018:
  https://arxiv.org/abs/1810.12715.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from cwjax.lab.data import Dataset
from cwjax.lab.training.label_losses import Labels
from cwjax.lab.training.layered import LayeredNet, max_pool

BATCH = 500  # images that are certified at once


class Interval(NamedTuple):
    """Every value between two arrays, element by element."""

    low: Float[Array, "*S"]
    high: Float[Array, "*S"]


def ball(images: Float[Array | np.ndarray, "*S"], epsilon: Any) -> Interval:
    """All images within epsilon in L-infinity, and within [0, 1]."""
    return Interval(jnp.maximum(images - epsilon, 0), jnp.minimum(images + epsilon, 1))


def bounds(net: LayeredNet, inputs: Interval) -> Interval:
    """Between which values each logit is for all inputs (the paper's section 3, equations 5 to 7)."""
    return _dense(net.layers[-1], _hidden(net, inputs))


def worst_logits(net: LayeredNet, inputs: Interval, labels: Labels) -> Float[Array, "B K"]:
    """The most by which each logit may be above the label's, a class each; 0 for the label itself.

    Differences of two logits are bounded, not the logits one by one, by taking the last layer's rows apart from each
    other: that is tighter (section 3, "elision of the last layer").
    """
    hidden = _hidden(net, inputs)
    last: Any = net.layers[-1]
    kernel, bias = jnp.asarray(last.kernel.get_value()), jnp.asarray(last.bias.get_value())
    differences = kernel.T[None] - kernel.T[labels][:, None]  # [B, K, units]
    center, radius = (hidden.low + hidden.high) / 2, (hidden.high - hidden.low) / 2
    most = jnp.einsum("bu,bku->bk", center, differences) + jnp.einsum("bu,bku->bk", radius, jnp.abs(differences))
    return most + bias[None] - bias[labels][:, None]


def certified_accuracy(net: nnx.Module, dataset: Dataset, *, epsilon: float) -> float:
    """The share of images whose label wins for every image within epsilon in L-infinity: no attack can do better.

    Raises:
      ValueError: the network has no interval bounds.
    """
    graph, params = nnx.split(bounded(net))

    @jax.jit
    def certified(params, images, labels):
        most = worst_logits(nnx.merge(graph, params), ball(images, epsilon), labels)
        others = jnp.arange(most.shape[1])[None] != labels[:, None]
        return (~others | (most < 0)).all(1).sum()

    parts = [slice(i, i + BATCH) for i in range(0, len(dataset.labels), BATCH)]
    return float(sum(certified(params, dataset.images[p], dataset.labels[p]) for p in parts)) / len(dataset.labels)


def bounded(net: nnx.Module) -> LayeredNet:
    """The network itself, if it has interval bounds. Raises ValueError if not."""
    if not isinstance(net, LayeredNet) or net.winners is not None:
        raise ValueError(
            f"interval bounds need a network of layers with ReLU, got a {type(net).__name__}: choose mnist_small, "
            "mnist_dense or mnist_lenet"
        )
    return net


def _hidden(net: LayeredNet, inputs: Interval) -> Interval:
    """What the last layer is given. ReLU and max-pool never fall where their input grows, so both ends pass through."""
    for convolution in net.convolutions:
        inputs = _convolved(convolution, inputs)
        inputs = _through(nnx.relu, _through(max_pool, inputs) if net.pool else inputs)
    inputs = _through(lambda x: x.reshape(x.shape[0], -1), inputs)
    for layer in net.layers[:-1]:
        inputs = _through(nnx.relu, _dense(layer, inputs))
    return inputs


def _through(function, inputs: Interval) -> Interval:
    return Interval(function(inputs.low), function(inputs.high))


def _affine(layer: Any, product, inputs: Interval) -> Interval:
    """The layer at the center, and more and less by the size of its weights times the radius (equation 6)."""
    kernel, bias = (jnp.asarray(value.get_value()) for value in (layer.kernel, layer.bias))
    center = product((inputs.low + inputs.high) / 2, kernel)
    center += bias.reshape((1,) * (center.ndim - 1) + (-1,))
    radius = product((inputs.high - inputs.low) / 2, jnp.abs(kernel))
    return Interval(center - radius, center + radius)


def _dense(layer: nnx.Linear, inputs: Interval) -> Interval:
    return _affine(layer, jnp.matmul, inputs)


def _convolved(layer: Any, inputs: Interval) -> Interval:
    plan = {"window_strides": (layer.strides,) * 2, "padding": layer.padding}

    def product(x, kernel):
        return lax.conv_general_dilated(x, kernel, **plan, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    return _affine(layer, product, inputs)
