"""Thresholds, and what an adaptive attack is to reach."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.defences.defended import parted


def two_logits(params, x):
    return jnp.stack([x[:, 0] - x[:, 1], x[:, 1] - x[:, 0]], 1) * params


MODEL = cw.bind(two_logits, jnp.ones(()))
DETECTOR = cw.bind(lambda params, x: params * x.sum(1), jnp.ones(()))
HELD_OUT = np.linspace(0, 1, 50, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.3, 0.9])
def test_a_threshold_is_a_score_that_was_seen(share):
    defended = cw.defences.calibrated(MODEL, DETECTOR, HELD_OUT, share)
    refused = cw.defences.refused(defended, HELD_OUT)
    assert refused.sum() == int(share * 50)
    assert float(defended.threshold) in HELD_OUT.sum(1)
    assert float(defended.spread) > 0


def test_no_detector_refuses_nothing_and_is_the_model_itself():
    defended = cw.defences.Defended(MODEL)
    assert not cw.defences.refused(defended, HELD_OUT).any()
    assert cw.defences.whole(defended) is MODEL
    objective = cw.defences.undetected(defended, 2.0)
    goal = jax.tree.map(lambda leaf: leaf[0], cw.untargeted([0]))
    assert not objective.met(jnp.array([0.0, 1.0]), goal)
    assert objective.met(jnp.array([0.0, 3.0]), goal)


def test_both_are_to_be_reached():
    defended = cw.defences.Defended(MODEL, DETECTOR, threshold=1.0, spread=0.5)
    goal = jax.tree.map(lambda leaf: leaf[0], cw.untargeted([0]))
    for hinged in (False, True):
        objective = cw.defences.undetected(defended, hinged=hinged, weight=4.0)
        for logits, score, met in (((0, 1), 0.5, True), ((0, 1), 1.5, False), ((1, 0), 0.5, False)):
            outputs = (jnp.array(logits, jnp.float32), jnp.float32(score))
            assert bool(objective.met(outputs, goal)) == met
            assert (float(objective.loss(outputs, goal)) > 0) == (not met)
        far = objective.loss((jnp.array([0.0, 1.0]), jnp.float32(1.5)), goal)
        np.testing.assert_allclose(far, 4.0 / 0.5 * 0.5, rtol=1e-4)  # weight/spread · (score - threshold)


def test_a_class_is_chosen_by_the_logits():
    defended = cw.defences.Defended(MODEL, DETECTOR, threshold=1.0)
    chosen = cw.defences.undetected(defended).logits
    assert chosen is not None
    assert chosen((jnp.ones(3), jnp.zeros(()))).tolist() == [1, 1, 1]


def test_inputs_are_parted(as_users_have_it):
    x, labels, held_out = parted(np.arange(20)[:, None], np.arange(20))
    assert x[:, 0].tolist() == labels.tolist() == list(range(16))
    assert held_out[:, 0].tolist() == [16, 17, 18, 19]
    with pytest.raises(ValueError, match=r"got 20 inputs and labels of shape \[19\]"):
        parted(np.zeros((20, 2)), np.zeros(19))


def test_a_detector_that_is_none_is_refused(as_users_have_it):
    pairs = cw.bind(lambda params, x: x)
    with pytest.raises(ValueError, match=r"got shape \[50, 2\] of 50 inputs"):
        cw.defences.calibrated(MODEL, pairs, HELD_OUT)
    nothing = cw.bind(lambda params, x: x[:, 0] / 0)
    with pytest.raises(ValueError, match="0% of it finite"):
        cw.defences.calibrated(MODEL, nothing, HELD_OUT)
    with pytest.raises(ValueError, match="false_positives must be more than 0"):
        cw.defences.calibrated(MODEL, DETECTOR, HELD_OUT, 0.0)
    with pytest.raises(TypeError, match="bind"):
        cw.defences.calibrated(MODEL, lambda x: x, HELD_OUT)  # pyright: ignore[reportArgumentType]


def test_what_is_no_batch_of_inputs_is_refused(as_users_have_it):
    defended = cw.defences.calibrated(MODEL, DETECTOR, HELD_OUT)
    assert cw.defences.refused(defended, HELD_OUT[:0]).shape == (0,)
    with pytest.raises(ValueError, match=r"the model refused an input of shape \[\]"):
        cw.defences.refused(defended, HELD_OUT[0])
    with pytest.raises(ValueError, match="clean inputs, got none"):
        cw.defences.calibrated(MODEL, DETECTOR, HELD_OUT[:0])


def test_a_whole_defence_is_no_detector_and_no_defence(as_users_have_it):
    whole: Any = cw.defences.whole(cw.defences.calibrated(MODEL, DETECTOR, HELD_OUT))
    with pytest.raises(ValueError, match=r"one number for each input, got \(float32 \[2\], float32 \[\]\)"):
        cw.defences.calibrated(MODEL, whole, HELD_OUT)
    for function in (cw.defences.whole, cw.defences.undetected, lambda it: cw.defences.refused(it, HELD_OUT)):
        with pytest.raises(TypeError, match=r"defended must be of the type .*Defended, got Model"):
            function(whole)


def test_a_threshold_for_a_model_that_answers_nan_is_refused(as_users_have_it):
    spoilt = cw.bind(lambda params, x: two_logits(params, x) * jnp.nan, jnp.ones(()))
    with pytest.raises(ValueError, match="the model returns NaN or infinite logits for clean inputs"):
        cw.defences.calibrated(spoilt, DETECTOR, HELD_OUT)
