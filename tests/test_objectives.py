"""The margin and f6 against their definitions in NumPy float64, and that `loss <= 0`, `met` and the argmax agree."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cwjax.base import Goal
from cwjax.objectives import logit_margin, margin

PROPERTY = settings(deadline=None, max_examples=60, derandomize=True, database=None)

NUMBERS = st.floats(-(2.0**90), 2.0**90, width=32, allow_subnormal=False) | st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0])
SIGNS = st.sampled_from([1, -1])
CONFIDENCES = st.floats(0, 1024, width=32, allow_subnormal=False) | st.just(0.0)


@st.composite
def questions(draw):
    """Logits of 2 or 5 classes (two shapes, so two compilations), a label among them, a sign and a confidence."""
    classes = draw(st.sampled_from([2, 5]))
    logits = np.array(draw(st.lists(NUMBERS, min_size=classes, max_size=classes)), np.float32)
    return logits, draw(st.integers(0, classes - 1)), draw(SIGNS), draw(CONFIDENCES)


def goal(label: int, sign: float) -> Goal:
    return Goal(label=jnp.asarray(label, jnp.int32), sign=jnp.asarray(sign, jnp.float32))


def definition(logits: np.ndarray, label: int, sign: float) -> float:
    """`Z_t - max_{i≠t} Z_i` towards t, `max_{i≠y} Z_i - Z_y` away from y."""
    exact = np.asarray(logits, np.float64)
    lead = exact[label] - np.delete(exact, label).max()
    return lead if sign > 0 else -lead


margin_jit = jax.jit(margin)
loss_jit = jax.jit(lambda logits, goal, confidence: logit_margin(confidence).loss(logits, goal))
met_jit = jax.jit(lambda logits, goal, confidence: logit_margin(confidence).met(logits, goal))
gradient_jit = jax.jit(jax.grad(lambda logits, goal, confidence: logit_margin(confidence).loss(logits, goal)))


@PROPERTY
@given(questions())
def test_margin_is_its_definition(question):
    logits, label, sign, _ = question
    np.testing.assert_allclose(
        margin_jit(logits, goal(label, sign)), definition(logits, label, sign), rtol=2e-7, atol=1e-37
    )


@pytest.mark.parametrize(
    ("logits", "label", "sign", "expected"),
    [
        ([1.0, 5.0, 2.0], 1, +1, 3.0),
        ([1.0, 5.0, 2.0], 1, -1, -3.0),
        ([1.0, 5.0, 2.0], 0, +1, -4.0),
        ([1.0, 5.0, 2.0], 0, -1, 4.0),
        # All negative: a maximum over logits masked with zeros would give 0 as the other logit.
        ([-5.0, -3.0, -9.0], 1, -1, -2.0),
        ([-5.0, -3.0, -9.0], 2, -1, 6.0),
        ([-5.0, -3.0, -9.0], 0, +1, -2.0),
        # The nearest other class is neither the first nor the largest of all.
        ([9.0, 3.0, 8.0, 1.0], 0, -1, -1.0),
        ([0.0, 3.0, 8.0, 1.0], 2, -1, -5.0),
        ([0.0, 3.0, 8.0, 7.5], 2, +1, 0.5),
        ([4.0, 4.0, 1.0], 0, +1, 0.0),
    ],
)
def test_margin_by_hand(logits, label, sign, expected):
    assert float(margin(jnp.array(logits), goal(label, sign))) == expected


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("label", [-1, -3, 3, 100])
def test_a_label_out_of_range_gives_nan_and_is_never_met(label, sign):
    logits, wrong = jnp.array([1.0, 50.0, 3.0]), goal(label, sign)
    assert np.isnan(margin(logits, wrong))
    assert np.isnan(logit_margin().loss(logits, wrong))
    assert not logit_margin().met(logits, wrong)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("level", [0.0, -7.25, 3e20])
@pytest.mark.parametrize("label", [0, 2])
def test_equal_logits_are_nobodys_answer(level, label, sign):
    logits, tie = jnp.full(3, level, jnp.float32), goal(label, sign)
    assert float(margin(logits, tie)) == 0
    assert not logit_margin(0.0).met(logits, tie)
    assert float(logit_margin(0.0).loss(logits, tie)) > 0


@PROPERTY
@given(questions())
def test_met_is_loss_at_most_zero(question):
    logits, label, sign, confidence = question
    loss = float(loss_jit(logits, goal(label, sign), confidence))
    assert loss >= 0
    assert bool(met_jit(logits, goal(label, sign), confidence)) == (loss <= 0)


@PROPERTY
@given(questions(), st.floats(0, 8, width=32))
def test_met_implies_that_argmax_is_fooled_by_the_confidence(question, excess):
    logits, label, sign, confidence = question
    # Half the random questions are far from met; lift the wanted side so that most are met, and barely so.
    if not met_jit(logits, goal(label, sign), confidence):
        winner = label if sign > 0 else (label + 1) % len(logits)
        with np.errstate(over="raise"):
            logits[winner] = np.float32(logits.max() + np.float32(confidence) + np.float32(excess))
    assume(bool(met_jit(logits, goal(label, sign), confidence)))
    lead = definition(logits, label, sign)
    assert lead > 0
    assert lead >= confidence
    assert (np.argmax(logits) == label) == (sign > 0)


@pytest.mark.parametrize("scale", [1.0, 1000.0, 1e-20, -1000.0])
def test_a_lead_within_rounding_does_not_count(scale):
    """64 units in the last place of float32, relative to the largest logit, and no more than that."""
    ulps = abs(scale) * 2.0**-23
    ahead = [jnp.array([scale, scale + lead * ulps], jnp.float32) for lead in (60, 72)]
    assert [bool(logit_margin().met(logits, goal(1, 1))) for logits in ahead] == [False, True]


@PROPERTY
@given(st.permutations(range(5)), st.floats(-100, 100), st.integers(0, 4), SIGNS, st.floats(0, 20, width=32))
def test_the_gradient_is_plus_and_minus_one_or_nothing(order, shift, label, sign, confidence):
    logits = np.array(order, np.float32) * 3 + np.float32(shift)
    others = np.delete(np.arange(5), label)
    other = others[np.argmax(logits[others])]
    expected = np.zeros(5)
    if not definition(logits, label, sign) > confidence:
        expected[label], expected[other] = -sign, sign
    assume(abs(definition(logits, label, sign) - confidence) > 0.05)  # away from the hinge's corner
    np.testing.assert_allclose(gradient_jit(logits, goal(label, sign), confidence), expected, atol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_gradient_at_ties_is_finite_and_sums_to_zero(sign):
    gradient = np.asarray(gradient_jit(jnp.zeros(5), goal(3, sign), 0.0))
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient.sum(), 0, atol=1e-4)
    assert gradient[3] == pytest.approx(-sign, abs=1e-4)


def test_the_loss_is_what_is_missing_to_the_confidence():
    logits = jnp.array([1.0, 5.0, 2.0])
    assert float(logit_margin(10.0).loss(logits, goal(1, 1))) == pytest.approx(7, abs=1e-3)
    assert float(logit_margin(2.0).loss(logits, goal(1, 1))) == 0
    assert float(logit_margin(0.0).loss(logits, goal(1, -1))) == pytest.approx(3, abs=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_bfloat16_logits_are_compared_in_float32(sign):
    logits = jnp.array([-1.5, 300.0, 301.0, 298.0], jnp.bfloat16)  # 301 is 302 or 300 in bfloat16
    lead = margin(logits, goal(1, sign))
    assert lead.dtype == jnp.float32
    assert float(lead) == definition(np.asarray(logits.astype(jnp.float32)), 1, sign)
    assert logit_margin().loss(logits, goal(1, sign)).dtype == jnp.float32
    gradient = jax.grad(lambda z: logit_margin(50.0).loss(z, goal(1, sign)))(logits)
    assert gradient.dtype == jnp.bfloat16
    assert np.isfinite(np.asarray(gradient, np.float32)).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_nan_logits_are_never_met(place, sign):
    logits = jnp.array([-4.0, 8.0, 0.0]).at[place].set(jnp.nan)
    for label in range(3):
        assert not logit_margin().met(logits, goal(label, sign))
        assert np.isnan(logit_margin().loss(logits, goal(label, sign)))


def test_confidence_may_be_traced_and_compiles_once():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def met(logits, goal, confidence):
        return logit_margin(confidence).met(logits, goal)

    logits = jnp.array([0.0, 5.0])
    answers = [bool(met(logits, goal(1, 1), jnp.asarray(confidence))) for confidence in (0.0, 4.5, 5.5, 100.0)]
    assert answers == [True, True, False, False]
