"""The systems that look for what neurons do: DeepCT and DeepConcolic."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import cwjax as cw
from cwjax import coverage
from cwjax.generation import deepconcolic, deepct, linear_program, requirements, suites
from cwjax.generation.requirements import NeuronsGoal
from cwjax.lab.generating.by_answers import REPAIRS
from cwjax.lab.generating.plans import Asked, Made, Plan, in_eight_bits, tests_before
from cwjax.lab.generating.subject import neurons_of

_WANTED = {
    "nc": "inputs that turn a neuron on",
    "nbc": "inputs that take a neuron out of the range that it has in training",
    "ssc": "inputs near a seed that change the sign of one neuron alone in its layer, and of one in the next layer",
}


def deepct_plan(asked: Asked) -> Plan:
    """DeepCT: a test for each of some patterns of t neurons that the seeds leave."""
    told, seeds = asked.settings, asked.subject.seeds.images
    [neurons] = neurons_of(asked.system, asked.subject, told["unit"])
    convention = neurons.convention
    left = deepct.patterns_left(
        suites.values_of(neurons, seeds), convention, strength=told["strength"], most=asked.asked_for, seed=asked.seed
    )
    if not len(left.neurons):
        strength = told["strength"]
        raise ValueError(f"the {len(seeds)} seeds reach every pattern of {strength} neurons: take fewer --seeds")

    def aim(which: np.ndarray, values: np.ndarray) -> NeuronsGoal:
        del values
        return requirements.patterns_reached(convention, left.neurons[which], left.on[which])

    def words(row: int) -> str:
        named = zip(left.neurons[row], left.on[row], strict=True)
        return ", ".join(f"{name_of(convention, neuron)} {'on' if on else 'off'}" for neuron, on in named)

    return Plan(len(left.neurons), _maker(asked, neurons, aim, words), {"neurons": str(convention)})


def deepconcolic_plan(asked: Asked) -> Plan:
    """DeepConcolic: a test for each of some neurons, bounds or pairs of signs, drawn at random."""
    told, subject, rng = asked.settings, asked.subject, np.random.default_rng(asked.seed)
    [neurons] = neurons_of(asked.system, subject, told["unit"])
    convention, criterion = neurons.convention, told["criterion"]
    if criterion == "nc":
        chosen = rng.permutation(convention.neurons)[: asked.asked_for]

        def aim(which: np.ndarray, values: np.ndarray) -> NeuronsGoal:
            del values
            return requirements.neurons_activated(convention, chosen[which])

        def words(row: int) -> str:
            return f"{name_of(convention, chosen[row])} above 0"

    elif criterion == "nbc":
        chosen = rng.permutation(2 * convention.neurons)[: asked.asked_for]
        profile = coverage.profiled(neurons, asked.training())

        def aim(which: np.ndarray, values: np.ndarray) -> NeuronsGoal:
            del values
            return requirements.bounds_left(profile, chosen[which] // 2, chosen[which] % 2 == 0)

        def words(row: int) -> str:
            return f"{name_of(convention, chosen[row] // 2)} {'below' if chosen[row] % 2 else 'above'} its range"

    else:
        chosen = np.asarray(deepconcolic.sign_pairs(neurons, asked.asked_for, seed=asked.seed))

        def aim(which: np.ndarray, values: np.ndarray) -> NeuronsGoal:
            return requirements.signs_paired(values, convention, chosen[which, 0], chosen[which, 1])

        def words(row: int) -> str:
            first, second = (name_of(convention, neuron) for neuron in chosen[row])
            return f"the sign of {first} alone, and that of {second}"

    about = {"what": _WANTED[criterion], "neurons": str(convention)}
    return Plan(len(chosen), _maker(asked, neurons, aim, words), about)


def name_of(convention: coverage.Convention, neuron: Any) -> str:
    """A neuron to read: "relu_1 number 7"."""
    for part, layer in zip(convention.slices, convention.layers, strict=True):
        if part.start <= neuron < part.stop:
            return f"{layer.name} number {int(neuron) - part.start}"
    raise ValueError(f"there is no neuron {neuron}")


def _maker(
    asked: Asked,
    neurons: coverage.Neurons,
    aim: Callable[[np.ndarray, np.ndarray], NeuronsGoal],
    words: Callable[[int], str],
) -> Callable[[range, Sequence[Made]], Made]:
    """The rows of some requirements: a suite that grows from batch to batch."""
    told, seeds, relative = asked.settings, asked.subject.seeds.images, asked.settings.get("criterion") == "ssc"
    objective = requirements.neurons_reached(hinged=False)
    norm = told.get("norm", "linf")
    attack = cw.attacks.fmn(norm=norm, objective=objective, steps=told["steps"])
    run = jax.jit(cw.discretised(cw.batched(attack), between=(0, 1), steps=REPAIRS))

    def make(rows: range, before: Sequence[Made]) -> Made:
        numbers = np.asarray(rows)
        suite = suites.grown(
            run,
            neurons,
            seeds,
            lambda which, values: aim(numbers[which], values),
            len(rows),
            radius=told.get("radius", 1),  # in L0 an element may change by any amount
            norm=norm,
            lanes=asked.batch,
            rounds=1 if relative else told["rounds"],
            relative=relative,
            seed=asked.seed + rows.start,
            known=None if relative else tests_before(before, seeds),
        )
        test = np.where(suite.met, suite.by, np.maximum(suite.start, 0))
        place = suite.origin[test]
        values = suites.values_of(neurons, seeds[place])
        goal = jax.tree.map(np.asarray, aim(numbers, values))
        x = np.where(suite.met.reshape(-1, *[1] * (seeds.ndim - 1)), suite.x[test], seeds[place])
        found, by = (
            suite.met.copy(),
            ["" if at < 0 else "a seed" if at < len(seeds) else "gradients" for at in suite.by],
        )
        if told.get("solver") == "highs":
            x, found, by = _second_opinion(asked, neurons, goal, place, x, found, by)
        more = _of_goal(goal) | {"found by": by}
        return Made(place.tolist(), [words(row) for row in rows], x, found.tolist(), more)

    return make


def _of_goal(goal: NeuronsGoal) -> dict[str, list[Any]]:
    """What each row requires, so that it can be checked later: which neurons, above or not, and of which bound."""
    columns: dict[str, list[Any]] = {"neuron": [], "above": [], "bound": []}
    for sign, bound in zip(goal.sign, goal.bound, strict=True):
        which = np.flatnonzero(sign)
        for name, values in (("neuron", which), ("above", sign[which] > 0), ("bound", bound[which].astype(float))):
            columns[name].append(values.tolist())
    return columns


def _second_opinion(
    asked: Asked,
    neurons: coverage.Neurons,
    goal: NeuronsGoal,
    place: np.ndarray,
    x: np.ndarray,
    found: np.ndarray,
    by: list[str],
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """What a linear program finds for the requirements that gradients did not meet, in 8 bits and within the radius."""
    x, found, by, seeds = x.copy(), found.copy(), list(by), asked.subject.seeds.images
    for row in np.flatnonzero(~found):
        one = jax.tree.map(lambda leaf, row=row: leaf[row], goal)
        seed = seeds[place[row]]
        nearest = linear_program.nearest_in_region(neurons, seed, one)
        made = in_eight_bits(nearest.x)
        [values] = suites.values_of(neurons, made[None])
        counted = one.sign != 0
        meets = ((one.sign * (values - one.bound))[counted] > 0).all()
        if nearest.met and meets and np.abs(made - seed).max() <= asked.settings["radius"] + 1e-6:
            x[row], found[row], by[row] = made, True, "highs"
    return x, found, by
