"""Who is counted how: from outside, and held to the budget."""

import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.lab.racing import contestants, entries
from tests import problems
from tests.lab.racing.made import GRADIENTS, a_task


def an_attack(norm: str, steps: int, classes: int) -> cw.Attack:
    return cw.attacks.ddn(steps=steps)


def untruthful(norm: str, steps: int, classes: int) -> cw.Attack:
    """An attack that forgets half of its passes."""
    attack = an_attack(norm, steps, classes)

    def step(model, problem, state):
        state = attack.step(model, problem, state)
        return state._replace(progress=state.progress._replace(forwards=state.progress.forwards // 2))

    return attack._replace(step=step)


def endless(norm: str, steps: int, classes: int) -> cw.Attack:
    return problems.small_l2(steps=100_000)


def wasteful(norm: str, steps: int, classes: int) -> cw.Attack:
    """An attack that asks the model twice a step, and says so."""
    attack = an_attack(norm, steps, classes)

    def step(model, problem, state):
        again = model(problem.x + 0.01)
        state = attack.step(model, problem, state)
        progress = state.progress
        extra = progress.forwards + 1 + (0 * again.sum()).astype(jnp.int32)
        return state._replace(progress=progress._replace(forwards=extra))

    return attack._replace(step=step)


def test_ours_are_counted_from_outside():
    task = a_task()
    outcome = contestants.ours(an_attack, "l2").run(task)
    assert ((outcome.forwards + outcome.backwards) <= task.budget).all()
    assert (outcome.forwards == outcome.backwards).all()
    assert outcome.curve.shape == (3, GRADIENTS)
    distance = task.distance(outcome.x)
    np.testing.assert_allclose(outcome.queried, distance[outcome.watched], rtol=1e-5)
    np.testing.assert_allclose(outcome.curve[:, -1], distance, rtol=1e-5)


@pytest.mark.long
def test_a_confidence_is_asked_of_every_attack():
    task, kappa = a_task(budget=80), 0.5
    plain, asked = (entries.OURS["fast_l2"].run(task._replace(confidence=each)) for each in (0.0, kappa))
    assert np.isfinite(task._replace(confidence=kappa).distance(asked.x)).all()
    assert task.distance(asked.x).mean() > task.distance(plain.x).mean()
    assert np.isinf(task._replace(confidence=kappa).distance(plain.x)).any()


def test_an_attack_is_looked_over_once_for_a_norm():
    task, contestant = a_task(), contestants.ours(an_attack, "l2")
    assert len(contestant.run(task).watched) > 0
    assert len(contestant.run(task._replace(budget=task.budget - 2)).watched) == 0
    assert len(contestant.run(task._replace(norm="linf")).watched) > 0


def test_an_attack_without_end_is_cut_at_the_budget():
    task = a_task()
    outcome = contestants.ours(endless, "l2").run(task)
    assert (outcome.forwards + outcome.backwards == task.budget).all()


def test_an_attack_that_forgets_its_passes_has_no_row():
    with pytest.raises(
        contestants.Broken, match="it says that it took 0 forward and 10 backward passes, and took 10 and 10"
    ):
        contestants.ours(untruthful, "l2").run(a_task())


def test_an_attack_that_exceeds_the_budget_has_no_row():
    with pytest.raises(contestants.Broken, match="where it had 20"):
        contestants.ours(wasteful, "l2").run(a_task())
    # With what its steps cost it is held to the budget.
    outcome = contestants.ours(wasteful, "l2", cost=lambda classes: 3).run(a_task())
    assert (outcome.forwards + outcome.backwards <= 20).all()
