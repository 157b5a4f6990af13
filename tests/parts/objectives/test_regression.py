"""Numbers that come within a tolerance or leave it, against NumPy float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.parts.objectives import tolerance
from tests.parts.objectives.asked import answers, handed, of_one

HINGED, FREE = tolerance, functools.partial(tolerance, hinged=False)
EPS, LEAST = 2.0**-23, 2.0**-103


def definition(question, confidence: float, hinged: bool) -> tuple[float, bool]:
    y, value, allowed, sign, side = (np.asarray(each, np.float64) for each in question)
    distance = side * (y - value) if side else np.abs(y - value)
    lags = (confidence + 64 * EPS * np.abs(y) + LEAST + sign * (distance - allowed)).ravel()
    if sign > 0:
        met = bool((lags <= 0).all())
        return lags.max() if met and not hinged else np.maximum(lags, 0).mean(), met
    met = bool((lags <= 0).any())
    return lags.min() if met and not hinged else max(lags.min(), 0), met


def questions(shape):
    """Outputs of a shape and goals: values reached, and values left."""
    generator = np.random.default_rng(2)
    y, value = (generator.integers(-6, 7, (150, *shape)) / 2 for _ in range(2))
    near = generator.random((150, *[1] * len(shape))) < 0.5
    value = np.where(near, y + generator.integers(-1, 2, y.shape), value)
    allowed = generator.integers(0, 5, y.shape) / 2
    kinds = [cw.goals.value_reached(value, allowed)]
    kinds += [cw.goals.value_left(value, allowed, side=side) for side in ("either", "above", "below")]
    return np.concatenate([y] * 4).astype(np.float32), jax.tree.map(lambda *each: jnp.concatenate(each), *kinds)


@pytest.mark.parametrize("confidence", [0.0, 0.25])
@pytest.mark.parametrize("make", [HINGED, FREE])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_the_loss_of_a_tolerance_is_its_definition(shape, make, confidence):
    y, goal = questions(shape)
    rows = zip(y, *goal, strict=True)
    expected = np.array([definition(row, confidence, make is HINGED) for row in rows])
    found = answers(make, y, goal, confidence)
    np.testing.assert_allclose(found.loss, expected[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.met, expected[:, 1])
    for kind in found.met.reshape(4, 150):
        assert 5 < kind.sum() < 145


@pytest.mark.parametrize(
    ("make", "loss", "slope"),
    [
        (cw.goals.value_reached, 0.25, [-0.5, 0.0]),  # 1 and 0.25 away from the values, by a tolerance of 0.5
        (cw.goals.value_left, 0.0, [0.0, 0.0]),
    ],
)
def test_a_tolerance_by_hand(make, loss, slope):
    goal, objective = of_one(make(np.full((1, 2), 2.0), 0.5)), tolerance()
    found, tangent = jax.value_and_grad(objective.loss)(jnp.array([1.0, 2.25]), goal)
    assert float(found) == pytest.approx(loss, abs=1e-4)
    np.testing.assert_allclose(tangent, slope, atol=1e-4)
    assert bool(objective.met(jnp.array([1.0, 2.25]), goal)) == (loss == 0)


@pytest.mark.parametrize("hinged", [True, False])
@pytest.mark.parametrize("value", [0.0, 3.0, -2e4])
def test_at_the_value_itself_the_slope_knows_where_to_go(value, hinged):
    objective, goal = tolerance(hinged=hinged), of_one(cw.goals.value_left(np.array([value]), 0.5))
    slope = jax.grad(objective.loss)(jnp.float32(value), goal)
    assert float(slope) == pytest.approx(-1, abs=1e-4)
    several = of_one(cw.goals.value_left(np.full((1, 3), value), 0.5))
    slope = np.asarray(jax.grad(objective.loss)(jnp.full(3, value, jnp.float32), several))
    assert np.abs(slope).max() == pytest.approx(1, abs=1e-4)


def test_a_tolerance_of_each_output_is_its_own():
    goal, y = of_one(cw.goals.value_reached(np.zeros((1, 2)), np.array([[3.0, 0.5]]))), jnp.array([2.0, 2.0])
    assert float(tolerance().loss(y, goal)) == pytest.approx(0.75, abs=1e-4)
    left = goal._replace(sign=jnp.float32(-1))
    assert tolerance().met(y, left)
    assert not tolerance(2.0).met(y, left)


@pytest.mark.parametrize(("make", "side"), [(cw.goals.value_reached, 1), (cw.goals.value_left, -1)])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_distance_to_the_tolerance_within_rounding_does_not_count(make, side, scale):
    allowed = [scale * (1 + side * ulps * EPS) for ulps in (60, 72)]
    goals = make(np.zeros(2), np.array(allowed, np.float32))
    met = [bool(tolerance().met(jnp.float32(scale), of_one(goals, row))) for row in (0, 1)]
    assert met == [False, True]


def test_to_come_within_a_tolerance_is_to_reach_one_place():
    assert tolerance().reaches(of_one(cw.goals.value_reached(np.ones(1), 0.5)))
    assert not tolerance().reaches(of_one(cw.goals.value_left(np.ones(1), 0.5)))


@pytest.mark.parametrize("shape", [(3,), (2, 1), (), [(2,), (2,)]])
def test_outputs_of_another_shape_than_the_values_are_refused(shape):
    words = r"^tolerance reads outputs of the shape of the goal's values, \[2\], from one input, got \(?float32"
    with pytest.raises(ValueError, match=words):
        handed(tolerance(), shape, cw.goals.value_left(np.zeros((4, 2)), 0.5))


def test_a_tolerance_refuses_a_goal_of_another_task_and_a_batch_of_another_size():
    with pytest.raises(TypeError, match=r"^tolerance reads a goal of goals.value_reached or .*, got LabelGoal"):
        handed(tolerance(), (), cw.targeted([0, 1]))
    goal = cw.goals.value_left(np.zeros(3), 0.5)
    with pytest.raises(ValueError, match=r"^goal.sign must have one entry an example, 3 of them, got shape \[1\]"):
        handed(tolerance(), (), goal._replace(sign=goal.sign[:1]))


@pytest.mark.parametrize("confidence", [-1.0, np.nan, np.inf])
def test_a_confidence_of_numbers_that_is_out_of_range_is_refused(confidence):
    with pytest.raises(ValueError, match=r"^confidence must be at least 0, got"):
        tolerance(confidence)
