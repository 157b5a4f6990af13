"""DeepConcolic's Lipschitz requirements: near a seed there are two inputs between which an output changes by more than
c times their distance.

    suite = lipschitz.lipschitz_cover(run, model, x, constants=[1, 2, 5, 10])
    print(suite.met.mean(0), suite.ratio.max())
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_count, check_model, check_number
from cwjax.base import AnyArray, Number, Outputs, Result, Runner
from cwjax.goals import value_left
from cwjax.models import Model

LEAST = 1e-6  # of a distance, in the ratio: two inputs that are one have no steepness


class LipschitzSuite(NamedTuple):
    """The steepest pair of inputs around each seed, and which constants it exceeds."""

    pairs: Float[np.ndarray, "B 2 *S"]
    ratio: Float[np.ndarray, "B"]  # of the change of the output to the L2 distance
    constants: Float[np.ndarray, "C"]  # ascending
    met: Bool[np.ndarray, "B C"]
    labels: Int[np.ndarray, "B 2"]  # what the model answers for each input


def steepness(model: Model) -> Model:
    """A model of pairs of inputs [2, *S], which returns how steeply a logit changes between them.

    `|Z_k(x1) - Z_k(x2)| / |x1 - x2|_2`, one number, with the class k as its context. "Steeper than c" is then the goal
    `cw.goals.value_left([0], c)`, for `cw.objectives.tolerance`.

    Args:
      model: a classifier.

    Example:
      >>> from cwjax.generation import lipschitz
      >>> pair = jnp.array([[0.9, 0.1], [0.8, 0.1]])  # class 0 falls by as much as a does
      >>> steep = lipschitz.steepness(network)
      >>> print(np.asarray(steep.apply(steep.params, pair[None], jnp.array([0]))).round(2))
      [1.]
    """
    check_model(model)
    return Model(apply=_Steep(model.apply), params=model.params)


@dataclasses.dataclass(frozen=True)
class _Steep:
    apply: Callable[..., Outputs]

    def __call__(self, params: Any, pairs: Array, outputs: Array) -> Array:
        flat = pairs.reshape(-1, *pairs.shape[2:])
        both = self.apply(params, flat).reshape(len(pairs), 2, -1)
        chosen = jnp.take_along_axis(both, outputs[:, None, None], 2)[..., 0]
        step = (pairs[:, 0] - pairs[:, 1]).reshape(len(pairs), -1)
        return jnp.abs(chosen[:, 0] - chosen[:, 1]) / jnp.sqrt(jnp.sum(step**2, 1) + LEAST**2)


def lipschitz_cover(
    runner: Runner | Callable[..., Any],
    model: Model,
    seeds: Float[AnyArray, "B *S"],
    constants: Sequence[float],
    *,
    radius: Number = 0.1,
    pause: int = 1,
    seed: int = 0,
) -> LipschitzSuite:
    """For each seed, the steepest pair of inputs around it, and which Lipschitz constants it exceeds.

    A constant c is met by two inputs in the box around the seed between which the logit of the seed's class changes by
    more than c times their L2 distance (requirement 3).

    The search climbs: the constants are tried from the least to the largest, each from the steepest pair so far. The
    paper moves one of the two inputs by a compass search, and then the other one.

    Args:
      runner: of an attack with the objective `cw.objectives.tolerance(hinged=False)` that may go anywhere in the box,
        such as `jax.jit(cw.batched(cw.attacks.pgd(epsilon=1, relative_step=0.01, random_start=False, objective=…)))`.
      model: a classifier.
      seeds: inputs in [0, 1].
      constants: at least one, each > 0.
      radius: of the box, in L-infinity, > 0; the paper's code has 0.1.
      pause: after this number of constants in a row that no seed newly meets, the larger ones are not tried.
      seed: of the other input of each first pair: a corner of the box.

    Raises:
      ValueError: no constants, or numbers out of range.

    Example:
      >>> from cwjax.generation import lipschitz
      >>> objective = cw.objectives.tolerance(hinged=False)
      >>> attack = cw.attacks.pgd(
      ...     epsilon=1.0, norm="l2", relative_step=0.02, steps=20, random_start=False, objective=objective
      ... )
      >>> steep = jax.jit(cw.batched(attack))
      >>> suite = lipschitz.lipschitz_cover(steep, network, x[:1], [0.5, 1.0, 2.0])  # a - b has the constant √2
      >>> suite.met.tolist()
      [[True, True, False]]

    References:
      Sun et al. 2018, "Concolic testing for deep neural networks", requirement 3, https://arxiv.org/abs/1805.00089
    """
    check_number("radius", radius, least=0, above=True)
    check_count("pause", pause)
    every = np.sort(np.asarray(constants, np.float32).ravel())
    if not every.size or not (every > 0).all() or not np.isfinite(every).all():
        raise ValueError(f"constants must be at least one number more than 0, got {list(constants)}")
    x, steep, rng = np.asarray(seeds, np.float32), steepness(model), np.random.default_rng(seed)
    low, high = (np.repeat(np.clip(x + side * radius, 0, 1)[:, None], 2, 1) for side in (-1, 1))
    outputs = _labels(model, x)
    corner = np.clip(x + radius * rng.choice([-1.0, 1.0], x.shape), 0, 1).astype(np.float32)
    pairs = np.stack([x, corner], 1)
    ratio, idle = np.asarray(_ratios(steep, pairs, outputs)), 0
    for number, constant in enumerate(every):
        if (ratio > constant).all():
            continue
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), len(x))
        goal = value_left(np.zeros(len(x)), constant, side="above")
        said = runner(steep, keys, jnp.asarray(pairs), goal, low=low, high=high, context=outputs)
        result = said if isinstance(said, Result) else said[0]
        made = np.asarray(result.x)
        now = np.asarray(_ratios(steep, made, outputs))
        better = now > ratio
        idle = 0 if (better & (now > constant)).any() else idle + 1
        pairs = np.where(better.reshape(-1, *[1] * x.ndim), made, pairs)
        ratio = np.maximum(ratio, now)
        if idle >= pause:
            break
    labels = np.stack([_labels(model, pairs[:, i]) for i in (0, 1)], 1)
    return LipschitzSuite(pairs, ratio, every, ratio[:, None] > every, labels)


def random_steepness(
    model: Model,
    x: Float[AnyArray, "*S"],
    *,
    pairs: int = 10_000,
    radius: Number = 0.1,
    batch: int = 500,
    seed: int = 0,
) -> float:
    """The largest ratio of random pairs in the box around one input: what a search has to beat.

    Args:
      model: a classifier.
      x: the input, in [0, 1].
      pairs: how many; rounded up to whole batches.
      radius: of the box, in L-infinity.
      batch: pairs at once.
      seed: of the draws, which are uniform in the box.

    Example:
      >>> from cwjax.generation import lipschitz
      >>> round(lipschitz.random_steepness(network, x[0], pairs=500), 1)  # nearly √2
      1.4
    """
    check_count("pairs", pairs)
    check_count("batch", batch)
    steep, rng, largest = steepness(model), np.random.default_rng(seed), 0.0
    x = np.asarray(x)  # also where JAX refuses to promote ranks
    outputs = np.repeat(_labels(model, x[None]), batch)
    for _ in range(-(-pairs // batch)):
        drawn = x + radius * rng.uniform(-1, 1, (batch, 2, *np.shape(x)))
        ratios = _ratios(steep, np.clip(drawn, 0, 1).astype(np.float32), outputs)
        largest = max(largest, float(np.asarray(ratios).max()))
    return largest


def _labels(model: Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(_outputs(model, jnp.asarray(x))).argmax(-1).astype(np.int32)


@jax.jit
def _outputs(model: Model, x: Array) -> Outputs:
    return model.of_batch(x)


@jax.jit
def _ratios(steep: Model, pairs: Array, outputs: Array) -> Float[Array, "B"]:
    return steep.of_batch(pairs, outputs)
