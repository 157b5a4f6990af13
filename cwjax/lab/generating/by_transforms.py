"""DeepTest: seeds under transforms, drawn, found by slopes, or guided by coverage."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import cwjax as cw
from cwjax import coverage
from cwjax.generation import deeptest, metamorphic
from cwjax.generation.transforms import TRANSFORMS, Transform
from cwjax.lab.generating.plans import Asked, Made, Plan, filled, in_eight_bits, keys_of, tests_before
from cwjax.lab.generating.subject import Subject, neurons_of, wrong

COVERED = 0.2  # a neuron counts as covered above it, of its layer's range: DeepTest's


def deeptest_plan(asked: Asked) -> Plan:
    """DeepTest: each seed under each transform, until a label breaks. Row t·count + i is seed i under transform t."""
    if asked.settings["method"] == "guided":
        return guided_plan(asked)
    subject, told = asked.subject, asked.settings
    _check_images(subject)
    several = [TRANSFORMS[name] for name in told["transforms"]]
    by_slopes = None
    if told["method"] == "slopes":
        draws, attack = deeptest.by_slopes(told["steps"])
        by_slopes = draws, jax.jit(cw.batched(attack))

    def make(rows: range, before: Sequence[Made]) -> Made:
        del before
        which, places = np.divmod(np.asarray(rows), asked.asked_for)
        parts = [
            _of_transform(asked, several[each], each, places[which == each], by_slopes)
            for each in np.unique(which).tolist()
        ]
        x = np.concatenate([part[0] for part in parts])
        found, parameters = [hit for part in parts for hit in part[1]], [each for part in parts for each in part[2]]
        names = [several[each].name for each in which]
        more = {"transform": names, "parameters": parameters}
        return Made(places.tolist(), [f"{name} breaks the label" for name in names], x, found, more)

    return Plan(asked.asked_for * len(several), make, {})


def _of_transform(
    asked: Asked, transform: Transform, which: int, places: np.ndarray, by_slopes: tuple[int, Any] | None
) -> tuple[np.ndarray, list[bool], list[list[float]]]:
    """Of some seeds: the test, whether it is one, and its parameters."""
    subject, chosen = asked.subject, filled(places, asked.batch)
    seeds, labels = subject.seeds.images[chosen], subject.seeds.labels[chosen]
    if by_slopes is not None:
        draws, run = by_slopes
        relation, keys, model = metamorphic.label_kept(labels), keys_of(asked.seed, chosen), subject.models[0]
        start = deeptest.best_drawn(model, transform, keys, seeds, relation, draws)
        worst = deeptest.worst(run, model, transform, keys, seeds, relation.goal, start=start)
        x, parameters = in_eight_bits(worst.x), worst.parameters
        hit = np.asarray(worst.found & wrong(subject, chosen, x, labels))
    else:
        key = jax.random.fold_in(jax.random.key(asked.seed), which)
        drawn = np.asarray(transform.drawn(key, asked.settings["tries"]))
        # the nearest to no change first, so that the first that breaks a label is the least
        size = np.abs(drawn - np.asarray(transform.neutral)) / (np.asarray(transform.high) - np.asarray(transform.low))
        drawn = drawn[np.argsort(size.sum(-1), kind="stable")]
        images = np.asarray(deeptest.swept(seeds, transform, drawn.tolist()))  # [P, B, H, W, C]
        lost = np.stack([wrong(subject, chosen, each, labels) for each in images])
        hit, first = np.asarray(lost.any(0)), lost.argmax(0)
        x, parameters = images[first, np.arange(len(chosen))], drawn[first]
    x = np.where(hit.reshape(-1, 1, 1, 1), x, seeds)
    parameters = np.where(hit.reshape(-1, 1), parameters, np.asarray(transform.neutral)).astype(float)
    some = slice(len(places))
    return x[some], hit[some].tolist(), parameters[some].tolist()


def guided_plan(asked: Asked) -> Plan:
    """DeepTest's greedy search: from each seed the images that cover something new, and the first that loses its label.

    What the tests of all seeds before a seed cover counts as covered.
    """
    subject, told = asked.subject, asked.settings
    _check_images(subject)
    several = [TRANSFORMS[name] for name in dict.fromkeys(told["transforms"])]
    [neurons] = neurons_of(asked.system, subject, "channel mean")
    criterion = coverage.neuron_coverage(neurons.convention, threshold=COVERED)

    def make(rows: range, before: Sequence[Made]) -> Made:
        known = tests_before(before, subject.seeds.images)
        covered = [] if known is None else list(known[0])
        made: dict[str, list[Any]] = {name: [] for name in ("x", "found", "transforms", "parameters", "kept images")}
        for row in rows:
            seed, label = subject.seeds.images[row], subject.seeds.labels[row]
            found = deeptest.guided(
                neurons,
                criterion,
                seed[None],
                several,
                tries=min(10, told["tries"]),
                most=told["tries"],
                known=np.stack(covered) if covered else None,
                seed=asked.seed + row,
            )
            count = len(found.x)
            lost = wrong(subject, np.full(count, row), found.x, np.full(count, label)) if count else np.zeros(0, bool)
            hit = bool(lost.any())
            first = int(lost.argmax()) if hit else 0
            covered += list(found.x[: first + 1] if hit else found.x)
            made["x"].append(found.x[first] if hit else seed)
            made["found"].append(hit)
            made["transforms"].append(list(found.transforms[first]) if hit else [])
            made["parameters"].append(list(found.parameters[first]) if hit else [])
            made["kept images"].append(count)
        words = ["transforms that cover something new break the label"] * len(rows)
        return Made(list(rows), words, np.stack(made.pop("x")), made.pop("found"), made)

    what = (
        "chains of transforms that cover something new and break the label; each transform is within its limits, and "
    )
    what += "what a chain of them comes to need not be"
    return Plan(asked.asked_for, make, {"what": what, "neurons": str(neurons.convention)})


def _check_images(subject: Subject) -> None:
    if subject.seeds.images.ndim != 4:
        raise ValueError(f"--system deeptest changes images [H, W, C], got {list(subject.seeds.images.shape[1:])}")
