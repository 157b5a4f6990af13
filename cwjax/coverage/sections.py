"""Multi-section coverage: how much of each neuron's range in the profile some inputs reach."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from cwjax.arguments import check_count
from cwjax.coverage.convention import Activations, Convention
from cwjax.coverage.criterion import Coverage, Criterion, counted, made, no_bits
from cwjax.coverage.profiles import Profile, bounds

FEW = 8  # words: comparing all of them takes half the time of an index at 4 words, 0.8 at 8, as long at 16 (on a CPU)


class Sections(NamedTuple):
    bits: UInt32[Array, "N W"]  # of each neuron, a bit for each section


def section_coverage(profile: Profile, *, sections: int = 1000) -> Criterion:
    """KMNC, k-multisection neuron coverage: which of k sections of each neuron's range in training are reached.

    Each neuron's range [low, high] in the profile is cut into k equal sections. A value x within it covers section
    `min(floor((x - low) / (high - low)·k), k - 1)`: both ends belong to the range. A value outside covers nothing. A
    neuron that is constant in the profile is never covered, and still counts among all.

    Memory is a bit for each section and neuron: 10,000 sections of 50,960 neurons are 64 MB.

    Args:
      profile: from `profiled`.
      sections: k, >= 1; DeepGauge has 1,000 and 10,000.

    Example:
      >>> kmnc = cw.coverage.section_coverage(profile, sections=4)
      >>> cw.coverage.measure(units, kmnc, x).value  # of each neuron the least section and the largest
      0.5

    References:
      Ma et al. 2018, "DeepGauge: multi-granularity testing criteria for deep learning systems", section 3.3,
        https://arxiv.org/abs/1803.07519
    """
    check_count("sections", sections)
    name, (low, high) = f"KMNC (k = {sections:,})", bounds(profile)
    return made(
        name,
        profile.convention,
        init=lambda: Sections(no_bits(profile.convention.neurons, sections)),
        update=_cover,
        value=partial(_value, convention=profile.convention, name=name, sections=sections),
        data=(low, high, _scale(low, high, sections)),
        options={"sections": sections},
        network=profile.network,
    )


def _scale(low: Array, high: Array, sections: int) -> Array:
    """Sections to a unit of each neuron, 0 for one that is constant. Divided once and here: compilers may make of a
    division a product with the inverse, in one program and not in another, and then the last bits would differ.
    """
    width = np.asarray(high) - np.asarray(low)
    with np.errstate(divide="ignore", over="ignore"):
        scale = (sections / width).astype(width.dtype)
    return jnp.asarray(np.where(np.isfinite(scale), scale, 0))  # a width that is hardly above 0 counts as none


def _cover(
    state: Sections, activations: Activations, low: Array, high: Array, scale: Array, *, sections: int
) -> Sections:
    neurons, words = jnp.arange(low.shape[0]), jnp.arange(state.bits.shape[1])

    def found(values):
        """Of each neuron, the word of its section, and the bit in it: none if the value is outside of the range."""
        inside = (values >= low) & (values <= high) & (scale > 0)
        place = jnp.clip(jnp.floor((values - low) * scale), 0, sections - 1)
        place = jnp.where(inside, place, 0).astype(jnp.int32)
        bit = jnp.left_shift(jnp.uint32(1), (place % 32).astype(jnp.uint32))
        return place // 32, jnp.where(inside, bit, jnp.uint32(0))

    def few(bits, values):
        word, bit = found(values)
        return bits | jnp.where(words[:, None] == word[None], bit[None], jnp.uint32(0)), None

    def many(bits, values):
        word, bit = found(values)
        at = bits.at[neurons, word]
        joined = at.get(mode="promise_in_bounds") | bit
        return at.set(joined, unique_indices=True, indices_are_sorted=True, mode="promise_in_bounds"), None

    if len(words) <= FEW:
        return Sections(jax.lax.scan(few, state.bits.T, activations.values)[0].T)
    return Sections(jax.lax.scan(many, state.bits, activations.values)[0])


def _value(state: Sections, *, convention: Convention, name: str, sections: int) -> Coverage:
    covered = np.bitwise_count(np.asarray(state.bits)).sum(1, dtype=np.int64)
    return counted(name, convention, covered, each=sections)
