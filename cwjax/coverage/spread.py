"""Covariance spread: how far the neurons of a layer vary together."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cwjax.arguments import check_count
from cwjax.coverage.convention import Activations, Convention
from cwjax.coverage.criterion import Coverage, Criterion, made


class Covariances(NamedTuple):
    mean: Float[Array, "N"]
    products: tuple[Float[Array, "n n"], ...]  # of each layer: sums of products of differences from the mean
    inputs: Int[Array, ""]  # int32: how many


def covariance_spread(convention: Convention, *, most: int = 4096) -> Criterion:
    """The mean size of the covariances of each layer's neurons, summed over layers.

    It is what neural coverage, NLC (Yuan et al. 2023, "Revisiting neuron coverage for DNN testing: a layer-wise and
    distribution-aware criterion"), would be without its rule that keeps a batch only where the norm grew: that rule
    makes NLC depend on the order and the size of batches. Here batches are merged by the formula of Chan et al. (1983),
    exact except for rounding.

    It is a spread and no coverage: it has no upper end, and more inputs may lower it. Layers of large activations
    decide about the sum, so read it layer by layer.

    Args:
      convention: of the neurons.
      most: the largest number of neurons in a layer: a covariance of 4,096 takes 64 MB.

    Raises:
      ValueError: a layer of more neurons.

    Example:
      >>> spread = cw.coverage.covariance_spread(units.convention)
      >>> round(cw.coverage.measure(units, spread, x).value, 3)
      0.211

    References:
      Yuan et al. 2023, "Revisiting neuron coverage for DNN testing: a layer-wise and distribution-aware criterion",
        https://arxiv.org/abs/2112.01955
      Chan et al. 1983, "Algorithms for computing the sample variance: analysis and recommendations", The American
        Statistician 37(3).
    """
    check_count("most", most)
    if large := [layer.name for layer in convention.layers if layer.neurons > most]:
        raise ValueError(
            f"{', '.join(large)} has more than {most:,} neurons, whose covariances are its square: take channels"
        )

    def init() -> Covariances:
        products = tuple(jnp.zeros((layer.neurons, layer.neurons), float) for layer in convention.layers)
        return Covariances(jnp.zeros(convention.neurons, float), products, jnp.zeros((), jnp.int32))

    return made(
        "covariance spread",
        convention,
        init=init,
        update=_observe,
        options={"convention": convention},
        value=partial(_value, convention=convention),
        merge=partial(_merged, convention=convention),
    )


def _observe(state: Covariances, activations: Activations, *, convention: Convention) -> Covariances:
    values = activations.values
    mean = values.mean(0)
    apart = values - mean[None]
    products = tuple(jnp.einsum("bi,bj->ij", apart[:, p], apart[:, p], precision="highest") for p in convention.slices)
    return _merged(state, Covariances(mean, products, jnp.full((), len(values), jnp.int32)), convention=convention)


def _merged(first: Covariances, second: Covariances, *, convention: Convention) -> Covariances:
    count, apart = first.inputs + second.inputs, second.mean - first.mean
    share = second.inputs.astype(apart.dtype) / jnp.maximum(count, 1).astype(apart.dtype)
    weight = first.inputs.astype(apart.dtype) * share
    products = tuple(
        one + other + weight * apart[part][:, None] * apart[part][None, :]
        for one, other, part in zip(first.products, second.products, convention.slices, strict=True)
    )
    return Covariances(first.mean + apart * share, products, count)


def _value(state: Covariances, *, convention: Convention) -> Coverage:
    count = max(int(state.inputs), 1)  # divided by the count: the inputs are all there are
    sizes = [float(np.abs(np.asarray(each, np.float64)).mean() / count) for each in state.products]
    layers = {layer.name: size for layer, size in zip(convention.layers, sizes, strict=True)}
    return Coverage("covariance spread", sum(sizes), layers, {}, convention)
