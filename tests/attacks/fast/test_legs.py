"""A run in legs: how long each is, where it begins, and when it is given up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.fast.legs import in_legs, legs_of
from cwjax.loop import Rule
from cwjax.problems import Allowed
from cwjax.problems import problem as problem_of
from tests.attacks.fast.made import KEYS, SIZE, X, followed

pytestmark = pytest.mark.xdist_group("the fast family")  # they share programs

GOAL = cw.LabelGoal(jnp.int32(0), jnp.float32(-1))
STILL = Rule(init=lambda key, problem: (problem.start, ()), move=lambda problem, memory, seen: (seen.x, memory))


def begun_at(first: float) -> cw.Model:
    """Two logits; the goal is met from the look on at which the elements add up to `first` more than those of X[0]."""
    return cw.bind(lambda first, x: jnp.stack([first - (x - X[:1]).sum(-1), 0 * x[:, 0]], -1), jnp.float32(first))


def run(steps: int, legs: int, *, margin: float, problem=None, rule_of=lambda leg: STILL, **settings):
    """The legs of a run whose points stay at the start of theirs, and the last state."""
    attack = followed(in_legs(rule_of, steps=steps, legs=legs, **settings), "l2", steps)
    problem = problem_of(X[0], GOAL) if problem is None else problem
    state, step, model = attack.init(KEYS[0], problem), jax.jit(attack.step), begun_at(margin)
    seen = [state.memory]
    while not state.progress.done:
        state = step(model, problem, state)
        if state.memory.leg.begun != seen[-1].leg.begun and not state.progress.done:
            seen.append(state.memory)
    return [memory.leg for memory in seen], [int(memory.failed) for memory in seen], state


def begins(seen) -> list[int]:
    return [int(leg.begun) for leg in seen]


def up(problem):
    """The problem whose first point meets the goal: half a tenth above X[0] in each element."""
    return problem._replace(start=problem.x + 0.05)


def test_legs_grow_with_the_steps():
    assert [int(legs_of(steps)) for steps in (1, 100, 150, 300, 1000)] == [1, 1, 2, 2, 4]
    with pytest.raises(ValueError, match="steps"):
        legs_of(0)


def test_legs_have_one_length_and_the_last_takes_what_is_left():
    seen, _, state = run(11, 3, margin=0.1, problem=up(problem_of(X[0], GOAL)))
    assert begins(seen) == [0, 3, 7]
    assert [int(leg.steps) for leg in seen] == [3, 4, 4]
    assert [int(leg.number) for leg in seen] == [0, 1, 2]
    assert (state.progress.forwards, state.progress.backwards) == (11, 11)


def test_a_leg_begins_across_the_clean_input_at_the_distance_known():
    problem = up(problem_of(X[0], GOAL))
    seen, _, _ = run(8, 2, margin=0.1, problem=problem)
    np.testing.assert_array_equal(seen[0].start, problem.start)
    np.testing.assert_allclose(seen[1].start, X[0] - 0.05, atol=1e-6)
    seen, _, _ = run(9, 3, margin=0.1, problem=problem, clean=2)  # or where the problem says
    np.testing.assert_array_equal(seen[1].start, seen[0].start)
    np.testing.assert_allclose(seen[2].start, X[0] - 0.05, atol=1e-6)


def test_a_rule_is_told_of_its_own_leg_alone():
    told = []

    def move(problem, memory, seen):
        told.append((int(seen.taken), bool(jnp.isfinite(seen.best.distance)), float((problem.start - X[0])[0])))
        return problem.x, memory

    rule = in_legs(lambda leg: STILL._replace(move=move), steps=6, legs=2)
    problem, attack = up(problem_of(X[0], GOAL)), followed(rule, "l2", 6)
    state = attack.init(KEYS[0], problem)
    for _ in range(6):
        state = attack.step(begun_at(0.1), problem, state)
    # The second leg begins where the goal is not met, and its rule knows of no example.
    assert [each[:2] for each in told] == [(0, True), (1, True), (2, True), (0, False), (1, False), (2, False)]
    np.testing.assert_allclose([each[2] for each in told], [0.05] * 3 + [-0.05] * 3, rtol=1e-4)
    assert jnp.isfinite(state.progress.best.distance)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(20, [0]), (30, [0, 20]), (60, [0, 20, 40]), (90, [0, 30, 60]), (91, [0, 30, 60, 90]), (200, [0, 60, 120, 180])],
)
def test_a_leg_without_an_example_is_given_up_after_a_third_of_the_steps_or_20_or_60(steps, expected):
    seen, failed, state = run(steps, 1, margin=99.0)
    assert begins(seen) == expected
    assert state.progress.forwards == steps
    assert failed == list(range(len(seen)))
    assert {int(leg.number) for leg in seen} == {0}
    assert [bool(leg.lost) for leg in seen] == [False] + [True] * (len(seen) - 1)
    np.testing.assert_allclose([leg.farther for leg in seen], 9.0 ** np.arange(len(seen)), rtol=1e-6)
    np.testing.assert_allclose([leg.spread for leg in seen], 3.0 ** np.arange(len(seen)), rtol=1e-6)


def test_the_next_begins_elsewhere_and_farther_out_within_the_box_and_held_where_the_mask_is_false():
    mask = np.arange(SIZE) % 3 > 0
    allowed = Allowed(low=0.1, high=0.9, mask=mask)
    problem = problem_of(X[0], GOAL, allowed)
    gone = []
    seen, _, _ = run(91, 1, margin=99.0, problem=problem)
    for share, leg in zip([0, 1 / 3, 2 / 3, 2 / 3], seen, strict=True):
        drawn = np.asarray(leg.start)
        assert (drawn >= problem.low).all()
        assert (drawn <= problem.high).all()
        np.testing.assert_allclose(drawn[~mask], X[0][~mask], atol=1e-6)
        far = np.maximum(X[0] - 0.1, 0.9 - X[0])[mask]
        assert (np.abs(drawn - X[0])[mask] <= share * far + 1e-6).all()
        gone.append(np.linalg.norm(drawn - X[0]))
    assert gone[0] == 0
    assert (np.diff(gone[:3]) > 0).all()


def nearer_by_a_tenth(leg):
    """A leg goes so far that the elements add up to 0.6 more, and one for a class nine tenths of it."""
    return STILL._replace(
        init=lambda key, problem: (problem.x + jnp.where(leg.rival < 0, 0.05, 0.045) * jnp.ones(SIZE), ())
    )


@pytest.mark.parametrize(
    ("margin", "begun", "rivals", "numbers"),
    [(0.59, [0, 32, 36, 40], [-1, 0, 1, -1], [0, 1, 1, 1]), (0.5, [0, 32], [-1, 0], [0, 1])],
)
def test_a_hurried_leg_for_another_class_is_given_up_where_it_finds_nothing_nearer(margin, begun, rivals, numbers):
    problem = problem_of(X[0], GOAL)
    settings = {"rivals": lambda problem, seen: 2, "hurried": True}
    seen, _, _ = run(64, 2, margin=margin, problem=problem, rule_of=nearer_by_a_tenth, **settings)
    assert begins(seen) == begun
    assert [int(leg.rival) for leg in seen] == rivals
    assert [int(leg.number) for leg in seen] == numbers
    np.testing.assert_array_equal(seen[1].start, X[0])
    within = [np.inf if rival < 0 else 0.98 * 0.05 * np.sqrt(SIZE) for rival in rivals]
    np.testing.assert_allclose([leg.within for leg in seen], within, rtol=1e-4)


@pytest.mark.parametrize("hurried", [False, True])
@pytest.mark.parametrize("margin", [0.59, 0.5])  # whether they find an example or not
def test_legs_for_classes_have_60_steps_where_all_of_them_take_no_more_than_a_third(margin, hurried):
    settings = {"rivals": lambda problem, seen: 2, "hurried": hurried, "rule_of": nearer_by_a_tenth}
    seen, _, _ = run(360, 2, margin=margin, problem=problem_of(X[0], GOAL), **settings)
    assert begins(seen) == [0, 180, 240, 300]
    assert [int(leg.rival) for leg in seen] == [-1, 0, 1, -1]
    assert [int(leg.number) for leg in seen] == [0, 1, 1, 1]
    assert [int(leg.steps) for leg in seen] == [180, 60, 60, 60]


def test_in_a_shorter_run_there_are_none_unless_they_are_hurried():
    told = {"margin": 0.5, "problem": problem_of(X[0], GOAL), "rule_of": nearer_by_a_tenth}
    seen, _, _ = run(358, 2, rivals=lambda problem, seen: 2, **told)
    assert begins(seen) == [0, 179]
    assert [int(leg.rival) for leg in seen] == [-1, -1]


def test_once_an_example_is_known_no_leg_is_given_up():
    problem = up(problem_of(X[0], GOAL))
    seen, _, _ = run(90, 1, margin=0.1, problem=problem)
    assert begins(seen) == [0]
    seen, failed, _ = run(160, 2, margin=0.1, problem=problem)  # the second finds nothing nearer in 80 steps
    assert begins(seen) == [0, 80]
    assert not any(bool(leg.lost) for leg in seen)
    assert [float(leg.spread) for leg in seen] == [1, 1]
    assert failed == [0, 0]
