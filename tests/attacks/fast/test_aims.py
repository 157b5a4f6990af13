"""The class that a leg is for, and how wide the mean over the others is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.fast.aims import aimed
from cwjax.loop import Rule
from cwjax.problems import problem as problem_of
from tests.attacks.fast.made import MARGIN, followed, leg_of
from tests.attacks.fast.test_scout import AWAY, SIZE, fan

LIKELY = [2.0, 4.0, 1.0, 3.0]  # the second is the likeliest, then the fourth


def walked(rival: int, goal: cw.LabelGoal = AWAY, *, lost: bool = False, count: int = 6, objective=MARGIN):
    """The aims of a rule that goes a little farther at every step, its points, and what it was told."""
    told = []

    def move(problem, memory, seen):
        told.append(seen)
        return seen.x + 1e-3, memory

    onward = Rule(init=lambda key, problem: (problem.x, ()), move=move)
    rule = aimed(onward, leg_of(9, rival=rival, lost=lost), objective)
    attack, model = followed(rule, "l2", 9), fan([1.0, 1.1, 1.2, 0.5], likely=LIKELY)
    wide = {"low": jnp.full(SIZE, -9.0), "high": jnp.full(SIZE, 9.0)}
    problem = problem_of(jnp.zeros(SIZE), goal)._replace(**wide)
    state, aims, points = attack.init(jax.random.key(0), problem), [], []
    for _ in range(count):
        aims.append(rule.aim(problem, state.memory))
        points.append(float(state.w.max()))
        state = attack.step(lambda x: model.apply(model.params, x[None])[0], problem, state)
    return aims, points, told


def test_a_leg_for_a_class_asks_about_it_at_the_start_and_goes_for_it_for_a_third_of_its_steps():
    aims, points, told = walked(rival=1)
    assert [(int(aim.label), float(aim.sign)) for aim in aims] == [(0, -1), (4, 1), (4, 1), (4, 1), (0, -1), (0, -1)]
    assert [float(aim.spread) for aim in aims] == [1, 0, 0, 0, 1, 1]  # a mean only where no class is chosen
    np.testing.assert_allclose(points, [0, 0, 1e-3, 2e-3, 3e-3, 4e-3], rtol=1e-4)
    assert [int(seen.taken) for seen in told[1:]] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(float(told[1].loss) / np.linalg.norm(told[1].slope), 0.5, rtol=1e-5)


@pytest.mark.parametrize("lost", [False, True])
def test_another_leg_goes_for_any_with_a_mean_as_wide_as_it_says(lost):
    aims, points, told = walked(rival=-1, lost=lost, count=3)
    assert [int(aim.label) for aim in aims] == [0, 0, 0]
    assert [float(aim.spread) for aim in aims] == [3.0 if lost else 1.0] * 3
    assert [int(seen.taken) for seen in told] == [0, 1, 2]
    np.testing.assert_allclose(points, [0, 1e-3, 2e-3], rtol=1e-4)


def test_where_no_logits_of_classes_are_known_the_rule_is_left_alone():
    rule = Rule(init=lambda key, problem: (problem.x, ()), move=lambda problem, memory, seen: (seen.x, memory))
    assert aimed(rule, leg_of(9), MARGIN._replace(logits=None)) is rule
