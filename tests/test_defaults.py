"""What is used where nothing is said: the published numbers; and that each number may be as small as its text says."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cwjax as cw
from cwjax.arguments import check_allowed
from cwjax.evaluation import metrics
from cwjax.problems import Allowed
from tests import problems

PAPER = "Carlini & Wagner 2017"
CODE = "its released code"
OURS = "this library"

DEFAULTS: dict[str, tuple[Callable, dict[str, Any], str]] = {
    "binary_search": (cw.search.binary_search, {"steps": 9, "initial_c": 1e-3, "factor": 10.0}, CODE),
    "grow_c": (cw.search.grow_c, {"every": 1000, "factor": 2.0, "largest": 1e10}, CODE),
    "shrink_tau": (cw.search.shrink_tau, {"initial_c": 1e-5, "factor": 0.9, "smallest": 1 / 256}, PAPER),
    "shrink_bounds": (cw.search.shrink_bounds, {"factor": 0.8}, "Carlini & Wagner 2018, its released code"),
    "shrink_mask": (cw.search.shrink_mask, {"initial_c": 1e-3, "per_pixel": True}, CODE),
    "many_pixels": (cw.search.many_pixels, {"score": 0.01, "share": 0.3}, CODE),
    "plateau": (cw.aborts.plateau, {"checks": 10, "tolerance": 1e-4}, CODE),
    "l0": (cw.distances.l0, {"per_pixel": True}, PAPER),
    "what is allowed": (
        cw.problems.Allowed,
        {"low": 0.0, "high": 1.0, "mask": None, "start": None, "context": None},
        PAPER,
    ),
    "discretised": (cw.discretised, {"levels": 256, "steps": 100}, PAPER),
    "restored": (cw.restored, {"looks": 100}, OURS),
    "snapped": (cw.runners.snapped, {"steps": 200}, OURS),
    "fewest_changes": (cw.evaluation.fewest_changes, {"most": 3, "at_once": 4096}, OURS),
    "lattice": (cw.lattices.lattice, {"levels": (0.0, 1.0), "steps": 0.0, "implies": ()}, OURS),
    "costs": (cw.distances.l1, {"cost": 1.0}, OURS),
    "verified": (cw.verified, {"precision": "tensorfloat32"}, OURS),
    "streamed": (cw.streamed, {"width": "auto", "every": 25, "repeatable": False}, OURS),
    "successes": (metrics.successes, {"confidence": 0.0}, OURS),
    "label_cross_entropy": (cw.losses.label_cross_entropy, {"confidence": 0.0}, OURS),
    "negative_margin": (cw.losses.negative_margin, {"confidence": 0.0}, OURS),
    "softened_margin": (cw.losses.softened_margin, {"confidence": 0.0}, OURS),
    "logits_ratio": (cw.losses.logits_ratio, {"confidence": 0.0}, OURS),
    "f5": (cw.objectives.log_half_probability, {"hinged": True}, OURS),
} | {name: (objective, {"confidence": 0.0}, PAPER) for name, objective in cw.objectives.OBJECTIVES.items()}
"""Constructor, what it takes where nothing is said, and who says so."""


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_is_used_where_nothing_is_said(name):
    make, expected, _ = DEFAULTS[name]
    parameters = inspect.signature(make).parameters
    assert {name: parameters[name].default for name in expected} == expected


ATTACK = problems.small_l2(steps=1, search=cw.search.binary_search(1))
RUN = cw.batched(ATTACK)
SMALLEST = {
    "one step": lambda: problems.small_l2(steps=1),
    "one round from next to nothing": lambda: cw.search.binary_search(1, initial_c=1e-30, factor=math.nextafter(1, 2)),
    "one step a weight": lambda: cw.search.grow_c(every=1, largest=1e-30, factor=math.nextafter(1, 2)),
    "no radius is too small": lambda: cw.search.shrink_tau(initial_c=1e-30, factor=1e-30, smallest=0.0),
    "tau hardly shrinks": lambda: cw.search.shrink_tau(factor=1 - 1e-6),
    "the mask's first weight": lambda: cw.search.shrink_mask(initial_c=1e-30),
    "one pixel a round": lambda: cw.search.many_pixels(score=0.0, share=0.0),
    "one check": lambda: cw.aborts.plateau(checks=1),
    "no confidence": lambda: [objective(0) for objective in cw.objectives.OBJECTIVES.values()],
    "one start": lambda: cw.restarted(ATTACK, 1, 0.0),
    "two classes": lambda: [each(ATTACK, 2) for each in (cw.best_target, cw.worst_target, cw.average_target)],
    "one step of a trace": lambda: cw.traced(ATTACK, 1),
    "one example a chunk": lambda: cw.chunked(RUN, 1),
    "one lane": lambda: cw.streamed(ATTACK, width=1, every=1),
    "two levels and no repair": lambda: cw.discretised(RUN, levels=2, steps=0),
    "no look": lambda: cw.restored(RUN, looks=0),
    "one level and one look": lambda: cw.runners.snapped(RUN, cw.lattices.lattice([0.0]), steps=1),
    "changes that cost nothing but for one": lambda: cw.distances.l1(cost=np.array([0.0, 1.0])),
    "a mean of zero": lambda: cw.normalised(cw.bind(problems.mlp, problems.mlp_params()), 0.0, 1e-30),
    "bounds that almost touch": lambda: check_allowed(np.zeros((1, 2)), Allowed(0.0, 1e-30)),
    "bounds that touch but for one element": lambda: check_allowed(np.zeros((1, 2)), Allowed(0.0, np.array([0.0, 1]))),
}


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_number_that_makes_sense_is_taken(name):
    SMALLEST[name]()


BEYOND = {
    "share": lambda: cw.search.many_pixels(share=-0.5),
    "score": lambda: cw.search.many_pixels(score=-0.5),
    "smallest": lambda: cw.search.shrink_tau(smallest=-0.5),
    "checks": lambda: cw.aborts.plateau(checks=0),
    "largest_c": lambda: cw.search.grow_c(largest=0.0),
    "factor": lambda: cw.search.grow_c(factor=1.0),
    "initial_c": lambda: cw.search.shrink_tau(initial_c=0.0),
    "the repair's steps": lambda: cw.discretised(RUN, steps=-1),
    "looks": lambda: cw.restored(RUN, looks=-1),
    "the steps on the lattice": lambda: cw.runners.snapped(RUN, cw.lattices.lattice(), steps=0),
    "every cost": lambda: cw.distances.l0(cost=-0.5),
    "bounds must be finite, with low <= high": lambda: check_allowed(
        np.full((1, 2), 0.5), Allowed(0.5, np.array([1.0, 0.25]))
    ),
    "and somewhere below it": lambda: check_allowed(np.full((1, 2), 0.5), Allowed(0.5, 0.5)),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_smaller_is_refused_by_its_name(name):
    with pytest.raises(ValueError, match=name):
        BEYOND[name]()
