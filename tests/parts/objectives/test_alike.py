"""What the objectives of several labels, of numbers and of pixels have in common."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.parts.objectives import pixels, several_labels, tolerance
from tests.parts.objectives.asked import answers, of_one

BATCH = 40
LABELS = np.random.default_rng(8).random((BATCH, 4)) < 0.5
CLASSES = np.random.default_rng(9).integers(0, 3, (BATCH, 2, 2))
VALUES = np.random.default_rng(10).integers(-4, 5, (BATCH, 3)) / 2

CASES = {
    "labels reached": (several_labels, (4,), cw.goals.labels_reached(LABELS)),
    "labels flipped": (several_labels, (4,), cw.goals.labels_flipped(LABELS, 2)),
    "values reached": (tolerance, (3,), cw.goals.value_reached(VALUES, 0.75)),
    "values left": (tolerance, (3,), cw.goals.value_left(VALUES, 0.75)),
    "pixels reached": (pixels, (2, 2, 3), cw.goals.pixels_reached(CLASSES, share=0.5)),
    "pixels left": (pixels, (2, 2, 3), cw.goals.pixels_left(CLASSES)),
}
EVERY = (several_labels, tolerance, pixels)
MAKERS = {make: {True: make, False: functools.partial(make, hinged=False)} for make in EVERY}

every_case = pytest.mark.parametrize("case", CASES)
either_hinge = pytest.mark.parametrize("hinged", [True, False])


def asked(case: str, outputs, hinged: bool, confidence: float = 0.0):
    make, _, goal = CASES[case]
    return answers(MAKERS[make][hinged], np.asarray(outputs, np.float32), goal, confidence)


def some_outputs(case: str, *, near: float) -> np.ndarray:
    """At random about what the goal says: the larger `near`, the oftener it is met."""
    _, shape, goal = CASES[case]
    generator = np.random.default_rng(11)
    noise = generator.normal(size=(BATCH, *shape)).astype(np.float32)
    if case.startswith("labels"):
        return noise + near * np.asarray(goal.wanted)
    if case.startswith("values"):
        return np.asarray(goal.value) + noise * np.float32(np.exp(-goal.sign[0] * near))
    return noise + near * np.asarray(goal.sign)[:, None, None, None] * np.eye(3, dtype=np.float32)[CLASSES]


@every_case
def test_the_loss_is_at_most_zero_exactly_where_the_goal_is_met(case):
    reached = 0
    for near in (-1.0, 0.0, 1.0, 2.0):
        outputs = some_outputs(case, near=near)
        hinged, free = asked(case, outputs, True), asked(case, outputs, False)
        np.testing.assert_array_equal(hinged.met, free.met)
        np.testing.assert_array_equal(hinged.met, hinged.loss == 0)
        np.testing.assert_array_equal(free.met, free.loss <= 0)
        np.testing.assert_array_equal(hinged.loss[~hinged.met], free.loss[~free.met])
        assert (hinged.loss >= 0).all()
        reached += hinged.met.sum()
    assert 20 < reached < 140


@every_case
@either_hinge
def test_a_larger_confidence_is_a_larger_loss_by_no_more_than_that(case, hinged):
    outputs = some_outputs(case, near=1.0)
    before, after = asked(case, outputs, hinged, 0.25), asked(case, outputs, hinged, 1.0)
    assert (after.loss - before.loss > -1e-6).all()
    assert (after.loss - before.loss < 0.75 + 1e-5).all()
    still = after.met if not hinged else np.zeros(BATCH, bool)
    np.testing.assert_allclose((after.loss - before.loss)[still], 0.75, rtol=1e-4)
    assert not (after.met & ~before.met).any()
    assert (after.loss > before.loss).any()


@every_case
@either_hinge
@pytest.mark.parametrize("size", [0.0, 1e4])
def test_loss_and_slope_are_finite(case, hinged, size):
    found = asked(case, size * np.sign(some_outputs(case, near=0.0)), hinged)
    assert np.isfinite(found.loss).all()
    assert np.isfinite(found.slope).all()
    assert (np.abs(found.slope).reshape(BATCH, -1).max(1)[~found.met] > 0).all()


@every_case
@either_hinge
def test_where_the_goal_is_missed_there_is_a_slope_and_unhinged_where_it_is_met_too(case, hinged):
    found = asked(case, some_outputs(case, near=1.0), hinged)
    steepest = np.abs(found.slope).reshape(BATCH, -1).max(1)
    np.testing.assert_array_equal(steepest > 0, ~found.met | (not hinged))


@every_case
@either_hinge
def test_a_small_step_down_the_slope_lowers_the_loss_by_what_it_says(case, hinged):
    outputs = some_outputs(case, near=1.0).astype(np.float64)
    found = asked(case, outputs, hinged)
    step = 1e-3 * found.slope
    fall = found.loss - asked(case, outputs - step, hinged).loss
    promised = (step * found.slope).reshape(BATCH, -1).sum(1)
    # A step may take a label or a pixel past what is asked of it: there the slope ends.
    assert np.sum(np.abs(fall - promised) <= 0.01 * promised + 2e-6) >= BATCH - 3
    assert (fall <= promised + 2e-6).all()


@every_case
@either_hinge
def test_the_answer_in_a_batch_under_jit_is_that_of_an_example_alone(case, hinged):
    make, _, goal = CASES[case]
    outputs, objective = jnp.asarray(some_outputs(case, near=1.0)), MAKERS[make][hinged](0.25)
    found = asked(case, outputs, hinged, 0.25)
    for row in (0, BATCH // 2, BATCH - 1):
        loss, slope = jax.value_and_grad(objective.loss)(outputs[row], of_one(goal, row))
        np.testing.assert_allclose(found.loss[row], loss, rtol=1e-5)
        np.testing.assert_allclose(found.slope[row], slope, rtol=1e-5, atol=1e-7)
        assert found.met[row] == objective.met(outputs[row], of_one(goal, row))


@every_case
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_outputs_of_sixteen_bits_are_compared_in_float32(case, dtype):
    make, _, goal = CASES[case]
    outputs = jnp.asarray(some_outputs(case, near=4.0), dtype)[0]
    loss, slope = jax.value_and_grad(make().loss)(outputs, of_one(goal))
    assert loss.dtype == jnp.float32
    assert slope.dtype == dtype
    expected = make(0.0).loss(outputs.astype(jnp.float32), of_one(goal))
    assert float(expected) <= float(loss) + 1e-6  # a lead has to be larger, since rounding is
    rounding = 64 * jnp.finfo(dtype).eps * np.abs(outputs).max() + jnp.finfo(dtype).tiny / jnp.finfo(dtype).eps
    assert float(loss) <= float(expected) + float(rounding) + 1e-6


@every_case
@either_hinge
def test_the_parts_of_an_objective_that_attacks_and_reports_read(case, hinged):
    objective = MAKERS[CASES[case][0]][hinged](0.5)
    assert objective.confidence == 0.5
    assert objective.logits is None
    assert bool(objective.reaches(of_one(CASES[case][2]))) == (case.split()[1] == "reached")
