"""Losses of other attacks against their formulas by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.fast.aims import Aim
from tests.parts.objectives.test_classification import all_judged, goal

pytestmark = pytest.mark.xdist_group("objectives")  # which share what all losses compile to


@pytest.mark.parametrize(("classes", "sign"), [(2, 1), (2, -1), (3, 1)])
def test_the_ratio_is_the_margin_where_it_would_be_constant(classes, sign):
    logits = jnp.array([0.5, 2.0, -1.0][:classes])
    label = classes - 1 if sign > 0 else 1  # towards the last, or away from the answer
    ratio, margin_ = (all_judged(logits, goal(label, sign), 0.0)[name] for name in ("logits_ratio", "negative_margin"))
    assert ratio[0] == margin_[0]
    np.testing.assert_array_equal(ratio[1], margin_[1])
    assert np.abs(ratio[1]).max() > 0.5


def test_the_ratio_with_the_classes_that_it_sorts_is_the_papers():
    logits = np.array([0.5, 2.0, -1.0, 1.5], np.float32)
    away = all_judged(logits, goal(1, -1), 0.0)["logits_ratio"][0]
    assert float(away) == pytest.approx((2.0 - 1.5) / (2.0 - 0.5), abs=2e-5)
    towards = all_judged(logits, goal(0, 1), 0.0)["logits_ratio"][0]
    assert float(towards) == pytest.approx((2.0 - 0.5) / (2.0 - (0.5 - 1.0) / 2), abs=2e-5)
    three = all_judged(logits[:3], goal(1, -1), 0.0)["logits_ratio"][0]
    assert float(three) == pytest.approx((2.0 - 0.5) / (2.0 + 1.0), abs=2e-5)


LOGITS = np.array([1.0, 5.0, 2.0], np.float32)


@pytest.mark.parametrize(("label", "sign"), [(0, 1), (1, 1), (1, -1), (2, -1)])
def test_the_cross_entropy_is_the_labels_own_and_its_negative_away_from_it(label, sign):
    nats = np.log(np.exp(LOGITS.astype(float)).sum()) - LOGITS[label]
    loss, slope, _ = all_judged(LOGITS, goal(label, sign), 0.0)["label_cross_entropy"]
    assert float(loss) == pytest.approx(sign * nats, rel=1e-5)
    share = np.exp(LOGITS) / np.exp(LOGITS).sum()
    np.testing.assert_allclose(slope, sign * (share - np.eye(3)[label]), atol=1e-6)


@pytest.mark.parametrize(("label", "sign", "lag"), [(1, 1, -3.0), (0, 1, 4.0), (1, -1, 3.0), (2, -1, -3.0)])
def test_the_margin_goes_on_falling_beyond_the_boundary(label, sign, lag):
    loss, slope, met = all_judged(LOGITS, goal(label, sign), 0.0)["negative_margin"]
    assert float(loss) == pytest.approx(lag, abs=1e-4)
    assert bool(met) == (lag < 0)
    assert np.abs(slope).max() == pytest.approx(1, abs=1e-4)


def test_the_softened_margin_is_the_margin_with_a_slope_that_is_a_mean_over_the_other_classes():
    logits = np.array([1.0, 5.0, 2.0, -np.inf], np.float32)
    judged = all_judged(logits, goal(0, 1), 0.0)
    assert judged["softened_margin"][0] == judged["negative_margin"][0]
    shares = np.exp(np.array([5.0, 2.0]) / 4.0)  # the margin is 4
    np.testing.assert_allclose(judged["softened_margin"][1], [-1, *shares / shares.sum(), 0], atol=1e-5)
    for label, sign in ((1, 1), (1, -1), (0, -1)):  # it is met, or to be left
        judged = all_judged(logits, goal(label, sign), 0.0)
        for mine, margins in zip(judged["softened_margin"], judged["negative_margin"], strict=True):
            np.testing.assert_array_equal(mine, margins)


@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
def test_a_goal_says_how_wide_the_mean_is_and_with_none_the_slope_is_that_of_the_margin(spread):
    aim = Aim(jnp.int32(0), jnp.float32(1), spread=jnp.float32(spread))
    loss, slope = jax.value_and_grad(cw.losses.softened_margin().loss)(jnp.array([1.0, 5.0, 2.0]), aim)
    assert float(loss) == pytest.approx(4, abs=1e-4)
    shares = np.exp((np.array([5.0, 2.0]) - 5) / (4 * spread)) if spread else np.array([1.0, 0.0])
    np.testing.assert_allclose(slope, [-1, *shares / shares.sum()], atol=1e-5)


@pytest.mark.parametrize("name", ["negative_margin", "softened_margin", "logits_ratio"])
@pytest.mark.parametrize(("confidence", "met"), [(2.5, True), (3.5, False)])
def test_the_loss_is_at_most_zero_where_the_confidence_is_reached(name, confidence, met):
    """The lead is 3; the fourth class stands far below, and decides only about the size of the ratio."""
    loss, _, reached = all_judged(np.append(LOGITS, np.float32(-8)), goal(1, 1), confidence)[name]
    assert bool(reached) == met
    assert (float(loss) <= 0) == met


def test_what_counts_as_met_is_what_the_papers_objectives_count():
    """Though the cross-entropy of a label is far from zero there."""
    for confidence, met in ((0.0, True), (2.5, True), (3.5, False)):
        loss, _, reached = all_judged(LOGITS, goal(1, 1), confidence)["label_cross_entropy"]
        assert bool(reached) == met
        assert float(loss) > 0


def test_the_ratio_does_not_change_when_logits_are_scaled_or_shifted():
    logits = np.array([0.5, 2.0, -1.0, 1.5], np.float32)
    for label, sign in ((1, -1), (0, 1)):
        plain, other = (
            all_judged(each, goal(label, sign), 0.0)["logits_ratio"][0] for each in (logits, 8 * logits + 3)
        )
        assert float(other) == pytest.approx(float(plain), abs=1e-4)
