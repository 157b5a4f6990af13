"""What a report says of adversarial examples, against NumPy float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cwjax as cw
from cwjax.evaluation import metrics

PROPERTY = settings(deadline=None, max_examples=50, derandomize=True, database=None)
B = 6


def linear(params, x):
    return x.reshape(len(x), -1) @ params


def a_batch():
    """A linear model of 4 classes, images, and goals of both kinds."""
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.uniform(size=(B, 2, 3, 2)), jnp.float32)
    weights = jnp.asarray(generator.normal(size=(12, 4)), jnp.float32)
    signs = jnp.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    goal = cw.LabelGoal(label=jnp.array([0, 1, 2, 3, 0, 1], jnp.int32), sign=signs)
    return cw.bind(linear, weights), x, goal


def leads(model, x, goal) -> np.ndarray:
    logits = np.asarray(x, np.float64).reshape(B, -1) @ np.asarray(model.params, np.float64)
    return np.array(
        [
            float(sign) * (row[label] - np.delete(row, label).max())
            for row, label, sign in zip(logits, goal.label, goal.sign, strict=True)
        ]
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_norms(dtype):
    _, x, _ = a_batch()
    x = x.astype(dtype)
    adversarial = x.at[0, 0, 0, :].add(0.25).at[1, 1, :, 1].add(-0.5).at[2:4].multiply(0.5)
    measured = metrics.norms(x, adversarial, channel_axis=-1)
    assert set(measured) == {"l0", "l1", "l2", "linf"}
    delta = np.asarray(adversarial, np.float64) - np.asarray(x, np.float64)
    pixels, elements = delta.reshape(B, -1, 2), delta.reshape(B, -1)
    np.testing.assert_array_equal(measured["l0"], (pixels != 0).any(-1).sum(-1))
    np.testing.assert_allclose(measured["l1"], np.abs(elements).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(measured["l2"], np.sqrt((elements**2).sum(-1)), rtol=1e-5)
    np.testing.assert_allclose(measured["linf"], np.abs(elements).max(-1), rtol=1e-6)
    assert [float(measured[name][5]) for name in measured] == [0.0] * 4
    assert float(measured["l0"][0]) == 1


def test_norms_count_the_pixels_of_any_layout():
    x = np.zeros((2, 5, 6, 3), np.float32)
    adversarial = x.copy()
    adversarial[0, 1, 2, :] = adversarial[0, 3, 3, 1] = 0.5
    assert metrics.norms(x, adversarial)["l0"].tolist() == [2, 0]
    assert metrics.norms(x, adversarial, per_pixel=False)["l0"].tolist() == [4, 0]
    first = [np.moveaxis(each, -1, 1) for each in (x, adversarial)]
    assert metrics.norms(*first, channel_axis=0)["l0"].tolist() == [2, 0]
    with pytest.raises(ValueError, match=r"looks like \[C, H, W\]. Pass channel_axis=0, .* metrics.norms"):
        metrics.norms(*first)


def test_margins_and_successes():
    model, x, goal = a_batch()
    expected = leads(model, x, goal)
    assert (expected > 0).any()
    assert (expected < 0).any()
    np.testing.assert_allclose(metrics.margins(model, x, goal), expected, rtol=1e-4, atol=1e-5)
    for confidence in (0.0, float(np.median(expected[expected > 0])) + 1e-3, 1e3):
        got = metrics.successes(model, x, goal, confidence=confidence)
        np.testing.assert_array_equal(got, (expected > 0) & (expected >= confidence))


def test_a_tie_is_no_success():
    model = cw.bind(lambda params, x: jnp.zeros((len(x), 3)))
    x = jnp.zeros((2, 4))
    goal = cw.LabelGoal(label=jnp.array([0, 0], jnp.int32), sign=jnp.array([1.0, -1.0]))
    np.testing.assert_array_equal(metrics.margins(model, x, goal), 0)
    assert not metrics.successes(model, x, goal).any()


@pytest.mark.parametrize("confidence", [0.5, 2.0])
def test_a_margin_of_exactly_the_confidence_is_a_success(confidence):
    model = cw.bind(lambda params, x: jnp.stack([x[:, 0], x[:, 0] + confidence], axis=1))
    x, goal = jnp.ones((1, 4)), cw.targeted(np.array([1]))
    assert metrics.successes(model, x, goal, confidence=confidence).all()
    assert not metrics.successes(model, x, goal, confidence=confidence + 0.125).any()


def test_logits_that_are_nan_are_no_success():
    model = cw.bind(lambda params, x: jnp.full((len(x), 3), jnp.nan))
    assert not metrics.successes(model, jnp.zeros((2, 4)), cw.untargeted(np.array([0, 1]))).any()


FLAGS = st.lists(st.booleans(), min_size=B, max_size=B)


@PROPERTY
@given(FLAGS, FLAGS | st.none(), st.lists(st.floats(0, 100, width=32, allow_subnormal=False), min_size=B, max_size=B))
def test_summarise_counts_the_successes_among_those_that_count(success, among, distances):
    # The distance of a failure is no number that anyone should average.
    given_distances = {
        "l2": jnp.where(jnp.array(success), jnp.array(distances, jnp.float32), jnp.inf),
        "linf": jnp.where(jnp.array(success), 2 * jnp.array(distances, jnp.float32), jnp.nan),
    }
    summary = metrics.summarise(jnp.array(success), given_distances, among=None if among is None else jnp.array(among))
    counted = [i for i in range(B) if among is None or among[i]]
    hit = [distances[i] for i in counted if success[i]]
    assert summary.examples == len(counted)
    assert summary.success_rate == pytest.approx(len(hit) / len(counted) if counted else 0.0)
    for name, factor in (("l2", 1), ("linf", 2)):
        mean, median = (factor * f(hit) if hit else np.nan for f in (np.mean, np.median))
        np.testing.assert_allclose(summary.mean[name], mean, rtol=1e-5)
        np.testing.assert_allclose(summary.median[name], median, rtol=1e-5)


def test_summarise_by_hand():
    success = jnp.array([True, False, True, True])
    distances = {"l2": jnp.array([1.0, jnp.inf, 2.0, 6.0])}
    assert metrics.summarise(success, distances) == (4, 0.75, {"l2": 3.0}, {"l2": 2.0})
    among = jnp.array([True, True, True, False])
    assert metrics.summarise(success, distances, among=among) == (3, pytest.approx(2 / 3), {"l2": 1.5}, {"l2": 1.5})


def test_without_a_success_there_is_no_mean_distance():
    summary = metrics.summarise(jnp.zeros(2, bool), {"l2": jnp.array([1.0, 2.0])})
    assert (summary.examples, summary.success_rate) == (2, 0.0)
    assert np.isnan(summary.mean["l2"])
    assert np.isnan(summary.median["l2"])


DISTANCES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.5, np.inf]), min_size=B, max_size=B)
THRESHOLDS = st.lists(st.floats(0, 3, width=32) | st.sampled_from([0.5, 1.0]), min_size=5, max_size=5)


@PROPERTY
@given(DISTANCES, THRESHOLDS, FLAGS | st.none())
def test_success_curve_is_the_fraction_within_each_distance(distances, thresholds, success):
    curve = metrics.success_curve(
        jnp.array(distances, jnp.float32),
        jnp.array(sorted(thresholds), jnp.float32),
        success=None if success is None else jnp.array(success),
    )
    fooled = [d for d, s in zip(distances, success or [True] * B, strict=True) if s]
    expected = [sum(d <= threshold for d in fooled) / B for threshold in sorted(thresholds)]
    np.testing.assert_allclose(curve, expected, rtol=1e-6)
    assert (np.diff(curve) >= 0).all()


def test_success_curve_never_counts_a_failure():
    """Not even at a distance of infinity, where the curve reads the success rate."""
    thresholds = jnp.array([0.5, 1.5, jnp.inf])
    np.testing.assert_allclose(
        metrics.success_curve(jnp.array([1.0, jnp.inf, 0.25, jnp.inf]), thresholds), [0.25, 0.5, 0.5]
    )
    flags = jnp.array([True, False, True, False])
    np.testing.assert_allclose(
        metrics.success_curve(jnp.array([1.0, 0.1, 0.25, 0.1]), thresholds, success=flags), [0.25, 0.5, 0.5]
    )
