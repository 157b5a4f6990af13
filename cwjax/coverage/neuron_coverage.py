"""Neuron coverage: the neurons that some input makes larger than a threshold."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, UInt32

from cwjax.arguments import check_number
from cwjax.base import Number
from cwjax.coverage.convention import Activations, Convention
from cwjax.coverage.criterion import Coverage, Criterion, counted, made, no_bits, packed, unpacked


class Covered(NamedTuple):
    bits: UInt32[Array, "W"]  # a bit for each neuron


def neuron_coverage(convention: Convention, *, threshold: Number = 0.25, scaled: bool = True) -> Criterion:
    """Neuron coverage, NC (Pei et al. 2017, "DeepXplore: automated whitebox testing of deep learning systems").

    A neuron is covered if, for some input, it is above the threshold. As DeepXplore has it, activations are first
    scaled to [0, 1] within each layer of each input: the layer's least element is 0 and its largest is 1, before any
    channel's mean is taken. A layer that is constant is 0 everywhere.

    Args:
      convention: of the neurons: `units.convention`.
      threshold: t; covered is strictly above it. DeepXplore has 0, 0.25, 0.5 and 0.75.
      scaled: False compares activations as they are, as dnn-tip and MindArmour do: another criterion.

    Example:
      >>> nc = cw.coverage.neuron_coverage(units.convention, threshold=0.5)
      >>> cw.coverage.measure(units, nc, x[:1]).value  # in each layer, the neuron of a > b
      0.5

    References:
      Pei et al. 2017, "DeepXplore: automated whitebox testing of deep learning systems", section 4.1,
        https://arxiv.org/abs/1705.06640, and its code, https://github.com/peikexin9/deepxplore
    """
    check_number("threshold", threshold, least=-float("inf") if not scaled else 0)
    return made(
        f"NC {'' if scaled else 'raw '}(t = {threshold})",
        convention,
        init=lambda: Covered(no_bits(convention.neurons)),
        update=_cover,
        value=partial(_value, convention=convention, name=f"NC {'' if scaled else 'raw '}(t = {threshold})"),
        data=(jnp.asarray(threshold, float),),
        options={"convention": convention, "scaled": scaled},
    )


def _cover(
    state: Covered, activations: Activations, threshold: Array, *, convention: Convention, scaled: bool
) -> Covered:
    values, threshold = activations.values, threshold.astype(activations.values.dtype)
    if not scaled:
        return Covered(state.bits | packed((values > threshold).any(0)))
    width = activations.high - activations.low  # multiplied, and not divided by: the same bits in every program
    hits = [
        values[:, part] - activations.low[:, layer][:, None] > threshold * width[:, layer][:, None]
        for layer, part in enumerate(convention.slices)
    ]
    return Covered(state.bits | packed(jnp.concatenate([hit.any(0) for hit in hits])))


def _value(state: Covered, *, convention: Convention, name: str) -> Coverage:
    return counted(name, convention, unpacked(state.bits, convention.neurons))
