"""Fuzzing: a queue of inputs, mutants of them, and those are kept that do something new.

    mutate  = fuzzing.transformed([TRANSFORMS["brightness"], TRANSFORMS["rotation"]])
    novelty = fuzzing.new_coverage(cw.coverage.neuron_coverage(units.convention))
    found   = fuzzing.fuzzed(units, x, labels, mutate=mutate, novelty=novelty, rounds=20)
    print(found.wrong.sum(), "mutants that the network gets wrong")

The loop is one; what is new (`novelty`) and how inputs change (`mutations`) are its arguments. `deephunter` and
`tensorfuzz` are two settings.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_count, check_number, check_part
from cwjax.base import AnyArray, Number
from cwjax.coverage.convention import Activations, Neurons
from cwjax.coverage.criterion import Criterion
from cwjax.generation.mutations import Mutants as Mutants
from cwjax.generation.mutations import noisy as noisy
from cwjax.generation.mutations import transformed as transformed
from cwjax.generation.novelty import Novelty as Novelty
from cwjax.generation.novelty import far_outputs as far_outputs
from cwjax.generation.novelty import new_coverage as new_coverage
from cwjax.generation.transforms import TRANSFORMS


class Fuzzed(NamedTuple):
    """What a run of the loop came to."""

    x: Float[np.ndarray, "Q *S"]  # the queue: the seeds first
    origin: Int[np.ndarray, "Q"]  # the seed that each goes back to
    labels: Int[np.ndarray, "Q"]  # what the network answers
    wrong: Bool[np.ndarray, "Q"]  # whether that is not the label of the seed
    tried: int  # mutants that were made
    valid: int  # of them, those that may keep their seed's label
    failures: Float[np.ndarray, "F *S"]  # valid mutants that the network gets wrong, new or not
    failed_from: Int[np.ndarray, "F"]  # the seed of each


def fuzzed(
    neurons: Neurons,
    seeds: Float[AnyArray, "B *S"],
    labels: Int[AnyArray, "B"],
    *,
    mutate: Callable[[Array, Array], Mutants],
    novelty: Novelty,
    valid: Callable[[Array, Array], Bool[Array, ""]] | None = None,
    near: Callable[[Array, Array], Array] | None = None,
    rounds: int = 100,
    mutants: int = 20,
    choose: Callable[[np.random.Generator, np.ndarray], int] | None = None,
    seed: int = 0,
) -> Fuzzed:
    """The loop of DeepHunter, TensorFuzz and DeepTest: mutants that are valid and new join the queue.

    In each round a parent of the queue has `mutants` mutants.

    A mutant of a mutant is judged against its reference: the seed, or the last of its ancestors that moved pixels. At
    most one ancestor has done so.

    Args:
      neurons: of a classifier.
      seeds: inputs in [0, 1].
      labels: their classes.
      mutate: `(keys [B], x [B, *S]) -> Mutants`; see `transformed` and `noisy`.
      novelty: what is new; see `new_coverage` and `far_outputs`.
      valid: `(reference, mutant) -> whether it may keep its label`, of one input; None: all are valid.
      near: `(reference, mutant) -> the mutant, moved to where it may be`, of one input; None: it stays where it is.
      rounds: parents to take.
      mutants: of each parent.
      choose: `(generator, how often each of the queue was taken) -> a place`; None: uniformly.
      seed: of all randomness.

    Raises:
      ValueError: numbers out of range.

    Example:
      >>> from cwjax.generation import fuzzing
      >>> found = fuzzing.fuzzed(units, x, labels, **fuzzing.tensorfuzz(threshold=0.1), rounds=2, mutants=4)
      >>> found.tried, found.origin[:2].tolist()
      (8, [0, 1])

    References:
      Xie et al. 2019, "DeepHunter: a coverage-guided fuzz testing framework for deep neural networks",
        https://doi.org/10.1145/3293882.3330579
      Odena et al. 2019, "TensorFuzz: debugging neural networks with coverage-guided fuzzing",
        https://arxiv.org/abs/1807.10875
    """
    check_part("neurons", neurons, Neurons)
    check_part("novelty", novelty, Novelty)
    check_count("rounds", rounds)
    check_count("mutants", mutants)
    make, key = jax.jit(mutate), jax.random.key(seed)
    rng, allowed = np.random.default_rng(seed), jax.jit(jax.vmap(valid or (lambda reference, x: jnp.array(True))))
    moving = jax.jit(jax.vmap(near)) if near else None
    x, origin = [np.asarray(each, np.float32) for each in seeds], list(range(len(seeds)))
    reference, moved, taken = list(x), [False] * len(x), [0] * len(x)
    state, said = novelty.init(), []
    for each in x:
        outputs, activations = _seen(neurons, np.resize(each, (mutants, *each.shape)))
        state, _ = novelty.after(state, activations, outputs, 0)
        said.append(int(outputs[0].argmax()))
    tried, passed, failures, failed_from = 0, 0, [], []
    for _ in range(rounds):
        place = choose(rng, np.asarray(taken)) if choose else int(rng.integers(len(x)))
        taken[place] += 1
        key, own = jax.random.split(key)
        made = jax.tree.map(np.asarray, make(jax.random.split(own, mutants), np.stack([x[place]] * mutants)))
        like = np.stack([reference[place]] * mutants)
        if moving:
            made = made._replace(x=np.asarray(moving(like, made.x)))
        # pixels that move are judged from where they came to; they may move once
        kept = np.asarray(allowed(like, made.x))
        kept = np.where(made.affine, not moved[place], kept)
        outputs, activations = _seen(neurons, made.x)
        tried, passed = tried + mutants, passed + int(kept.sum())
        for row in map(int, np.flatnonzero(kept)):
            answer = int(outputs[row].argmax())
            if answer != labels[origin[place]]:
                failures.append(made.x[row])
                failed_from.append(origin[place])
            state, new = novelty.after(state, activations, outputs, row)
            if new:
                x.append(made.x[row])
                origin.append(origin[place])
                reference.append(made.x[row] if made.affine[row] else reference[place])
                moved.append(bool(moved[place] or made.affine[row]))
                taken.append(0)
                said.append(answer)
    answers, came = np.asarray(said), np.asarray(origin)
    lost = np.stack(failures) if failures else np.zeros((0, *x[0].shape), np.float32)
    wrong = answers != np.asarray(labels)[came]
    return Fuzzed(np.stack(x), came, answers, wrong, tried, passed, lost, np.asarray(failed_from, int))


def close(*, changed: Number = 0.02, largest: Number = 0.2) -> Callable[[Array, Array], Bool[Array, ""]]:
    """DeepHunter's validity: few elements changed, by any amount, or all of them by little.

    Args:
      changed: the share of elements that may change by any amount, in [0, 1].
      largest: how much each may change otherwise, in the unit of x.

    Returns:
      `(reference, mutant) -> whether it is close`, of one input.

    Example:
      >>> from cwjax.generation import fuzzing
      >>> valid = fuzzing.close(changed=0.5, largest=0.2)
      >>> clean = jnp.zeros(4)
      >>> [bool(valid(clean, mutant)) for mutant in (clean.at[0].set(1.0), clean + 0.1, clean + 0.5)]
      [True, True, False]

    References:
      Xie et al. 2019, "DeepHunter: a coverage-guided fuzz testing framework for deep neural networks", section 4.1,
        https://doi.org/10.1145/3293882.3330579
    """
    check_number("changed", changed, least=0, most=1)
    check_number("largest", largest, least=0)

    def valid(reference: Array, x: Array) -> Bool[Array, ""]:
        change = jnp.abs(x - reference)
        return (jnp.mean(change > 0) < changed) | (jnp.max(change) < largest)

    return valid


def within(radius: Number) -> Callable[[Array, Array], Array]:
    """A mutant is clipped to the ball around its reference, in L-infinity: TensorFuzz's.

    Args:
      radius: of the ball, > 0, in the unit of x.

    Returns:
      `(reference, mutant) -> the mutant, moved`, of one input.

    Example:
      >>> from cwjax.generation import fuzzing
      >>> print(fuzzing.within(0.25)(jnp.array([0.5, 0.5]), jnp.array([0.6, 1.0])))
      [0.6  0.75]

    References:
      Odena et al. 2019, "TensorFuzz: debugging neural networks with coverage-guided fuzzing",
        https://arxiv.org/abs/1807.10875
    """
    check_number("radius", radius, least=0, above=True)
    return lambda reference, x: jnp.clip(x, reference - radius, reference + radius)


def seldom_taken(*, least: float = 0.3, first: float = 0.8, decay: float = 5.0) -> Callable[..., int]:
    """DeepHunter's choice of a parent: those that were seldom taken are likelier.

    A parent is taken with a chance of `first - taken / decay`, and at least `least`: equation 3, with the numbers of
    the public code.

    Args:
      least: of the chances.
      first: of what was never taken.
      decay: gamma: how often a parent is taken until its chance has fallen by 1.

    Returns:
      `(generator, how often each was taken) -> a place`.

    Example:
      >>> from cwjax.generation import fuzzing
      >>> choose, rng = fuzzing.seldom_taken(), np.random.default_rng(0)
      >>> drawn = [choose(rng, np.array([0, 50])) for _ in range(200)]
      >>> drawn.count(0) > drawn.count(1)  # the one that was never taken
      True

    References:
      Xie et al. 2019, "DeepHunter: a coverage-guided fuzz testing framework for deep neural networks", equation 3,
        https://doi.org/10.1145/3293882.3330579
    """

    def choose(rng: np.random.Generator, taken: np.ndarray) -> int:
        chance = np.maximum(first - taken / decay, least)
        return int(rng.choice(len(taken), p=chance / chance.sum()))

    return choose


def deephunter(criterion: Criterion) -> dict[str, Any]:
    """DeepHunter's settings for `fuzzed`.

    The transforms of `TRANSFORMS` without fog and rain, its validity, and its choice of parents.

    Args:
      criterion: what is to be covered.

    Returns:
      Keyword arguments of `fuzzed`.

    Example:
      >>> from cwjax.generation import fuzzing
      >>> sorted(fuzzing.deephunter(cw.coverage.neuron_coverage(units.convention)))
      ['choose', 'mutate', 'novelty', 'valid']

    References:
      Xie et al. 2019, "DeepHunter: a coverage-guided fuzz testing framework for deep neural networks",
        https://doi.org/10.1145/3293882.3330579
    """
    chosen = [each for name, each in TRANSFORMS.items() if name not in ("fog", "rain")]
    return {
        "mutate": transformed(chosen),
        "novelty": new_coverage(criterion),
        "valid": close(),
        "choose": seldom_taken(),
    }


def tensorfuzz(*, threshold: Number = 1.0, sigma: Number = 0.2, radius: Number = 0.4) -> dict[str, Any]:
    """TensorFuzz's settings for `fuzzed`: noise, new logits, and a ball around each seed.

    Args:
      threshold: of `far_outputs`.
      sigma: of the noise.
      radius: of the ball, in L-infinity; of its study on quantised networks.

    Returns:
      Keyword arguments of `fuzzed`.

    Example:
      >>> from cwjax.generation import fuzzing
      >>> sorted(fuzzing.tensorfuzz())
      ['mutate', 'near', 'novelty']

    References:
      Odena et al. 2019, "TensorFuzz: debugging neural networks with coverage-guided fuzzing",
        https://arxiv.org/abs/1807.10875
    """
    return {"mutate": noisy(sigma), "novelty": far_outputs(threshold), "near": within(radius)}


def _seen(neurons: Neurons, x: np.ndarray) -> tuple[np.ndarray, Activations]:
    outputs, activations = _of_batch(neurons, jnp.asarray(x))
    return np.asarray(outputs), jax.tree.map(np.asarray, activations)


@jax.jit
def _of_batch(neurons: Neurons, x: Array) -> tuple[Any, Activations]:
    return neurons(x)
