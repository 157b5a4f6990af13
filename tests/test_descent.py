"""One look at a problem, by hand: what it says of the point, when it is a failure, and what a step makes of it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cwjax as cw
from cwjax.answers import Evaluated, look
from cwjax.base import LabelGoal, Objective, Problem
from cwjax.loop import IteratedState
from cwjax.parts import boxes, distances
from cwjax.problems import problem

X = jnp.array([0.25, 0.5, 0.75], jnp.float32)
WEIGHTS = np.array([[3.0, 0.0, 1.0], [0.0, 2.0, 0.0], [1.0, 0.875, -1.0]], np.float32)  # from element to class
W = jnp.array([0.5, 1.25, 0.25], jnp.float32)  # outside the box in its second element
INSIDE = np.array([0.5, 1.0, 0.25], np.float32)
LOGITS = INSIDE @ WEIGHTS  # [1.75, 2.21875, 0.25]


def linear(x):
    """Logits [3]."""
    return x @ WEIGHTS


def asked(label: int = 1, sign: float = 1.0, **changes) -> Problem:
    goal = LabelGoal(label=jnp.int32(label), sign=jnp.float32(sign))
    return problem(X, goal)._replace(**{"c": jnp.float32(2.0)} | changes)


def lead(confidence: float = 0.0) -> Objective:
    """Class 0 over the label, and `met` where the label leads."""
    return Objective(
        loss=lambda logits, goal: logits[0] - logits[goal.label] + confidence,
        met=lambda logits, goal: logits[goal.label] > logits[0] + confidence,
    )


def evaluate(model, given: Problem, w, home=(False, False, False), **parts) -> Evaluated:
    """What a descent makes of a point."""
    return look(model, given, w, jnp.array(home), **parts, aim=given.goal, penalised=True).evaluated


def at_w(model=linear, given: Problem | None = None, objective: Objective | None = None, w=W) -> Evaluated:
    """At W by default, in clipped descent, in which the model and the distance see different images."""
    parts = {"objective": objective or lead(), "distance": distances.l2(), "box": boxes.clipped()}
    return evaluate(model, given or asked(), w, **parts)


def test_what_is_seen_of_a_point_by_hand():
    seen = at_w()
    away = np.asarray(W - X)  # what the penalty sees, outside the box too
    slope = (WEIGHTS[:, 0] - WEIGHTS[:, 1]) * [1, 0, 1]  # clipping stops the second element's
    np.testing.assert_allclose(seen.evaluation.loss, (away**2).sum() + 2.0 * (LOGITS[0] - LOGITS[1]), rtol=1e-6)
    np.testing.assert_allclose(seen.evaluation.distance, np.linalg.norm(INSIDE - X), rtol=1e-6)
    np.testing.assert_allclose(seen.evaluation.gradient, 2 * away + 2.0 * slope, rtol=1e-6)
    assert seen.evaluation.met
    assert seen.finite
    np.testing.assert_array_equal(seen.candidate.x, INSIDE)
    assert seen.candidate.distance == seen.evaluation.distance
    assert seen.candidate.c == 2.0


def test_a_point_that_misses_the_goal_is_no_candidate_and_still_measured():
    seen = at_w(objective=lead(confidence=10.0))
    assert not seen.evaluation.met
    assert seen.finite
    assert np.isinf(seen.candidate.distance)
    np.testing.assert_allclose(seen.evaluation.distance, np.linalg.norm(INSIDE - X), rtol=1e-6)


def no_slope(x):
    """Finite logits, and a slope that is NaN where the last element is at most a quarter."""
    return linear(x) + jnp.where(x[2] > 0.25, jnp.sqrt(x[2] - 0.25), 0.0)


FAULTS = {
    "the slope alone": (no_slope, lead()),
    "a logit that the objective does not read": (lambda x: linear(x).at[2].set(jnp.nan), lead()),
    "the loss alone": (
        linear,
        Objective(loss=lambda logits, goal: jnp.log(0.0 * logits[0].astype(int)), met=lead().met),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_number_that_is_not_finite_is_a_failure_though_the_goal_is_met(fault):
    model, objective = FAULTS[fault]
    seen = at_w(model, objective=objective)
    finite = [
        np.isfinite(each).all() for each in (seen.evaluation.gradient, model(jnp.asarray(INSIDE)), seen.evaluation.loss)
    ]
    assert finite.count(np.False_) == 1  # each fault shows in one place
    assert seen.evaluation.met
    assert not seen.finite
    assert np.isinf(seen.candidate.distance)


@pytest.mark.parametrize("box", [boxes.clipped(), boxes.projected(), boxes.change_of_variables()])
@pytest.mark.parametrize("distance", [distances.l0(), distances.l1(), distances.l2(), distances.linf()])
def test_an_element_that_may_not_move_adds_nothing_to_loss_or_gradient(box, distance):
    given = asked(mask=jnp.array([True, False, True]))
    parts = {"objective": lead(), "distance": distance, "box": box}
    bounds = (given.low, given.high)
    w = box.project(jnp.array([0.4, 0.3, 0.25]), *bounds)
    frozen = w.at[1].set(box.encode(X, *bounds)[1])
    seen, whole = (evaluate(linear, asks, at, **parts) for asks, at in ((given, w), (asked(), frozen)))
    np.testing.assert_allclose(seen.evaluation.loss, whole.evaluation.loss, rtol=1e-5)
    assert seen.evaluation.gradient[1] == 0
    assert (seen.evaluation.gradient[jnp.array([0, 2])] != 0).all()
    assert seen.candidate.x[1] == X[1]


WIDE = jnp.array([10.0, 40.0, 2.5], jnp.float32)  # their geometric mean is 10


@pytest.mark.parametrize(("distance", "unit"), [(distances.l2(), 10.0), (distances.l0(per_pixel=False), WIDE)])
def test_lengths_are_in_widths_of_the_box_and_the_distance_is_not(distance, unit):
    x, w = WIDE * X, WIDE * jnp.asarray(INSIDE)
    given = asked(x=x, start=w, high=WIDE, widths=WIDE, span=jnp.float32(10.0))
    parts = {"objective": lead(), "distance": distance, "box": boxes.projected()}
    seen = evaluate(lambda x: linear(x / WIDE), given, w, **parts)
    away = np.asarray((w - x) / unit)
    slope = (WEIGHTS[:, 0] - WEIGHTS[:, 1]) / WIDE * unit
    np.testing.assert_allclose(seen.evaluation.loss, (away**2).sum() + 2.0 * (LOGITS[0] - LOGITS[1]), rtol=1e-5)
    np.testing.assert_allclose(seen.evaluation.gradient, 2 * away + 2.0 * slope, rtol=1e-5)
    np.testing.assert_allclose(seen.evaluation.distance, distance.measure(w - x), rtol=1e-6)


def test_the_tau_of_linf_is_a_length_of_the_inputs_own():
    wide = {"high": jnp.full(3, 10.0), "span": jnp.float32(10.0)}
    given = asked(x=10 * X, start=10 * INSIDE, tau=jnp.float32(2.0), c=jnp.float32(0.0), **wide)
    parts = {"objective": lead(), "distance": distances.linf(), "box": boxes.projected()}
    seen = evaluate(lambda x: linear(x / 10), given, jnp.asarray(10 * INSIDE), **parts)
    np.testing.assert_allclose(seen.evaluation.loss, np.maximum(np.abs(INSIDE - X) - 0.2, 0).sum(), rtol=1e-5)


def test_what_the_mask_holds_shows_no_slope():
    seen = at_w(given=asked(mask=jnp.array([False, True, True])))
    np.testing.assert_array_equal(seen.live, [False, True, True])


def half_blind(x):
    """Logits that depend on the second element, which shows no slope."""
    return linear(jnp.where(jnp.array([False, True, False]), jax.lax.stop_gradient(x), x))


LIVE = [True, False, True]


def test_an_element_without_a_slope_is_held_once_another_has_shown_one():
    parts = {"objective": lead(-10.0), "distance": distances.l2(), "box": boxes.projected()}
    given = asked(start=INSIDE, live=jnp.array(LIVE))
    seen = evaluate(half_blind, given, jnp.asarray(INSIDE), **parts)
    np.testing.assert_array_equal(seen.candidate.x, np.where(LIVE, INSIDE, X))
    assert seen.evaluation.gradient[1] == 0
    assert seen.evaluation.met
    np.testing.assert_array_equal(seen.live, LIVE)


@pytest.mark.parametrize("elsewhere", [LIVE, [True, True, True]])
def test_a_point_that_shows_the_first_slopes_is_no_example_if_another_element_has_moved(elsewhere):
    point = jnp.where(jnp.array(elsewhere), jnp.asarray(INSIDE), X)
    parts = {"objective": lead(-10.0), "distance": distances.l2(), "box": boxes.projected()}
    seen = evaluate(half_blind, asked(start=point), point, **parts)
    np.testing.assert_array_equal(seen.candidate.x, point)
    assert seen.evaluation.met == (elsewhere == LIVE)
    assert seen.finite
    np.testing.assert_array_equal(seen.live, LIVE)


def test_where_nothing_shows_a_slope_a_start_may_be_an_example():
    hinged = Objective(loss=lambda logits, goal: 0.0 * logits[0], met=lead().met)
    parts = {"objective": hinged, "distance": distances.l2(), "box": boxes.projected()}
    seen = evaluate(linear, asked(start=INSIDE), jnp.asarray(INSIDE), **parts)
    np.testing.assert_array_equal(seen.candidate.x, INSIDE)
    assert seen.evaluation.met
    assert not seen.live.any()


def test_the_model_sees_the_inputs_dtype_and_the_distance_is_of_what_it_saw():
    seen_by_model = []

    def model(x):
        seen_by_model.append(x.dtype)
        return linear(x.astype(jnp.float32))

    w = jnp.array([0.3, 0.6, 0.7], jnp.float32)  # none of them a bfloat16
    seen = at_w(model, asked(x=X.astype(jnp.bfloat16)), lead(confidence=-10.0), w)
    assert set(seen_by_model) == {jnp.dtype(jnp.bfloat16)}
    assert seen.candidate.x.dtype == jnp.bfloat16
    rounded = w.astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_allclose(seen.candidate.distance, np.linalg.norm(rounded - X), rtol=1e-6)
    assert seen.evaluation.gradient.dtype == jnp.float32


def descent(steps: int = 3, **changes) -> cw.Attack:
    parts: dict[str, Any] = {"objective": lead(), "distance": distances.l2(), "box": boxes.projected()}
    parts |= {"abort": cw.aborts.never(), "optimizer": optax.sgd(0.01, momentum=0.5)}
    return cw.descend(**parts | changes, steps=steps)


def stepped(attack: cw.Attack, given: Problem, count: int) -> list[IteratedState]:
    """The states before the first step and after each."""
    states = [attack.init(jax.random.key(0), given)]
    for _ in range(count):
        states.append(attack.step(linear, given, states[-1]))
    return states


def test_a_step_goes_down_the_slope_by_the_problems_scale():
    plain, double = (stepped(descent(), asked(scale=jnp.float32(scale)), 1) for scale in (1.0, 2.0))
    gradient = plain[1].progress.last.gradient
    np.testing.assert_allclose(plain[1].w, np.clip(X - 0.01 * gradient, 0, 1), rtol=1e-5)
    np.testing.assert_allclose(double[1].w, np.clip(X - 0.02 * gradient, 0, 1), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, plain[1].memory.optimizer, double[1].memory.optimizer)


def test_a_step_of_scale_0_only_looks():
    before, after = stepped(descent(), asked(scale=jnp.float32(0.0)), 1)
    np.testing.assert_array_equal(after.w, before.w)
    jax.tree.map(np.testing.assert_array_equal, after.memory.optimizer, before.memory.optimizer)
    assert after.taken == after.progress.forwards == after.progress.backwards == 1


def test_it_ends_after_its_steps_and_not_before():
    states = stepped(descent(steps=3, objective=lead(confidence=10.0)), asked(), 3)
    assert [bool(state.progress.done) for state in states] == [False, False, False, True]


def test_it_ends_at_distance_0_because_nothing_is_closer():
    state = stepped(descent(steps=3), asked(), 1)[1]
    assert state.progress.best.distance == 0
    assert state.progress.done


@pytest.mark.parametrize("box", [boxes.clipped(), boxes.projected(), boxes.change_of_variables()])
def test_the_first_look_is_at_the_clean_input_only_where_the_descent_starts_there(box):
    x = jnp.array([0.3, 0.6, 0.7], jnp.float32)
    parts = {"objective": lead(-10.0), "distance": distances.l2(), "box": box}
    starts, bounds = (x, x * (1 + 1e-5)), (asked().low, asked().high)
    seen, beside = (
        evaluate(linear, asked(x=x, start=start), box.encode(start, *bounds), start == x, **parts) for start in starts
    )
    np.testing.assert_array_equal(seen.candidate.x, x)
    assert seen.candidate.distance == 0
    assert (beside.candidate.x != x).all()
    assert beside.candidate.distance > 0


def test_it_ends_where_nothing_may_move():
    assert stepped(descent(), asked(mask=jnp.zeros(3, bool)), 1)[1].progress.done


@pytest.mark.parametrize(
    ("abort", "confidence", "ends"),
    [(cw.aborts.first_success(), 0.0, True), (cw.aborts.first_success(), 10.0, False), (cw.aborts.never(), 0.0, False)],
)
def test_it_ends_where_its_abort_says(abort, confidence, ends):
    given = asked(start=jnp.array([0.1, 0.9, 0.7]))
    state = stepped(descent(abort=abort, objective=lead(confidence)), given, 1)[1]
    assert bool(state.progress.done) == ends


def test_it_ends_at_a_number_that_is_not_finite_and_stays_not_finite():
    attack, given = descent(), asked(start=jnp.array([0.5, 1.0, 0.25]))
    state = attack.step(no_slope, given, attack.init(jax.random.key(0), given))
    assert state.progress.done
    assert not state.progress.finite
    assert not attack.step(linear, given, state).progress.finite


def test_the_best_of_its_points_is_kept():
    # Down the penalty alone, from a point that meets the goal: each is closer, and the last of them no longer meets it.
    attack = descent(steps=12, objective=lead(confidence=0.5), optimizer=optax.sgd(0.1))
    states = stepped(attack, asked(start=jnp.array([0.1, 0.9, 0.7]), c=jnp.float32(0.0)), 12)
    met = [bool(state.progress.last.met) for state in states[1:]]
    assert met[0]
    assert not met[-1]
    closest = min(float(state.progress.last.distance) for state in states[1:] if state.progress.last.met)
    assert states[-1].progress.best.distance == closest
    assert states[-1].progress.forwards == states[-1].progress.backwards == 12
