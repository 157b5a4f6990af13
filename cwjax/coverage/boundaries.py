"""Boundary coverage: the neurons that some input drives out of the range of their profile."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from cwjax.arguments import check_number
from cwjax.base import Number
from cwjax.coverage.convention import Activations, Convention
from cwjax.coverage.criterion import Coverage, Criterion, counted, made, no_bits, packed, unpacked
from cwjax.coverage.profiles import Profile, bounds


class Corners(NamedTuple):
    lower: UInt32[Array, "W"]  # a bit for each neuron that was below its range
    upper: UInt32[Array, "W"]  # and one for each that was above


class Upper(NamedTuple):
    upper: UInt32[Array, "W"]


def boundary_coverage(profile: Profile, *, offset: Number = 0.0) -> Criterion:
    """NBC, neuron boundary coverage: which neurons leave the range that they had in training, above and below.

    A neuron has two corners: below `low - offset·σ` and above `high + offset·σ`, both strictly. So the profile's own
    inputs cover nothing, and a neuron that is constant in the profile is covered as soon as it is anything else.

    After ReLU there is hardly a lower corner, because most neurons have low = 0: take the value before it, or say so.

    Args:
      profile: from `profiled`. σ is its standard deviation, divided by the count.
      offset: in standard deviations, >= 0; DeepGauge has 0, 0.5 and 1.

    Example:
      >>> nbc = cw.coverage.boundary_coverage(profile)
      >>> cw.coverage.measure(units, nbc, jnp.array([[1.0, 0.0]])).value  # two of eight corners
      0.25

    References:
      Ma et al. 2018, "DeepGauge: multi-granularity testing criteria for deep learning systems", section 3.3,
        https://arxiv.org/abs/1803.07519
    """
    return _criterion("NBC", profile, offset, _cover_corners, Corners)


def strong_activation_coverage(profile: Profile, *, offset: Number = 0.0) -> Criterion:
    """SNAC, strong neuron activation coverage: the upper corners of `boundary_coverage` alone.

    Args:
      profile: from `profiled`.
      offset: in standard deviations, >= 0.

    Example:
      >>> snac = cw.coverage.strong_activation_coverage(profile)
      >>> cw.coverage.measure(units, snac, jnp.array([[1.0, 0.0]])).value
      0.5

    References:
      Ma et al. 2018, "DeepGauge: multi-granularity testing criteria for deep learning systems", section 3.3,
        https://arxiv.org/abs/1803.07519
    """
    return _criterion("SNAC", profile, offset, _cover_upper, Upper)


def _criterion(name: str, profile: Profile, offset: Number, update, state) -> Criterion:
    check_number("offset", offset, least=0)
    low, high = bounds(profile)
    margin = jnp.asarray(offset, low.dtype) * jnp.asarray(profile.deviation)
    sides, title = len(state._fields), f"{name} (offset {float(offset):g} σ)"
    return made(
        title,
        profile.convention,
        init=lambda: state(*(no_bits(profile.convention.neurons) for _ in range(sides))),
        update=update,
        value=partial(_value, convention=profile.convention, name=title),
        data=(low - margin, high + margin),
        network=profile.network,
    )


def _cover_corners(state: Corners, activations: Activations, low: Array, high: Array) -> Corners:
    upper = _cover_upper(Upper(state.upper), activations, low, high).upper
    return Corners(state.lower | packed((activations.values < low[None]).any(0)), upper)


def _cover_upper(state: Upper, activations: Activations, low: Array, high: Array) -> Upper:
    return Upper(state.upper | packed((activations.values > high[None]).any(0)))


def _value(state: Corners | Upper, *, convention: Convention, name: str) -> Coverage:
    bits = [unpacked(words, convention.neurons).astype(int) for words in state]
    return counted(name, convention, np.sum(bits, axis=0), each=len(bits))
