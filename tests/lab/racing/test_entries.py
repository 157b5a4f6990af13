"""The attacks that race, and the numbers that they can be given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.lab.racing import contestants, entries, tuning
from cwjax.problems import problem
from tests.lab.racing.made import a_task, stepping
from tests.problems import SHAPE


@pytest.mark.parametrize("name", entries.OURS)
def test_every_entry_can_be_made_at_every_budget(name):
    """Made, and not run: the tests of the attacks do that."""
    entry = entries.OURS[name]
    assert entry.make is not None
    image = jnp.zeros(SHAPE)
    for norm in entry.norms:
        for steps in (5, 50, 1000):
            try:
                attack = entry.make(norm, steps, 10)
            except contestants.Broken as missing:
                pytest.skip(str(missing))
            goal = cw.LabelGoal(label=jnp.zeros((), jnp.int32), sign=-jnp.ones(()))
            jax.eval_shape(attack.init, jax.random.key(0), problem(image, goal))


@pytest.mark.long
def test_a_number_that_is_set_is_the_attacks():
    task, contestant = a_task(), contestants.ours(stepping, "l2")
    assert contestant.numbers("l2") == {"step": 1e-3, "turns": 3}
    told = tuning.told(["a.b:c.step=0.1", "a.b:c.turns=4"], {"a.b:c": contestant}, ["a.b:c"])
    assert told == {"a.b:c": {"step": 0.1, "turns": 4}}
    own, far = contestant.run(task), contestant.run(task._replace(settings=told["a.b:c"]))
    assert np.isinf(task.distance(own.x)).all()
    assert np.isfinite(task.distance(far.x)).any()


@pytest.mark.parametrize("name", entries.OURS)
def test_every_number_of_an_entry_can_be_set_to_its_own(name):
    entry = entries.OURS[name]
    assert entry.make is not None
    for norm in entry.norms:
        numbers = {key: value for key, value in entry.numbers(norm).items() if value is not None}
        assert not set(numbers) & set(contestants.DECIDED)
        attack = entry.make(norm, 50, 10, **numbers)
        goal = cw.LabelGoal(label=jnp.zeros((), jnp.int32), sign=-jnp.ones(()))
        jax.eval_shape(attack.init, jax.random.key(0), problem(jnp.zeros(SHAPE), goal))


def test_the_numbers_of_entries_are_those_that_they_run_at():
    assert entries.OURS["fmn"].numbers("linf")["first_step"] == 10.0
    assert entries.OURS["fmn"].numbers("l2")["first_step"] == 1.0
    assert entries.OURS["alma"].numbers("l1")["first_distance"] == 0.5
    assert entries.OURS["pgd"].numbers("linf")["epsilon"] == 0.1
    assert entries.OURS["l2"].numbers("l2") == {"initial_c": 1.0, "learning_rate": 0.1}
    assert entries.OURS["fast_l2"].numbers("l2") == {}
    assert "random_start" not in entries.OURS["pgd"].numbers("l2")
    steps = {"fmn": "first_step", "ddn": "first_step", "alma": "first_rate", "pdgd": "primal_rate"}
    steps |= {"sigma_zero": "first_step", "ead": "learning_rate", "pgd": "relative_step", "deepfool": None}
    found = {name: tuning.step_of(entries.OURS[name].numbers(entries.OURS[name].norms[0])) for name in steps}
    assert found == steps
