"""Suites of tests that grow until requirements are met: one attack for many requirements at once.

Each requirement is searched for from the test that is nearest to it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_count, check_number, check_part
from cwjax.base import AnyArray, Number, Result, Runner
from cwjax.coverage.convention import Neurons
from cwjax.evaluation.metrics import norms
from cwjax.generation.requirements import NeuronsGoal, observed
from cwjax.models import Model
from cwjax.parts.distances import DISTANCES
from cwjax.parts.norms import check_norm

Aim: TypeAlias = Callable[[Int[np.ndarray, "B"], Float[np.ndarray, "B N"]], NeuronsGoal]
"""`(which requirements, the values of the tests that the search starts from) -> goals`, one for each."""


class Suite(NamedTuple):
    """The tests that came of seeds, and which requirements they meet.

    Example:
      >>> suite.share, suite.adversarial.tolist()  # the new test has another label than its seed
      (1.0, [False, True])
    """

    x: Float[np.ndarray, "T *S"]  # the seeds first, then each test as it was found
    origin: Int[np.ndarray, "T"]  # the seed that each goes back to
    labels: Int[np.ndarray, "T"]  # what the model answers
    met: Bool[np.ndarray, "R"]  # which requirements some test meets
    distance: Float[np.ndarray, "T"]  # from the seed, in the norm that was asked for
    searches: int  # how many times a requirement was searched for
    by: Int[np.ndarray, "R"]  # the test that met each requirement first; -1 where none does
    start: Int[np.ndarray, "R"]  # the test that each was searched from last; -1 where it never was

    @property
    def adversarial(self) -> Bool[np.ndarray, "T"]:
        """Tests whose label is not that of their seed."""
        return self.labels != self.labels[self.origin]

    @property
    def share(self) -> float:
        """Of the requirements, those that are met."""
        return float(self.met.mean())


def grown(
    runner: Runner | Callable[..., Any],
    neurons: Neurons,
    seeds: Float[AnyArray, "B *S"],
    aim: Aim,
    count: int,
    *,
    radius: Number = 0.3,
    lanes: int = 64,
    rounds: int = 3,
    relative: bool = False,
    norm: str = "linf",
    seed: int = 0,
    known: tuple[Float[AnyArray, "K *S"], Int[AnyArray, "K"]] | None = None,
) -> Suite:
    """The suite that meets as many requirements as the attack finds tests for.

    In each round every requirement that is not met yet is searched for from the test that lacks least for it. No test
    is farther from its seed than the radius in L-infinity. A new test may meet other requirements too, and then they
    are not searched for. What is not met at the end is reported as not met.

    Args:
      runner: of an attack whose objective is `requirements.neurons_reached`, such as
        `jax.jit(cw.discretised(cw.batched(attack), between=(0, 1)))`. It compiles once, for `lanes` inputs.
      neurons: of a classifier; for a search by slopes `value="before"`.
      seeds: inputs in [0, 1].
      aim: the goals of some requirements, by number.
      count: how many requirements there are.
      radius: the farthest from a seed in L-infinity, > 0; DeepConcolic has 0.3. For attacks in L0 take 1.
      lanes: requirements at once.
      rounds: how often a requirement is tried at the most.
      relative: whether goals depend on the test that the search starts from, as those of sign-sign cover do. Then
        a requirement is met by the test that was searched for it, and by no other.
      norm: in which `Suite.distance` is told; the attack's.
      seed: of the attack's randomness.
      known: tests that an earlier call with these seeds found, and the seed of each. They stand behind the seeds, and
        may meet requirements too.

    Raises:
      ValueError: no requirements, or numbers out of range.

    Example:
      >>> from cwjax.generation import suites
      >>> def aim(which, values):
      ...     return requirements.neurons_activated(units.convention, which)
      >>> suites.grown(run, units, x[:1], aim, count=2, radius=0.5, lanes=2).met.tolist()
      [True, True]
    """
    check_part("neurons", neurons, Neurons)
    check_number("radius", radius, least=0, above=True)
    check_norm(norm, tuple(DISTANCES))
    for name, value in (("count", count), ("lanes", lanes), ("rounds", rounds)):
        check_count(name, value)
    model, key = observed(neurons), jax.random.key(seed)
    x = [np.asarray(each) for each in seeds]
    origin = list(range(len(x)))
    if known:
        x += [np.asarray(each) for each in known[0]]
        origin += [int(each) for each in known[1]]
    labels, values = (list(each) for each in _seen(model, np.stack(x), lanes))
    by, last, searches = np.full(count, -1), np.full(count, -1), 0
    every = None if relative else _wanted(aim, np.arange(count), np.stack(values[:1]))
    if every is not None:
        by = _first(_meets(every, np.stack(values)))
    for _ in range(rounds):
        waiting = np.flatnonzero(by < 0)
        for first in range(0, len(waiting), lanes):
            which = waiting[first : first + lanes]
            which = which[by[which] < 0]
            if not len(which):
                continue
            seen = np.stack(values)
            start = _nearest(functools.partial(_some, every, aim, which), seen)
            last[which] = start
            rows = np.resize(np.arange(len(which)), lanes)  # so that the program has one shape
            goal = aim(which[rows], seen[start[rows]])
            begin = np.stack([x[each] for each in start[rows]])
            home = np.stack([x[origin[each]] for each in start[rows]])
            low, high = np.maximum(home - radius, 0), np.minimum(home + radius, 1)
            key, own = jax.random.split(key)
            said = runner(model, jax.random.split(own, lanes), np.clip(begin, low, high), goal, low=low, high=high)
            result = said if isinstance(said, Result) else said[0]
            searches += len(which)
            hit = np.flatnonzero(np.asarray(result.success)[: len(which)])
            if not len(hit):
                continue
            made = np.asarray(result.x)[hit]
            new_labels, new_values = _seen(model, made, lanes)
            if every is None:
                kept = np.arange(len(hit))
                by[which[hit]] = len(x) + kept
            else:
                open_now = np.flatnonzero(by < 0)
                kept, first_of = _useful(_rows(every, open_now), new_values)
                by[open_now] = np.where(first_of < 0, -1, len(x) + first_of)
            x += list(made[kept])
            origin += [origin[start[each]] for each in hit[kept]]
            labels += list(new_labels[kept])
            values += list(new_values[kept])
        if (by >= 0).all():
            break
    tests, came = np.stack(x), np.asarray(origin)
    distance = np.asarray(norms(tests[came], tests, channel_axis=-1 if tests.ndim == 4 else None)[norm])
    return Suite(tests, came, np.asarray(labels), by >= 0, distance, searches, by, last)


def values_of(neurons: Neurons, x: Float[AnyArray, "B *S"], *, batch: int = 64) -> Float[np.ndarray, "B N"]:
    """The values of all neurons on some inputs.

    Args:
      neurons: of the network.
      x: the inputs.
      batch: how many at once.

    Example:
      >>> from cwjax.generation import suites
      >>> print(suites.values_of(units, x).round(1))
      [[ 0.8 -0.8  0.8 -0.8]
       [-0.5  0.5 -0.5  0.5]]
    """
    return _seen(observed(neurons), np.asarray(x), batch)[1]


def _seen(model: Model, x: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """The answers and the values of the neurons, in batches of one shape."""
    parts = []
    for first in range(0, len(x), batch):
        rows = np.resize(np.arange(first, min(first + batch, len(x))), batch)
        said = _of_batch(model, jnp.asarray(x[rows]))
        parts.append((np.asarray(said.outputs).argmax(-1), np.asarray(said.values)))
    labels, values = (np.concatenate(each)[: len(x)] for each in zip(*parts, strict=True))
    return labels, values


@jax.jit
def _of_batch(model: Model, x: Array) -> Any:
    return model.of_batch(x)


class _Wanted(NamedTuple):
    """What R requirements want of the few neurons that count for them; places without a neuron have the sign 0."""

    neuron: Int[np.ndarray, "R t"]
    sign: Float[np.ndarray, "R t"]
    bound: Float[np.ndarray, "R t"]


def _wanted(aim: Aim, which: np.ndarray, values: np.ndarray, at_once: int = 256) -> _Wanted:
    """Of these requirements; values [R or 1, N] are those of the tests that they start from."""
    found = []
    for first in range(0, len(which), at_once):
        some = which[first : first + at_once]
        begin = (
            values[first : first + at_once] if len(values) > 1 else np.broadcast_to(values, (len(some), values.size))
        )
        sign, bound = (np.asarray(leaf) for leaf in aim(some, begin))
        row, neuron = np.nonzero(sign)
        found.append((first + row, neuron, sign[row, neuron], bound[row, neuron]))
    row, neuron, sign, bound = (np.concatenate(each) for each in zip(*found, strict=True))
    counts = np.bincount(row, minlength=len(which))
    place = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
    shape = (len(which), max(counts.max(initial=0), 1))
    filled = _Wanted(np.zeros(shape, int), np.zeros(shape), np.zeros(shape))
    for array, each in zip(filled, (neuron, sign, bound), strict=True):
        array[row, place] = each
    return filled


def _behind(wanted: _Wanted, values: Float[np.ndarray, "N"]) -> Float[np.ndarray, "R t"]:
    """By how much each neuron is behind; at most 0 where it is on its side or does not count."""
    lag = wanted.sign * (wanted.bound - values[wanted.neuron])
    return np.where(wanted.sign > 0, np.where(lag >= 0, np.maximum(lag, np.finfo(np.float32).tiny), lag), lag)


def _first(meets: np.ndarray) -> np.ndarray:
    """The first row that holds of each column [R], or -1."""
    return np.where(meets.any(0), meets.argmax(0), -1)


def _meets(wanted: _Wanted, values: Float[np.ndarray, "T N"]) -> Bool[np.ndarray, "T R"]:
    """Whether each row of values meets each requirement."""
    rows = [(_behind(wanted, row) <= 0).all(-1) for row in values]
    return np.stack(rows) if rows else np.zeros((0, len(wanted.neuron)), bool)


def _useful(wanted: _Wanted, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that meet a requirement that no row before them does; and for each requirement which of those rows meets
    it first, or -1.
    """
    first = _first(_meets(wanted, values))
    kept = np.unique(first[first >= 0])
    return kept, np.where(first < 0, -1, np.searchsorted(kept, first))


def _rows(wanted: _Wanted, which: np.ndarray) -> _Wanted:
    return _Wanted(*(each[which] for each in wanted))


def _some(every: _Wanted | None, aim: Aim, which: np.ndarray, row: np.ndarray) -> _Wanted:
    """What these requirements want of a test with these values."""
    return _rows(every, which) if every is not None else _wanted(aim, which, row[None])


def _nearest(wants: Callable[[np.ndarray], _Wanted], values: Float[np.ndarray, "T N"]) -> np.ndarray:
    """For each requirement the test that lacks least for it; what it wants may depend on the test."""
    lacks = [np.maximum(_behind(wants(row), row), 0).sum(-1) for row in values]
    return np.stack(lacks).argmin(0)
