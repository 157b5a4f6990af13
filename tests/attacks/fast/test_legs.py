"""A run in legs: how long each is, where it begins, and when it is given up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.fast.legs import Course, equal, in_legs, legs_of
from cwjax.loop import Rule, iterated
from cwjax.problems import Allowed
from cwjax.problems import problem as problem_of
from tests.attacks.fast.made import FAST, KEYS, SIZE, X

pytestmark = pytest.mark.xdist_group("the fast family")  # they share programs

GOAL = cw.LabelGoal(jnp.int32(0), jnp.float32(-1))
STILL = Rule(  # what it was told is its memory
    init=lambda key, problem: (problem.start, problem), move=lambda problem, memory, seen: (seen.x, memory)
)


def begun_at(first: float) -> cw.Model:
    """Two logits; the goal is met from the look on at which the elements add up to `first` more than those of X[0]."""
    return cw.bind(lambda first, x: jnp.stack([first - (x - X[:1]).sum(-1), 0 * x[:, 0]], -1), jnp.float32(first))


def legs(steps: int, plan, *, margin: float, problem=None, informed: bool = True):
    """The legs of a run whose points stay at the start of theirs, what each was told, and the last state."""

    def attack_of(leg):
        parts = {"objective": cw.losses.negative_margin(), "distance": cw.distances.l2()}
        return iterated(STILL, **parts, steps=leg.steps)

    attack = in_legs(attack_of, plan, steps=steps, informed=informed)
    problem = problem_of(X[0], GOAL) if problem is None else problem
    state, step, model = attack.init(KEYS[0], problem), jax.jit(attack.step), begun_at(margin)
    seen, asked = [state.leg], [state.inner.memory]
    while not state.progress.done:
        state = step(model, problem, state)
        if state.leg.begun != seen[-1].begun and not state.progress.done:
            seen.append(state.leg)
            asked.append(state.inner.memory)
    return seen, asked, state


def begins(seen) -> list[int]:
    return [int(leg.begun) for leg in seen]


def up(problem):
    """The problem whose first point meets the goal: half a tenth above X[0] in each element."""
    return problem._replace(start=problem.x + 0.05)


def test_legs_grow_with_the_steps():
    assert [int(legs_of(steps)) for steps in (1, 100, 170, 300, 1000)] == [1, 1, 2, 2, 4]
    with pytest.raises(ValueError, match="steps"):
        legs_of(0)


def test_steps_are_counted():
    with pytest.raises(ValueError, match="steps"):
        in_legs(lambda leg: None, equal(1), steps=0)


def test_legs_have_the_planned_length_and_the_last_takes_what_is_left():
    seen, _, state = legs(11, equal(3), margin=0.1, problem=up(problem_of(X[0], GOAL)))
    assert begins(seen) == [0, 3, 7]
    assert [int(leg.steps) for leg in seen] == [3, 4, 4]
    assert [int(leg.number) for leg in seen] == [0, 1, 2]
    assert (state.progress.forwards, state.progress.backwards) == (11, 11)


def test_a_leg_has_no_more_steps_than_are_left():
    def plan(goal, number, left):
        return Course(steps=7, across=False)

    seen, _, state = legs(10, plan, margin=0.1, problem=up(problem_of(X[0], GOAL)))
    assert [int(leg.steps) for leg in seen] == [7, 3]
    assert state.progress.forwards == 10
    np.testing.assert_array_equal(seen[1].start, seen[0].start)  # not across: where the problem says


def test_a_leg_begins_across_the_clean_input_at_the_distance_known():
    problem = up(problem_of(X[0], GOAL))._replace(c=jnp.float32(1))
    seen, asked, _ = legs(8, equal(2), margin=0.1, problem=problem)
    assert (seen[0].scale, asked[0].scale, asked[0].c) == (0, 0, 1)
    np.testing.assert_array_equal(seen[0].start, problem.start)
    distance = 0.05 * SIZE**0.5
    assert float(asked[1].scale) == pytest.approx(distance, rel=1e-4)
    jitter = np.asarray(asked[1].start) - (np.asarray(X[0]) - 0.05)
    assert np.linalg.norm(jitter) == pytest.approx(distance, rel=1e-3)  # as far again, in some direction
    assert not np.allclose(np.abs(jitter), 0.05, atol=1e-3)


def test_a_leg_that_is_not_informed_knows_neither_scale_nor_weight():
    problem = up(problem_of(X[0], GOAL))
    _, asked, state = legs(8, equal(2), margin=0.1, problem=problem, informed=False)
    assert state.leg.scale > 0
    assert [(float(each.scale), float(each.c)) for each in asked] == [(0, 1), (0, 1)]
    _, asked, _ = legs(90, equal(1), margin=99.0, informed=False)
    assert {float(each.c) for each in asked} == {1}


@pytest.mark.parametrize(
    ("steps", "expected"), [(25, [0]), (30, [0, 25]), (75, [0, 25, 50]), (90, [0, 30, 60]), (91, [0, 30, 60, 90])]
)
def test_a_leg_without_an_example_is_given_up_after_a_third_of_the_steps_and_not_before_25(steps, expected):
    seen, asked, state = legs(steps, equal(1), margin=99.0)
    assert begins(seen) == expected
    assert state.progress.forwards == steps
    assert [int(leg.failed) for leg in seen] == list(range(len(seen)))
    assert {int(leg.number) for leg in seen} == {0}
    assert [bool(leg.lost) for leg in seen] == [False] + [True] * (len(seen) - 1)
    np.testing.assert_allclose([each.c for each in asked], 10.0 ** np.arange(len(seen)))
    assert {float(each.scale) for each in asked} == {0}


def test_the_next_begins_elsewhere_and_farther_out_within_the_box_and_held_where_the_mask_is_false():
    mask = np.arange(SIZE) % 3 > 0
    allowed = Allowed(low=0.1, high=0.9, mask=mask)
    problem = problem_of(X[0], GOAL, allowed)
    gone = []
    seen, _, _ = legs(91, equal(1), margin=99.0, problem=problem)
    for share, leg in zip([0, 1 / 3, 2 / 3, 1], seen, strict=True):
        drawn = np.asarray(leg.start)
        assert (drawn >= problem.low).all()
        assert (drawn <= problem.high).all()
        np.testing.assert_allclose(drawn[~mask], X[0][~mask], atol=1e-6)
        far = np.maximum(X[0] - 0.1, 0.9 - X[0])[mask]
        assert (np.abs(drawn - X[0])[mask] <= share * far + 1e-6).all()
        gone.append(np.linalg.norm(drawn - X[0]))
    assert gone[0] == 0
    assert (np.diff(gone) > 0).all()


def test_once_an_example_is_known_no_leg_is_given_up():
    problem = up(problem_of(X[0], GOAL))
    seen, _, state = legs(90, equal(1), margin=0.1, problem=problem)
    assert begins(seen) == [0]
    seen, _, _ = legs(160, equal(2), margin=0.1, problem=problem)  # the second finds nothing nearer in 80 steps
    assert begins(seen) == [0, 80]
    assert not any(bool(leg.lost) for leg in seen)
    assert state.leg.failed == 0


def cliff(weights, x):
    """Logits that are constant within 0.3 of the middle of the box, and affine outside."""
    z = x.reshape(len(x), -1) - 0.5
    outside = jnp.sqrt((z**2).sum(-1, keepdims=True)) > 0.3
    return jnp.where(outside, 0.1 * z @ weights, 0) + jnp.array([[0.05, 0.0]])


@pytest.mark.parametrize("make", [*FAST.values(), cw.fast_l0])
def test_a_loss_that_is_flat_about_the_clean_input_does_not_stop_a_hundred_gradients(make):
    model = cw.bind(cliff, jnp.asarray(np.random.default_rng(0).normal(size=(SIZE, 2)), jnp.float32))
    for goal in (cw.untargeted(np.zeros(8, int)), cw.targeted(np.ones(8, int))):
        keys, x = jax.random.split(jax.random.key(0), 8), jnp.full((8, SIZE), 0.5)
        result = jax.jit(cw.batched(make(steps=100)))(model, keys, x, goal)
        assert result.success.all()
        np.testing.assert_array_equal(result.forwards, 100)
