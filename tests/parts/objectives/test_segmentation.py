"""Logits of every pixel against NumPy float64, and which pixels count."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.parts.objectives import pixels
from cwjax.parts.objectives.segmentation import least_of
from tests.parts.objectives.asked import answers, handed, of_one

HINGED, FREE = pixels, functools.partial(pixels, hinged=False)
SHAPE, CLASSES = (2, 3), 3
EPS, LEAST = 2.0**-23, 2.0**-103


def definition(question, confidence: float, hinged: bool):
    (logits, label, counted, share, sign), lags = question, []
    for place in np.argwhere(counted):
        row, own = logits[tuple(place)], label[tuple(place)]
        margin = sign * (row[own] - np.delete(row, own).max())
        lags.append(confidence + 64 * EPS * np.abs(np.sort(row)[-2:]).max() + LEAST - margin)
    smallest = np.sort(lags)[: max(int(np.ceil(round(share * len(lags), 4))), 1)]
    met = bool((smallest <= 0).all())
    return smallest.max() if met and not hinged else np.maximum(smallest, 0).mean(), met


@pytest.fixture(scope="module")
def questions():
    """Logits and goals: classes reached, and classes left, by various shares of the pixels that count."""
    generator = np.random.default_rng(3)
    logits = generator.integers(-6, 7, (150, *SHAPE, CLASSES)) / 2
    label = np.where(generator.random((150, *SHAPE)) < 0.6, logits.argmax(-1), generator.integers(0, 3, (150, *SHAPE)))
    counted = generator.random((150, *SHAPE)) < 0.7
    counted[:, 0, 0] = True
    share = generator.choice([0.01, 0.25, 1 / 3, 0.5, 0.6, 1.0], 150)
    both = (make(label, share=share, counted=counted) for make in (cw.goals.pixels_reached, cw.goals.pixels_left))
    return np.concatenate([logits] * 2).astype(np.float32), jax.tree.map(lambda *two: jnp.concatenate(two), *both)


@pytest.mark.parametrize("confidence", [0.0, 0.75])
@pytest.mark.parametrize("make", [HINGED, FREE])
def test_the_loss_of_pixels_is_its_definition(questions, make, confidence):
    logits, goal = questions
    rows = zip(logits.astype(np.float64), *(np.asarray(each) for each in goal), strict=True)
    expected = np.array([definition(row, confidence, make is HINGED) for row in rows])
    found = answers(make, logits, goal, confidence)
    np.testing.assert_allclose(found.loss, expected[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.met, expected[:, 1])
    for half in (found.met[:150], found.met[150:]):
        assert 5 < half.sum() < 145


# Leads of class 0 by 4, 1, -1 and -3.
BY_HAND = jnp.array([[[4.0, 0.0], [0.0, -1.0]], [[0.0, 1.0], [0.0, 3.0]]])


@pytest.mark.parametrize(
    ("make", "share", "loss", "counted"),
    [
        (cw.goals.pixels_reached, 1.0, 1.0, None),
        (cw.goals.pixels_reached, 0.75, 1 / 3, None),
        (cw.goals.pixels_reached, 0.5, 0.0, None),
        (cw.goals.pixels_left, 1.0, 1.25, None),
        (cw.goals.pixels_left, 0.51, 1 / 3, None),
        (cw.goals.pixels_left, 0.5, 0.0, None),
        (cw.goals.pixels_left, 0.5, 0.5, np.array([[[True, True], [True, False]]])),
    ],
)
def test_pixels_by_hand(make, share, loss, counted):
    goal = of_one(make(np.zeros((1, 2, 2), int), share=share, counted=counted))
    assert float(pixels().loss(BY_HAND, goal)) == pytest.approx(loss, abs=1e-4)
    assert bool(pixels().met(BY_HAND, goal)) == (loss == 0)


@pytest.mark.parametrize(
    ("share", "count", "least"),
    [
        (1.0, 7, 7),
        (0.5, 7, 4),
        (0.3, 10, 3),
        (0.1, 30, 3),
        (1 / 3, 3, 1),
        (1e-4, 50, 1),
        (0.1, 262144, 26215),
        (0.7, 10, 7),
    ],
)
def test_a_share_is_rounded_up_and_is_one_pixel_at_least(share, count, least):
    assert least_of(jnp.float32(share), jnp.int32(count)) == least


def test_a_pixel_that_does_not_count_has_no_slope_whatever_its_label_is():
    counted = np.array([[[True, True], [True, False]]])
    goal = of_one(cw.goals.pixels_left(np.array([[[0, 0], [1, 255]]]), counted=counted))
    loss, slope = jax.value_and_grad(pixels().loss)(BY_HAND, goal)
    assert float(loss) == pytest.approx(2, abs=1e-4)
    assert np.isfinite(slope).all()
    assert (slope[1, 1] == 0).all()
    assert (slope[0, 0] != 0).all()


@pytest.mark.parametrize("counted", [None, np.array([[[True, True], [True, False]]])])
def test_a_class_that_there_is_not_cannot_be_reached(counted):
    goal = of_one(cw.goals.pixels_reached(np.array([[[0, 7], [1, 1]]]), counted=counted))
    assert np.isnan(pixels().loss(BY_HAND, goal))
    assert not pixels().met(BY_HAND, goal)


@pytest.mark.parametrize("scale", [1.0, 1000.0, -1000.0])
def test_a_lead_of_a_pixel_within_rounding_does_not_count(scale):
    goal = of_one(cw.goals.pixels_reached(np.ones((1, 1, 1), int)))
    ahead = [jnp.array([[[scale, scale + abs(scale) * ulps * EPS]]], jnp.float32) for ulps in (60, 72)]
    assert [bool(pixels().met(logits, goal)) for logits in ahead] == [False, True]


def test_to_say_certain_classes_is_to_reach_one_place():
    label = np.zeros((1, 2, 2), int)
    assert pixels().reaches(of_one(cw.goals.pixels_reached(label)))
    assert not pixels().reaches(of_one(cw.goals.pixels_left(label)))


def test_pixels_may_lie_along_any_number_of_axes():
    goal = of_one(cw.goals.pixels_left(np.zeros((1, 4), int)))
    assert float(pixels().loss(BY_HAND.reshape(4, 2), goal)) == pytest.approx(1.25, abs=1e-4)


@pytest.mark.parametrize("shape", [(2, 3), (2, 2, 3), (2, 3, 1), (3,), (), [(2, 3, 3), (2, 3, 3)]])
def test_outputs_that_are_not_logits_of_every_pixel_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"^pixels reads logits \[2, 3, '?K'?\] with K >= 2 from one input, got \(?float"
    ):
        handed(pixels(), shape, cw.goals.pixels_left(np.zeros((2, *SHAPE), int)))


def test_pixels_refuse_a_goal_of_another_task_and_a_batch_of_another_size():
    with pytest.raises(TypeError, match=r"^pixels reads a goal of goals.pixels_reached or .*, got LabelGoal"):
        handed(pixels(), (*SHAPE, 3), cw.untargeted([0, 1]))
    goal = cw.goals.pixels_left(np.zeros((3, *SHAPE), int))
    with pytest.raises(ValueError, match=r"^goal.counted must have one entry an example, 3 of them, got shape \[2\]"):
        handed(pixels(), (*SHAPE, 3), goal._replace(counted=goal.counted[:2]))


@pytest.mark.parametrize("confidence", [-1.0, np.nan, np.inf])
def test_a_confidence_of_pixels_that_is_out_of_range_is_refused(confidence):
    with pytest.raises(ValueError, match=r"^confidence must be at least 0, got"):
        pixels(confidence)
