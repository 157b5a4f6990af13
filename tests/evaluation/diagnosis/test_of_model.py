"""Each check of a model gives its number: by hand, or recomputed in NumPy."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import core

import cwjax as cw
from cwjax.evaluation.diagnosis import of_model
from cwjax.evaluation.diagnosis.asking import Slopes
from cwjax.evaluation.diagnosis.checks import Measured
from tests import problems
from tests.evaluation.diagnosis.known import found, known

COUNT = 24  # of which eight are few


def slopes(**changes: Any) -> Slopes:
    ones = {"margin": np.ones(COUNT), "entropy": np.ones(COUNT), "slope": np.ones((COUNT, *problems.SHAPE), np.float32)}
    given: dict[str, Any] = ones | changes
    return Slopes(**given)


def normalised(logits):
    logits = np.asarray(logits, np.float64)
    return logits / np.linalg.norm(logits, axis=-1, keepdims=True)


def test_randomised_is_the_largest_difference_of_normalised_logits_between_runs():
    answers = np.tile(np.array([[3.0, 4.0], [0.0, 7.0], [5.0, 0.0]]), (5, 1, 1))
    answers[3, 1] = [700.0, 0.0]
    answers[4, 2] = [50.0, 0.0]  # the scale does not matter
    result = of_model.randomised(known(3, answers=answers))
    np.testing.assert_allclose(result.evidence, [0.0, 1.0, 0.0], atol=1e-9)
    assert result.number == pytest.approx(1)
    assert result.rows.tolist() == [0, 1, 2]
    answers[2, 0] = np.nan  # another check tells
    assert of_model.randomised(known(3, answers=answers)).evidence[0] == 0


def test_batch_dependent_compares_with_a_batch_of_the_others_and_all_their_negatives():
    def apply(params, x):
        flat = x.reshape(len(x), -1)
        return flat[:, :3] + 0.5 * flat[:, :3].mean(0, keepdims=True)

    given = known(COUNT, model=cw.bind(apply, ()), low=-1.0, high=3.0)
    result = of_model.batch_dependent(given)
    x = np.asarray(given.x[:8], np.float64).reshape(8, -1)[:, :3]
    together = x + 0.5 * np.concatenate([x, 2.0 - x]).mean(0)
    expected = np.abs(normalised(together) - normalised(1.5 * x)).max(1)
    np.testing.assert_allclose(result.evidence, expected, rtol=1e-4)
    assert result.number == pytest.approx(expected.max(), rel=1e-4)
    assert given.spent == {"forwards": 9 * 32, "backwards": 0}


DISTRIBUTION, LOGITS = [0.25, 0.7, 0.05], [2.0, -1.0, 0.5]


@pytest.mark.parametrize(
    ("outputs", "number"),
    [
        ([DISTRIBUTION, LOGITS, LOGITS], 0),
        ([DISTRIBUTION, DISTRIBUTION, LOGITS], 0),
        ([DISTRIBUTION] * 3, 1),
        ([LOGITS] * 3, 0),
        ([DISTRIBUTION, DISTRIBUTION, [0.25, 0.8, -0.05]], 0),  # one, but for a negative
        ([DISTRIBUTION, DISTRIBUTION, [0.25, 0.75 + 2e-3, 0.0]], 0),  # their sum is no one
        ([DISTRIBUTION, DISTRIBUTION, [0.25, 0.75 - 2e-3, 0.0]], 0),
        ([DISTRIBUTION, [1.00005, -0.00005, 0.0], [0.25, 0.7495, 0.0]], 1),  # by rounding only
    ],
)
def test_outputs_are_probabilities_where_all_of_them_are(outputs, number):
    # What the model says the first time decides.
    answers = np.stack([np.array(outputs), *[np.array([LOGITS] * 3)] * 4])
    result = of_model.probabilities(known(3, answers=answers))
    assert isinstance(result, Measured)
    assert result.number == number
    assert len(result.evidence) == 3


def test_zero_gradient_is_where_the_margins_slope_is_zero_or_no_number():
    slope = np.ones((COUNT, *problems.SHAPE), np.float32)
    slope[3], slope[5], slope[7, 0, 0], slope[9, 1, 2] = 0, 1e-30, np.nan, -np.inf
    slope[11] = -2
    slope[13] = 0
    slope[13, 2, 3] = -1e-20  # of one element
    result = of_model.zero_gradient(known(COUNT, slopes=slopes(slope=slope)))
    assert result.number == 3 / COUNT
    assert result.note == f"3 of {COUNT}"
    assert result.evidence[[3, 11]].tolist() == [0, 2]


def test_saturated_softmax_is_where_the_margin_has_a_slope_and_the_cross_entropy_none():
    slope, entropy = np.ones((COUNT, *problems.SHAPE), np.float32), np.ones(COUNT, np.float32)
    entropy[:5] = 0
    slope[:2] = 0  # these have no slope of either
    entropy[7] = 1e-30
    result = of_model.saturated_softmax(known(COUNT, slopes=slopes(slope=slope, entropy=entropy)))
    assert isinstance(result, Measured)
    assert result.number == 3 / COUNT
    np.testing.assert_array_equal(result.evidence, entropy)


def squares(params, x):
    """Margin away from class 0: ten times the sum of squares, less 1; class 1 answers where that is positive."""
    lead = 10 * (x.reshape(len(x), -1) ** 2).sum(1) - 1
    return jnp.stack([jnp.zeros_like(lead), lead], 1)


def test_unstable_loss_is_what_the_slope_does_not_foresee_over_the_margin():
    low, high = -1.0, 1.5
    given = known(COUNT, model=cw.bind(squares, ()), low=low, high=high)
    x = np.asarray(given.x, np.float64)
    margin, slope = 10 * (x**2).sum((1, 2)) - 1, 20 * x
    given.__dict__["slopes"] = slopes(margin=margin.astype(np.float32), slope=slope.astype(np.float32))
    result = of_model.unstable_loss(given)

    few = x[:8]
    noise = given.noise.astype(np.float64) - 0.5
    assert noise.shape == (100, 8, *problems.SHAPE)
    assert abs(noise.mean()) < 0.01
    assert 0.49 < np.abs(noise).max() <= 0.5
    moved = np.clip(few + (high - low) * 8 / 255 * noise, low, high)
    change = moved - few
    surprise = np.abs(10 * (moved**2).sum((2, 3)) - 1 - margin[:8] - (slope[:8] * change).sum((2, 3))).mean(0)
    np.testing.assert_allclose(result.evidence, surprise / np.abs(margin[:8]).mean(), rtol=1e-3)
    np.testing.assert_allclose(result.number, result.evidence.mean(), rtol=1e-6)
    assert given.spent["forwards"] == 100 * 8 + 9 * 32  # and whether a batch makes a difference


def test_unstable_loss_says_nothing_where_there_is_no_number():
    given = known(COUNT, model=cw.bind(squares, ()))
    slope = np.zeros((COUNT, *problems.SHAPE), np.float32)
    slope[0] = np.nan
    given.__dict__["slopes"] = slopes(margin=np.full(COUNT, 2.0, np.float32), slope=slope)
    evidence = of_model.unstable_loss(given).evidence
    assert evidence[0] == 0
    assert (evidence[1:] > 0.1).all()
    given.__dict__["slopes"] = slopes(margin=np.full(COUNT, np.nan, np.float32), slope=slope)
    assert of_model.unstable_loss(given).number == 0


def test_not_finite_is_the_larger_share_of_examples_given_up_and_of_images_without_a_number():
    def apply(params, x):
        return jnp.where(x.mean((1, 2))[:, None] > 2.3, jnp.nan, jnp.ones((len(x), 3)))

    def given(lost: int):
        case = known(COUNT, model=cw.bind(apply, ()), low=-1.0, high=3.0)
        return found(case, finite=np.arange(COUNT) >= lost)

    # The greys from 0.9 of the box on; no noise is as bright.
    few, many = of_model.not_finite(given(0)), of_model.not_finite(given(2))
    assert isinstance(few, Measured)
    assert few.number == 2 / 111
    assert few.note == f"0 of {COUNT} examples, 2 of 111 points of noise and of grey"
    assert many.number == 2 / COUNT
    assert many.evidence.tolist() == [1, 1] + [0] * (COUNT - 2)


def test_not_finite_looks_at_the_whole_box():
    seen, state = [], np.random.default_rng(0)

    def apply(params, x):
        if not isinstance(x, core.Tracer):
            seen.append(np.asarray(x))
        return jnp.ones((len(x), 3)) + state.normal()  # so that it is not compiled

    given = known(COUNT, model=cw.bind(apply, ()), low=-1.0, high=np.full((3, 4), 3.0))
    assert of_model.not_finite(given).number == 0
    (images,) = seen
    assert images.shape == (111, *problems.SHAPE)
    np.testing.assert_allclose(images[100:, 0, 0], np.linspace(-1, 3, 11), rtol=1e-6)
    noise = images[:100]
    assert -1 <= noise.min() < -0.95
    assert 2.95 < noise.max() <= 3
    assert abs(noise.mean() - 1) < 0.1
    assert given.spent["forwards"] == 111


def test_logits_are_of_length_one_without_the_classes_that_are_switched_off():
    logits = np.array([[[3.0, 4.0, -1e9], [-1e9, 0.0, 2.0]], [[1e9, -1e9, 5.0], [0.0, -2.0, -1e9]]])
    found = of_model._normalised(logits)
    half = 0.5**0.5
    expected = [[[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]], [[half, -half, 0.0], [0.0, -1.0, 0.0]]]
    np.testing.assert_allclose(found, expected, atol=1e-7)
