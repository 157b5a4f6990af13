"""DeepCT: tests for the on-off patterns of every few neurons of a layer that nothing has reached yet.

units  = cw.coverage.neurons(model, x, layers=["relu_4", "relu_5"], value="before")
left   = deepct.patterns_left(suites.values_of(units, x), units.convention, most=500)
suite  = deepct.combination_cover(run, units, x, left)              # `run` as for DeepConcolic
print(suite.share, suite.adversarial.mean())
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cwjax.arguments import check_count
from cwjax.base import AnyArray, Runner
from cwjax.coverage.convention import Convention, Neurons
from cwjax.generation.requirements import patterns_reached
from cwjax.generation.suites import Suite, grown


class Patterns(NamedTuple):
    """Patterns of t neurons of a layer."""

    neurons: Int[np.ndarray, "P t"]  # their places among all neurons
    on: Bool[np.ndarray, "P t"]


def patterns_left(
    values: Float[AnyArray, "T N"],
    convention: Convention,
    *,
    strength: int = 2,
    most: int = 1000,
    threshold: float | int = 0.0,
    combinations: int = 1_000_000,
    seed: int = 0,
) -> Patterns:
    """Patterns that no test reaches, drawn at random (Ma et al. 2019, "DeepCT", section III).

    Args:
      values: of all neurons, of each test.
      convention: of the neurons; layers are never mixed.
      strength: t, the neurons of a pattern, from 1 to 5.
      most: how many patterns to draw; all that are left, where there are fewer.
      threshold: a neuron is on strictly above it.
      combinations: of a layer, how many to look at, at most; where it has more, they are drawn at random.
      seed: of the draw.

    Raises:
      ValueError: no layer with t neurons.

    Example:
      >>> from cwjax.generation import deepct, suites
      >>> left = deepct.patterns_left(suites.values_of(units, x), units.convention)
      >>> left.on.sum(1).tolist()  # of each layer both neurons on, or none
      [2, 0, 0, 2]

    References:
      Ma et al. 2019, "DeepCT: tomographic combinatorial testing for deep learning systems", section III,
        https://arxiv.org/abs/1806.07723
    """
    check_count("strength", strength, most=5)
    check_count("most", most)
    rng, neurons, on = np.random.default_rng(seed), [], []
    configurations = np.array(list(itertools.product([False, True], repeat=strength)))
    for part, layer in zip(convention.slices, convention.layers, strict=True):
        if layer.neurons < strength:
            continue
        chosen = part.start + _combinations(layer.neurons, strength, combinations, rng)
        active = np.asarray(values)[:, chosen] > threshold  # [T, C, t]
        codes = active @ (1 << np.arange(strength)[::-1])
        missing = np.stack([(codes != code).all(0) for code in range(2**strength)], 1)
        which, code = np.nonzero(missing)
        kept = rng.permutation(len(which))[:most]
        neurons.append(chosen[which[kept]])
        on.append(configurations[code[kept]])
    if not neurons:
        raise ValueError(f"no layer of {convention} has {strength} neurons")
    every, wanted = np.concatenate(neurons), np.concatenate(on)
    kept = rng.permutation(len(every))[:most]
    return Patterns(every[kept], wanted[kept])


def combination_cover(
    runner: Runner | Callable[..., Any],
    neurons: Neurons,
    seeds: Float[AnyArray, "B *S"],
    patterns: Patterns,
    *,
    threshold: float | int = 0.0,
    **options: Any,
) -> Suite:
    """Tests around the seeds for these patterns, many at once.

    Args:
      runner: as in `suites.grown`.
      neurons: with `value="before"`, so that a neuron that is off has a slope. For a dense layer before and after are
        on at the same inputs.
      seeds: to start from.
      patterns: from `patterns_left`, at least one.
      threshold: as there.
      **options: of `suites.grown`: `radius`, `lanes`, `rounds`, `seed`.

    Example:
      >>> from cwjax.generation import deepct
      >>> patterns = deepct.Patterns(np.array([[0, 1], [0, 1]]), np.array([[False, True], [True, True]]))
      >>> suite = deepct.combination_cover(run, units, x[:1], patterns, radius=0.5, lanes=2)
      >>> suite.met.tolist()  # a - b and b - a are never both above 0
      [True, False]

    References:
      Ma et al. 2019, "DeepCT: tomographic combinatorial testing for deep learning systems", section III,
        https://arxiv.org/abs/1806.07723
    """
    return grown(
        runner,
        neurons,
        seeds,
        lambda which, values: patterns_reached(
            neurons.convention, patterns.neurons[which], patterns.on[which], threshold=threshold
        ),
        len(patterns.neurons),
        **options,
    )


def _combinations(size: int, strength: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """The sets of t of `size` neurons, or `most` of them."""
    count = math.comb(size, strength)
    if count <= most:
        every = itertools.chain.from_iterable(itertools.combinations(range(size), strength))
        return np.fromiter(every, int, count * strength).reshape(count, strength)
    drawn = np.sort(np.argsort(rng.random((most, size)), 1)[:, :strength], 1)
    return np.unique(drawn, axis=0)
