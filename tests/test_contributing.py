"""What CONTRIBUTING.md shows as the way to add something is code that works."""

import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.evaluation.diagnosis.checks import Measured
from cwjax.lab.racing import entries
from tests import problems
from tests.lab.racing.made import a_task
from tests.test_programs import ROOT, blocks

PRELUDE = """
from typing import NamedTuple
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from cwjax.arguments import check_count, check_number
from cwjax.base import Attack, Distance, Number, Objective, Search, found
from cwjax.evaluation.diagnosis.case import Case
from cwjax.evaluation.diagnosis.checks import Measured, Skipped, of_examples
from cwjax.loop import Rule, iterated
from cwjax.parts import distances
from cwjax.parts.losses import negative_margin
from cwjax.parts.objectives.classification import _objective, positive
"""


def written(name: str):
    """The function of this name, as a block of the text has it."""
    return module(name)[name]


def module(*wanted: str) -> dict[str, Any]:
    """What a file with these functions has in it."""
    names: dict[str, Any] = {}
    for name in wanted:
        [block] = [block for block in blocks(ROOT / "CONTRIBUTING.md") if f"def {name}(" in block]
        exec(PRELUDE + block.split("\n# in ")[0], names)
    return names


ATTACKS = {
    "squared_margin": lambda new: cw.fast("l2", steps=60, objective=new()),
    "group": lambda new: cw.searched(
        cw.descend(
            objective=cw.objectives.logit_margin(),
            distance=new(size=2),
            box=cw.boxes.projected(),
            optimizer=cw.optimizers.adam(0.05),
            steps=60,
            abort=cw.aborts.never(),
        ),
        cw.search.binary_search(6, initial_c=0.1),
    ),
    "golden_c": lambda new: cw.l2(
        search=new(8), steps=60, box=cw.boxes.projected(), optimizer=cw.optimizers.adam(0.05)
    ),
    "gradient_sign": lambda new: new(steps=60),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name == "squared_margin")) for name in ATTACKS]
)
def test_what_is_shown_is_an_attack_that_finds_examples(name):
    model, x = cw.bind(problems.mlp, problems.mlp_params()), jnp.asarray(problems.inputs(8))
    attack = ATTACKS[name](written(name))
    goal = cw.untargeted(model.apply(model.params, x).argmax(-1))
    result = jax.jit(cw.batched(attack))(model, problems.keys(8), x, goal)
    assert result.success.mean() >= 0.6
    assert (model.apply(model.params, result.x).argmax(-1) != goal.label)[result.success].all()


@pytest.mark.long
def test_what_is_shown_races(monkeypatch):
    mine = types.ModuleType("mine")
    vars(mine).update(module("gradient_sign", "signs"))
    monkeypatch.setitem(sys.modules, "mine", mine)
    contestant, task = entries.own(["mine:signs"])["mine:signs"], a_task(norm="linf", budget=40)
    assert contestant.numbers("linf") == {"step": 0.01}
    outcome = contestant.run(task)
    assert (outcome.forwards == 20).all()
    assert np.isfinite(task.distance(outcome.x)).any()
    farther = contestant.run(task._replace(settings={"step": 0.05}))
    assert (task.distance(farther.x) > task.distance(outcome.x)).any()


def test_what_is_shown_is_a_check():
    class Few:
        open, everyone = np.array([True, False]), np.arange(2)
        x = np.stack([np.zeros((2, 2)), np.ones((2, 2))])

    found = written("dark_images")(Few())
    assert isinstance(found, Measured)
    assert found.number == 0.5
    np.testing.assert_array_equal(found.evidence, [0, 1])
