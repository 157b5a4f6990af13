"""Combinatorial coverage: the on-off patterns of every few neurons of a layer."""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from cwjax.arguments import check_count, check_number
from cwjax.base import Number
from cwjax.coverage.convention import Activations, Convention
from cwjax.coverage.criterion import Coverage, Criterion, made


class Seen(NamedTuple):
    patterns: tuple[UInt32[Array, "C"], ...]  # of each layer's combinations, a bit for each on-off pattern


def combination_coverage(
    convention: Convention,
    *,
    strength: int = 2,
    share: float | int | None = None,
    threshold: Number = 0.0,
    most: int = 10_000_000,
) -> Criterion:
    """t-way combination coverage: which patterns of on and off every t neurons of one layer show.

    Three measures share the state. Dense coverage is the share of all patterns of all combinations that were seen.
    (p, t)-completeness is the share of combinations of which at least p·2^t patterns were seen. Sparse coverage is
    (1, t)-completeness. Channel means after ReLU are nearly always above 0 in the first layers: sparse coverage says
    nothing there.

    Args:
      convention: of the neurons. Layers are never mixed; one with fewer than t neurons has no combinations.
      strength: t, from 1 to 5: a pattern is a bit of a word of 32.
      share: p of completeness, in (0, 1]; 1 is sparse coverage. None: dense coverage.
      threshold: a neuron is on strictly above it.
      most: the largest number of combinations to keep, 4 bytes each and 4·t more to find them. The elements of a
        convolution have far more.

    Raises:
      ValueError: more combinations than `most`, or none.

    Example:
      >>> pairs = cw.coverage.combination_coverage(units.convention, strength=2)
      >>> cw.coverage.measure(units, pairs, x).value  # on and off, off and on; never both, and never none
      0.5

    References:
      Ma et al. 2019, "DeepCT: tomographic combinatorial testing for deep learning systems",
        https://arxiv.org/abs/1806.07723
    """
    if share is not None:
        check_number("share", share, least=0, above=True, most=1)
    check_count("strength", strength, most=5)
    check_number("threshold", threshold, least=-float("inf"))
    counts = [math.comb(layer.neurons, strength) for layer in convention.layers]
    if not 0 < sum(counts) <= most:
        raise ValueError(
            f"{sum(counts):,} combinations of {strength} neurons; from 1 to {most:,} can be kept: choose other layers, "
            "the unit 'channel mean', or a larger `most`"
        )
    chosen = tuple(
        _combinations(layer.neurons, strength, count) for layer, count in zip(convention.layers, counts, strict=True)
    )
    measure = "dense" if share is None else "sparse" if share == 1 else f"complete (p = {share:g})"
    title = f"{strength}-way {measure}"

    def value(state: Seen) -> Coverage:
        full, layers = 2**strength, [layer.name for layer in convention.layers]
        counted = [np.bitwise_count(np.asarray(words)).astype(int) for words in state.patterns]
        reached = [seen if share is None else seen >= share * full for seen in counted]
        covered = {layer: int(each.sum()) for layer, each in zip(layers, reached, strict=True)}
        each = full if share is None else 1
        total = {layer: count * each for layer, count in zip(layers, counts, strict=True)}
        return Coverage(title, sum(covered.values()) / sum(total.values()), covered, total, convention)

    return made(
        title,
        convention,
        init=lambda: Seen(tuple(jnp.zeros(count, jnp.uint32) for count in counts)),
        update=_see,
        value=value,
        data=(chosen, jnp.asarray(threshold, float)),
        options={"convention": convention},
    )


def _combinations(size: int, strength: int, count: int) -> Int[Array, "C t"]:
    """Which neurons each combination is of."""
    every = itertools.chain.from_iterable(itertools.combinations(range(size), strength))
    return jnp.asarray(np.fromiter(every, np.int32, count * strength).reshape(count, strength))


def _see(
    state: Seen, activations: Activations, chosen: tuple[Array, ...], threshold: Array, *, convention: Convention
) -> Seen:
    on = (activations.values > threshold.astype(activations.values.dtype)).astype(jnp.uint32)

    def one(patterns, row):
        return tuple(
            words | _pattern(row[part], which)
            for words, part, which in zip(patterns, convention.slices, chosen, strict=True)
        ), None

    return Seen(jax.lax.scan(one, state.patterns, on)[0])


def _pattern(on: UInt32[Array, "n"], which: Int[Array, "C t"]) -> UInt32[Array, "C"]:
    """Of each combination, the bit of the pattern that it is in."""
    places = jnp.zeros(which.shape[0], jnp.uint32)
    for place in range(which.shape[1]):
        places = places | jnp.left_shift(on[which[:, place]], jnp.uint32(place))
    return jnp.left_shift(jnp.uint32(1), places)
