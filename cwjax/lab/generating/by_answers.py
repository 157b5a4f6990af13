"""The systems that look for other answers by slopes and mutants: DeepXplore, DeepFault, and fuzzing."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax import coverage
from cwjax.generation import deepfault, deepxplore, fuzzing, requirements
from cwjax.lab.generating.plans import Asked, Made, Plan, filled, in_eight_bits, keys_of, tests_before
from cwjax.lab.generating.settings import MEASURES
from cwjax.lab.generating.subject import Subject, neurons_of, wrong

REPAIRS = 10  # gradients that 8 bits may take of a test
COVERED = 0.25  # a neuron counts as covered above it, of its layer's range: DeepXplore's


def deepxplore_plan(asked: Asked) -> Plan:
    """DeepXplore: an input on which the models disagree, for each seed."""
    subject, told = asked.subject, asked.settings
    if told["target"] > len(subject.models):
        raise ValueError(f"--target {told['target']} is none of the {len(subject.models)} models: count from 1")
    neurons = neurons_of(asked.system, subject, "channel mean")
    attack = deepxplore.differential(
        _constraint(subject, told),
        step=told["step"],
        steps=told["steps"],
        coverage_weight=told["coverage_weight"],
    )
    run = jax.jit(cw.discretised(cw.batched(attack), between=(0, 1), steps=REPAIRS))

    def make(rows: range, before: Sequence[Made]) -> Made:
        places, some = filled(rows, asked.batch), slice(len(rows))
        known = tests_before(before, subject.seeds.images)
        found = deepxplore.explored(
            run,
            neurons,
            keys_of(asked.seed, places),
            subject.seeds.images[places],
            target=told["target"] - 1,
            threshold=COVERED,
            known=None if known is None else known[0],
        )
        leaver = subject.names[told["target"] - 1]
        words = [f"models disagree: {leaver} leaves {subject.seeds.labels[place]}" for place in rows]
        return Made(list(rows), words, np.asarray(found.result.x)[some], found.success[some].tolist(), {})

    return Plan(asked.asked_for, make, {"neurons": "; ".join(str(each.convention) for each in neurons)})


def _constraint(subject: Subject, told: dict[str, Any]) -> deepxplore.Constraint:
    if told["constraint"] == "light":
        return deepxplore.light()
    shape, side = subject.seeds.images.shape[1:], told["patch"]
    if len(shape) != 3 or side > min(shape[:2]):
        raise ValueError(f"--patch {side} does not fit into inputs {list(shape)}: choose a smaller one")
    return deepxplore.occlusion(side, side) if told["constraint"] == "occlusion" else deepxplore.blackout(side)


def deepfault_plan(asked: Asked) -> Plan:
    """DeepFault: for each seed, the suspicious neurons of its class raised until the label falls."""
    subject, told = asked.subject, asked.settings
    [neurons] = neurons_of(asked.system, subject, "channel mean")
    every = subject.dataset
    of_class = deepfault.suspects_of(
        neurons, every.images, every.labels, k=told["suspects"], measure=MEASURES[told["measure"]]
    )
    if not any(len(each) for each in of_class):
        raise ValueError(
            f"--system deepfault suspects neurons by images that the model gets wrong, and --model {subject.names[0]} "
            f"gets all {len(every.labels)} of {subject.data} right"
        )
    epsilon = told["epsilon"]
    attack = (
        deepfault.synthesis(epsilon=epsilon, step=told["step"])
        if told["method"] == "synthesis"
        else cw.attacks.pgd(
            epsilon=epsilon, steps=told["steps"], random_start=False, objective=requirements.suspects_raised()
        )
    )
    run = jax.jit(cw.discretised(cw.batched(attack), between=(0, 1), steps=REPAIRS))
    model = requirements.observed(neurons)

    def make(rows: range, before: Sequence[Made]) -> Made:
        del before
        places, convention = filled(rows, asked.batch), neurons.convention
        x, labels = subject.seeds.images[places], subject.seeds.labels[places]
        suspected = [of_class[label] for label in labels]
        goals = [
            requirements.suspects(cw.untargeted(labels[i : i + 1]), convention, each if len(each) else [0])
            for i, each in enumerate(suspected)
        ]
        goal = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *goals)
        low, high = np.maximum(x - epsilon, 0), np.minimum(x + epsilon, 1)
        result, _ = run(model, keys_of(asked.seed, places), x, goal, low=low, high=high)
        some = np.array([len(each) > 0 for each in suspected])
        hit, made = np.asarray(result.success) & some, np.asarray(result.x)
        words = [
            f"raise {len(suspected[i])} suspects of class {labels[i]}"
            if some[i]
            else f"no neuron is suspected: no image of class {labels[i]} is answered wrongly"
            for i in range(len(rows))
        ]
        kept = [made[i] if hit[i] else x[i] for i in range(len(rows))]
        return Made(list(rows), words, np.stack(kept), hit[: len(rows)].tolist(), {})

    return Plan(asked.asked_for, make, {"neurons": str(neurons.convention)})


def fuzzing_plan(asked: Asked) -> Plan:
    """Fuzzing: a queue for each batch of seeds; of every seed the first valid mutant that is answered wrongly."""
    subject, told = asked.subject, asked.settings
    [neurons] = neurons_of(asked.system, subject, "channel mean")
    if told["fuzzer"] == "deephunter":
        if subject.seeds.images.ndim != 4:
            raise ValueError("--fuzzer deephunter changes images [H, W, C]: choose tensorfuzz")
        way = fuzzing.deephunter(coverage.neuron_coverage(neurons.convention, threshold=COVERED))
    else:
        way = fuzzing.tensorfuzz()

    def make(rows: range, before: Sequence[Made]) -> Made:
        del before
        places = np.asarray(rows)
        seeds, labels = subject.seeds.images[places], subject.seeds.labels[places]
        found = fuzzing.fuzzed(
            neurons,
            seeds,
            labels,
            rounds=told["rounds"],
            mutants=told["mutants"],
            seed=asked.seed + rows.start,
            **way,
        )
        x, came = in_eight_bits(found.failures), found.failed_from
        lost = wrong(subject, places[came], x, labels[came]) if len(came) else np.zeros(0, bool)
        first = {int(seed): place for place, seed in reversed(list(enumerate(came))) if lost[place]}
        hit = [i in first for i in range(len(rows))]
        kept = np.stack([x[first[i]] if hit[i] else seeds[i] for i in range(len(rows))])
        count = [int((came[lost] == i).sum()) for i in range(len(rows))]
        words = [f"a valid mutant that is not answered {label}" for label in labels]
        return Made(list(rows), words, kept, hit, {"wrong mutants": count})

    return Plan(asked.asked_for, make, {"neurons": str(neurons.convention)})
