"""One look at a point by hand, as first-order attacks see it, and what a rule is told."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.answers import Looked, Seen, look
from cwjax.base import LabelGoal, Objective, Problem, Progress, Search, untouched
from cwjax.loop import Rule, from_clean, iterated
from cwjax.parts import boxes, distances
from cwjax.problems import problem
from tests.test_descent import LOGITS, WEIGHTS, X, half_blind, lead, linear, no_slope

POINT = jnp.array([0.5, 1.0, 0.25], jnp.float32)
GOAL = LabelGoal(label=jnp.int32(1), sign=jnp.float32(1.0))
SLOPE = WEIGHTS[:, 0] - WEIGHTS[:, 1]


def asked(model=linear, objective: Objective | None = None, point=POINT, aim: LabelGoal = GOAL, **changes) -> Looked:
    given = problem(X, GOAL)._replace(**changes)
    parts = {"objective": objective or lead(), "distance": distances.l2(), "box": boxes.projected()}
    return look(model, given, point, point == given.x, **parts, aim=aim)


def test_what_is_seen_of_a_point_by_hand():
    found = asked(c=jnp.float32(3.0))
    seen, evaluation, candidate = found.seen, found.evaluated.evaluation, found.evaluated.candidate
    length = np.linalg.norm(POINT - X)
    for loss, slope in (
        (seen.loss, seen.slope),
        (seen.total, seen.gradient),
        (evaluation.loss, evaluation.gradient),
    ):
        np.testing.assert_allclose(loss, LOGITS[0] - LOGITS[1], rtol=1e-6)
        np.testing.assert_allclose(slope, SLOPE, rtol=1e-6)
    np.testing.assert_allclose(seen.delta, POINT - X)
    np.testing.assert_allclose(seen.outputs, LOGITS, rtol=1e-6)
    np.testing.assert_allclose([seen.distance, evaluation.distance, candidate.distance], length, rtol=1e-6)
    np.testing.assert_array_equal(candidate.x, POINT)
    assert candidate.c == 3.0
    assert seen.met
    assert evaluation.met
    assert found.evaluated.finite


def test_a_point_that_misses_the_goal_is_no_candidate_and_still_measured():
    found = asked(objective=lead(confidence=10.0))
    assert not found.seen.met
    assert found.evaluated.finite
    assert np.isinf(found.evaluated.candidate.distance)
    np.testing.assert_allclose(found.seen.distance, np.linalg.norm(POINT - X), rtol=1e-6)


FAULTS = {
    "the slope alone": (no_slope, lead()),
    "a logit that the objective does not read": (lambda x: linear(x).at[2].set(jnp.nan), lead()),
    "the loss alone": (
        linear,
        Objective(loss=lambda logits, goal: jnp.log(0.0 * jax.lax.stop_gradient(logits[0])), met=lead().met),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_number_that_is_not_finite_is_a_failure_though_the_goal_is_met(fault):
    model, objective = FAULTS[fault]
    found = asked(model, objective)
    seen = found.seen
    assert [np.isfinite(each).all() for each in (seen.slope, seen.outputs, seen.loss)].count(np.False_) == 1
    assert seen.met
    assert not found.evaluated.finite
    assert np.isinf(found.evaluated.candidate.distance)


def test_an_element_that_may_not_move_has_no_slope():
    np.testing.assert_allclose(asked(mask=jnp.array([True, False, True])).seen.slope, SLOPE * [1, 0, 1], rtol=1e-6)


@pytest.mark.parametrize("live", [[True, False, True], [False, False, False]])
def test_an_element_without_a_slope_is_held_once_another_has_shown_one_and_until_then_there_is_no_example(live):
    found = asked(half_blind, lead(-10.0), live=jnp.array(live))
    np.testing.assert_array_equal(found.seen.x, np.where(live, POINT, X) if any(live) else POINT)
    assert found.seen.met == any(live)
    assert found.evaluated.evaluation.met == any(live)
    assert found.evaluated.finite
    np.testing.assert_array_equal(found.evaluated.live, [True, False, True])


def test_after_a_point_that_is_refused_the_attack_goes_on_without_the_elements_that_show_no_slope():
    given = problem(X, GOAL)
    attack = walk(init=lambda key, given: (POINT, jnp.zeros(())), objective=lead(-10.0))
    first = attack.step(half_blind, given, attack.init(jax.random.key(0), given))
    assert np.isinf(first.progress.best.distance)
    second = attack.step(half_blind, given, first)
    np.testing.assert_allclose(second.progress.best.x, np.where([True, False, True], POINT + 0.125, X))


def test_of_several_losses_any_may_show_a_slope():
    losses = Objective(loss=lambda logits, goal: jnp.stack([logits[0], logits[1] - logits[0]]) * 1.0, met=lead().met)
    found = asked(lambda x: linear(x * jnp.array([1.0, 0.0, 1.0])), losses)
    np.testing.assert_array_equal(found.evaluated.live, [True, False, True])


def test_the_loss_is_of_the_aim_and_what_is_met_of_the_goal():
    found = asked(aim=LabelGoal(label=jnp.int32(2), sign=jnp.float32(1.0)), live=jnp.ones(3, bool))
    np.testing.assert_allclose(found.seen.slope, WEIGHTS[:, 0] - WEIGHTS[:, 2], rtol=1e-6)
    assert found.seen.met
    assert not asked(aim=GOAL, goal=LabelGoal(label=jnp.int32(2), sign=jnp.float32(1.0))).seen.met


def test_several_losses_have_a_slope_each_and_the_first_is_what_searches_see():
    losses = Objective(loss=lambda logits, goal: logits[:2] - logits[2], met=lead().met)
    found = asked(objective=losses)
    np.testing.assert_allclose(found.seen.loss, LOGITS[:2] - LOGITS[2], rtol=1e-6)
    np.testing.assert_allclose(found.seen.slope, (WEIGHTS[:, :2] - WEIGHTS[:, 2:]).T, rtol=1e-6)
    np.testing.assert_allclose(found.evaluated.evaluation.loss, LOGITS[0] - LOGITS[2], rtol=1e-6)
    np.testing.assert_allclose(found.evaluated.evaluation.gradient, WEIGHTS[:, 0] - WEIGHTS[:, 2], rtol=1e-6)


def test_the_model_sees_the_inputs_dtype_and_so_does_the_distance():
    x = jnp.array([0.3, 0.6, 0.7], jnp.float32)  # none of them a bfloat16
    rounded = x.astype(jnp.bfloat16)
    found = asked(lambda x: linear(x.astype(jnp.float32)), lead(-10.0), x, x=X.astype(jnp.bfloat16))
    assert found.evaluated.candidate.x.dtype == jnp.bfloat16
    assert found.seen.slope.dtype == found.seen.x.dtype == jnp.float32
    np.testing.assert_array_equal(found.seen.x, rounded.astype(jnp.float32))
    np.testing.assert_allclose(found.seen.distance, np.linalg.norm(rounded.astype(jnp.float32) - X), rtol=1e-6)


def walk(steps: int = 4, over=None, **changes) -> cw.Attack:
    """An eighth up at a time, in every element."""

    def move(given: Problem, memory, seen: Seen):
        return seen.x + 0.125, memory

    init = changes.pop("init", lambda key, given: (given.start, jnp.zeros(())))
    rule = Rule(init=init, move=move) if over is None else Rule(init=init, move=move, over=over)
    parts = {"objective": lead(), "distance": distances.l2()} | changes
    return iterated(rule, **parts, steps=steps)


def run(attack: cw.Attack, count: int, **changes):
    """The states before the first step and after each."""
    given = problem(X, GOAL)._replace(**changes)
    states = [attack.init(jax.random.key(0), given)]
    for _ in range(count):
        states.append(attack.step(linear, given, states[-1]))
    return states


def test_points_are_clipped_to_the_box_and_held_where_nothing_may_move():
    states = run(walk(steps=4), 4, mask=jnp.array([True, True, False]), high=jnp.full(3, 0.8))
    expected = [np.minimum(X[:2] + 0.125 * i, 0.8) for i in range(5)]
    np.testing.assert_allclose([state.w[:2] for state in states], expected, rtol=1e-6)
    assert all(state.w[2] == X[2] for state in states)


def test_the_first_point_is_an_allowed_one_too():
    attack = walk(init=lambda key, given: (jnp.full(3, 7.0), jnp.zeros(())))
    np.testing.assert_array_equal(run(attack, 0, mask=jnp.array([True, True, False]))[0].w, [1.0, 1.0, X[2]])


def test_an_element_is_home_from_the_clean_value_until_it_moves():
    def move(given: Problem, memory, seen: Seen):
        return seen.w + jnp.array([0.0, 0.0, 0.125]) * (seen.taken == 1), memory

    rule = Rule(init=lambda key, given: (given.start, ()), move=move)
    parts = {"objective": lead(confidence=10.0), "distance": distances.l2()}
    for box in (boxes.projected(), boxes.change_of_variables()):
        states = run(iterated(rule, **parts, box=box, steps=9), 3, start=X.at[0].add(0.125))
        assert [state.home.tolist() for state in states] == [[False, True, True]] * 2 + [[False, True, False]] * 2


@pytest.mark.parametrize(
    ("over", "ends"), [(None, [0, 0, 0, 1]), (lambda given, memory, seen: seen.taken == 1, [0, 1, 0, 1])]
)
def test_it_ends_after_its_steps_or_when_the_rule_says(over, ends):
    states = run(walk(steps=4, over=over, objective=lead(confidence=10.0)), 4)[1:]
    assert [int(state.progress.done) for state in states] == ends
    assert [int(state.progress.forwards) for state in states] == [1, 2, 3, 4]
    assert [int(state.progress.backwards) for state in states] == [1, 2, 3, 4]


def test_several_losses_cost_a_backward_pass_each():
    losses = Objective(loss=lambda logits, goal: logits[:2] - logits[2], met=lead().met)
    progress = run(walk(objective=losses), 2)[-1].progress
    assert (progress.forwards, progress.backwards) == (2, 4)


class Told(NamedTuple):
    """A search that keeps what it was told last, and asks for as many thousandths of a weight as it was told times."""

    times: jax.Array
    outcome: Progress


def remembering(last: int = 100) -> Search:
    return Search(
        init=lambda given: Told(jnp.int32(0), untouched(given)),
        ask=lambda given, knob: given._replace(c=knob.times / 1000),
        tell=lambda given, knob, outcome: Told(knob.times + 1, outcome),
        done=lambda knob: knob.times >= last,
    )


def test_a_rule_from_the_clean_input_looks_there_first_and_then_goes_as_it_would():
    told = []

    def move(given: Problem, memory, seen: Seen):
        told.append((int(seen.taken), float(seen.x[0])))
        return seen.x + 0.125, memory + 1

    inner = Rule(
        init=lambda key, given: (jnp.full(3, 0.5), jnp.int32(0)),
        move=move,
        over=lambda given, memory, seen: (seen.taken == 0) | (seen.taken == 2),
        aim=lambda given, memory: LabelGoal(label=jnp.int32(2), sign=jnp.float32(1.0)),
    )
    parts = {"objective": lead(confidence=10.0), "distance": distances.l2()}
    states = run(iterated(from_clean(inner), **parts, steps=9), 4)
    np.testing.assert_allclose([float(state.w[0]) for state in states], [float(X[0]), 0.5, 0.625, 0.75, 0.875])
    assert told == [(-1, 0.25), (0, 0.5), (1, 0.625), (2, 0.75)]  # what it makes of the first is not used
    assert [int(state.memory.rule) for state in states] == [0, 0, 1, 2, 3]
    assert [bool(state.progress.done) for state in states] == [False, False, True, False, True]
    np.testing.assert_allclose(states[1].progress.last.gradient, WEIGHTS[:, 0] - WEIGHTS[:, 2], rtol=1e-6)


def test_an_input_that_meets_the_goal_is_the_example_wherever_the_rule_begins():
    inner = Rule(lambda key, given: (jnp.full(3, 0.5), ()), lambda given, memory, seen: (seen.x, memory))
    parts = {"objective": lead(), "distance": distances.l2()}
    progress = run(iterated(from_clean(inner), **parts, steps=9), 1)[1].progress
    assert progress.done
    assert progress.best.distance == 0
