"""DeepConcolic: tests from one seed or a few that cover neurons, boundaries and pairs of signs.

    units  = cw.coverage.neurons(model, x, layers="activation", value="before")
    attack = cw.attacks.fmn(norm="linf", objective=requirements.neurons_reached(hinged=False), steps=40)
    run    = jax.jit(cw.discretised(cw.batched(attack), between=(0, 1)))
    suite  = deepconcolic.neuron_cover(run, units, x[:1])
    print(suite.share, suite.adversarial.mean(), suite.distance[1:].min())

The paper looks for each test with a linear program that keeps the signs of all neurons before the target's layer. Here
attacks by gradients look, for many requirements at once. `linear_program.nearest_in_region` is a second opinion.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from cwjax.base import AnyArray, Runner
from cwjax.coverage.convention import Neurons
from cwjax.coverage.profiles import Profile
from cwjax.generation.requirements import bounds_left, neurons_activated, signs_paired
from cwjax.generation.suites import Suite, grown


def neuron_cover(
    runner: Runner | Callable[..., Any], neurons: Neurons, seeds: Float[AnyArray, "B *S"], **options: Any
) -> Suite:
    """Every neuron is to be above 0 on some test: NC of Sun et al. 2018, "Concolic testing for deep neural networks".

    Args:
      runner: as in `suites.grown`.
      neurons: with `value="before"`: values before the activation function.
      seeds: to start from; the paper has one.
      **options: of `suites.grown`: `radius`, `lanes`, `rounds`, `seed`.

    References:
      https://arxiv.org/abs/1805.00089
    """
    _check_before(neurons)
    convention = neurons.convention
    return grown(
        runner,
        neurons,
        seeds,
        lambda which, values: neurons_activated(convention, which),
        convention.neurons,
        **options,
    )


def boundary_cover(
    runner: Runner | Callable[..., Any],
    neurons: Neurons,
    profile: Profile,
    seeds: Float[AnyArray, "B *S"],
    **options: Any,
) -> Suite:
    """Every neuron is to leave its range in training, once above and once below: NBC.

    Requirement 2·i is neuron i above its range, 2·i + 1 below.

    Args:
      runner: as in `suites.grown`.
      neurons: with `value="before"`.
      profile: of these neurons, on training inputs.
      seeds: to start from.
      **options: of `suites.grown`.
    """
    _check_before(neurons)
    return grown(
        runner,
        neurons,
        seeds,
        lambda which, values: bounds_left(profile, which // 2, which % 2 == 0),
        2 * neurons.convention.neurons,
        **options,
    )


def sign_sign_cover(
    runner: Runner | Callable[..., Any],
    neurons: Neurons,
    pairs: Sequence[tuple[int, int]],
    seeds: Float[AnyArray, "B *S"],
    **options: Any,
) -> Suite:
    """For each pair, two tests between which the first neuron's sign alone of its layer differs, and the sign of the
    second, in the next layer: SSC. One of the two is a test that the suite has, the other is searched for.

    Args:
      runner: as in `suites.grown`.
      neurons: with `value="before"`.
      pairs: places among all neurons, a condition and a decision each; `sign_pairs` draws some.
      seeds: to start from.
      **options: of `suites.grown`.
    """
    _check_before(neurons)
    chosen = np.asarray(pairs, int).reshape(-1, 2)
    return grown(
        runner,
        neurons,
        seeds,
        lambda which, values: signs_paired(values, neurons.convention, chosen[which, 0], chosen[which, 1]),
        len(chosen),
        relative=True,
        **options,
    )


def sign_pairs(neurons: Neurons, count: int, *, seed: int = 0) -> list[tuple[int, int]]:
    """Pairs of neurons of neighbouring layers, drawn at random without repetition; all, where there are no more.

    Args:
      neurons: of two layers or more.
      count: how many.
      seed: of the draw.

    Raises:
      ValueError: a single layer, which has no pairs.
    """
    parts = neurons.convention.slices
    sizes = [(first.stop - first.start) * (second.stop - second.start) for first, second in itertools.pairwise(parts)]
    if not sizes:
        raise ValueError("sign-sign cover needs neurons of two layers or more, and these are of one")
    places = np.random.default_rng(seed).permutation(sum(sizes))[:count]
    ends = np.cumsum(sizes)
    found = []
    for place in places:
        layer = int(np.searchsorted(ends, place, side="right"))
        inside = int(place - (ends[layer] - sizes[layer]))
        wide = parts[layer + 1].stop - parts[layer + 1].start
        found.append((parts[layer].start + inside // wide, parts[layer + 1].start + inside % wide))
    return found


def _check_before(neurons: Neurons) -> None:
    if neurons.convention.value != "before":
        raise ValueError(
            "these requirements are about values before the activation function: make the neurons with "
            'cw.coverage.neurons(…, value="before")'
        )
