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
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cwjax.arguments import check_number
from cwjax.base import AnyArray, Runner
from cwjax.coverage.convention import Neurons
from cwjax.coverage.profiles import Profile
from cwjax.evaluation.metrics import norms
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

    Example:
      >>> suite = deepconcolic.neuron_cover(run, units, x[:1], radius=0.5, lanes=2)
      >>> suite.share, suite.labels.tolist()
      (1.0, [0, 1])

    References:
      Sun et al. 2018, "Concolic testing for deep neural networks", https://arxiv.org/abs/1805.00089
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

    Example:
      >>> profile = cw.coverage.profiled(units, x)
      >>> suite = deepconcolic.boundary_cover(run, units, profile, x, lanes=2)
      >>> suite.share, suite.met.shape  # each of four neurons above its range and below
      (1.0, (8,))

    References:
      Sun et al. 2018, "Concolic testing for deep neural networks", https://arxiv.org/abs/1805.00089
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
    """SSC: for each pair of neurons, two tests between which the first changes its sign, alone in its layer.

    The second neuron, in the next layer, changes its sign too. One of the two tests is one that the
    suite has, the other is searched for.

    Args:
      runner: as in `suites.grown`.
      neurons: with `value="before"`.
      pairs: places among all neurons, a condition and a decision each; `sign_pairs` draws some.
      seeds: to start from.
      **options: of `suites.grown`.

    Example:
      >>> suite = deepconcolic.sign_sign_cover(run, units, [(0, 2)], x, lanes=2, rounds=1)
      >>> suite.met.tolist()  # a - b and b - a cannot change their signs one by one
      [False]

    References:
      Sun et al. 2018, "Concolic testing for deep neural networks", https://arxiv.org/abs/1805.00089
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

    Returns:
      The places of each pair among all neurons: that which decides, and that which is decided.

    Raises:
      ValueError: a single layer, which has no pairs.

    Example:
      >>> sorted(deepconcolic.sign_pairs(units, 10))
      [(0, 2), (0, 3), (1, 2), (1, 3)]
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


class Oracle(NamedTuple):
    """What DeepConcolic's oracle says of T tests."""

    nearest: Int[np.ndarray, "T"]  # the original that is nearest to each
    distance: Float[np.ndarray, "T"]  # from it
    valid: Bool[np.ndarray, "T"]  # near enough to keep the label of that original
    adversarial: Bool[np.ndarray, "T"]  # valid, and answered otherwise


def oracle(
    x: Float[AnyArray, "T *S"],
    answers: Int[AnyArray, "T"],
    originals: Float[AnyArray, "M *S"],
    labels: Int[AnyArray, "M"],
    *,
    norm: str = "linf",
    bound: float | int = 0.3,
) -> Oracle:
    """DeepConcolic's oracle: a test should have the label of the nearest original, if that is within a bound.

    Args:
      x: the tests.
      answers: what the model says of each.
      originals: inputs that the model classifies rightly, the seeds among them.
      labels: their classes.
      norm: of the distance: "l0" (pixels), "l1", "l2" or "linf".
      bound: b, the farthest that a test may be from an original, > 0; the paper has 0.3 in L-infinity.

    Raises:
      ValueError: no originals, an unknown norm or a bound out of range.

    Example:
      >>> near, far = x[:1] + 0.1, x[:1] + 0.5
      >>> said = deepconcolic.oracle(jnp.concatenate([near, far]), np.array([1, 1]), x, labels, bound=0.3)
      >>> said.valid.tolist(), said.adversarial.tolist()
      ([True, False], [True, False])

    References:
      Sun et al. 2018, "Concolic testing for deep neural networks", definition 5, https://arxiv.org/abs/1805.00089
    """
    check_number("bound", bound, least=0, above=True)
    tests, known = np.asarray(x, np.float32), np.asarray(originals, np.float32)
    if not len(known):
        raise ValueError("the oracle compares tests with originals, and there are none")
    axis = -1 if tests.ndim == 4 else None
    far = [norms(known, np.broadcast_to(test, known.shape), channel_axis=axis) for test in tests]
    if far and norm not in far[0]:
        raise ValueError(f"norm must be one of {', '.join(far[0])}, got {norm!r}")
    every = np.stack([np.asarray(each[norm]) for each in far]) if far else np.zeros((0, len(known)))
    nearest = every.argmin(1)
    distance = every[np.arange(len(tests)), nearest]
    valid = distance <= bound + 1e-6
    return Oracle(nearest, distance, valid, valid & (np.asarray(answers) != np.asarray(labels)[nearest]))


def _check_before(neurons: Neurons) -> None:
    if neurons.convention.value != "before":
        raise ValueError(
            "these requirements are about values before the activation function: make the neurons with "
            'cw.coverage.neurons(…, value="before")'
        )
