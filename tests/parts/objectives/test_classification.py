"""The margin and f1 to f7 against their definitions in NumPy float64, and that `loss <= 0`, `met` and the argmax
agree.
"""

import functools
import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cwjax as cw
from cwjax.base import LabelGoal
from cwjax.parts.objectives import in_play, logit_margin, margin, rounding_margin
from cwjax.parts.objectives.classification import _half_softplus

pytestmark = pytest.mark.xdist_group("objectives")  # with test_losses.py: they share what all losses compile to

PROPERTY = settings(
    deadline=None, max_examples=60 if os.environ.get("CWJAX_LONG") else 25, derandomize=True, database=None
)

NUMBERS = st.floats(-(2.0**90), 2.0**90, width=32, allow_subnormal=False) | st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0])
SIGNS = st.sampled_from([1, -1])
CONFIDENCES = st.floats(0, 1024, width=32, allow_subnormal=False) | st.just(0.0)


@st.composite
def questions(draw):
    """Logits of 2 or 5 classes (two shapes, so two compilations), a label among them, a sign and a confidence."""
    classes = draw(st.sampled_from([2, 5]))
    logits = np.array(draw(st.lists(NUMBERS, min_size=classes, max_size=classes)), np.float32)
    return logits, draw(st.integers(0, classes - 1)), draw(SIGNS), draw(CONFIDENCES)


def goal(label: int, sign: float) -> LabelGoal:
    return LabelGoal(label=jnp.asarray(label, jnp.int32), sign=jnp.asarray(sign, jnp.float32))


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


# From here on, f1 to f7 together.

EVERY = cw.objectives.OBJECTIVES | {"f5 unhinged": functools.partial(cw.objectives.log_half_probability, hinged=False)}
EXACT = {"f2", "f3", "f6", "f7"}  # at most zero if and only if the goal is met; the others: only if
HINGED = {"f2", "f4", "f5", "f6"}

every_objective = pytest.mark.parametrize("name", EVERY)


def judged(logits, goal, confidence):
    """By name: (loss, its gradient, met)."""
    return judged_jit(logits, goal, jnp.asarray(confidence, jnp.float32))


@jax.jit
def judged_jit(logits, goal, confidence):
    objectives = {name: make(confidence) for name, make in EVERY.items()}
    return {
        name: (*jax.value_and_grad(objective.loss)(logits, goal), objective.met(logits, goal))
        for name, objective in objectives.items()
    }


def standing(logits: np.ndarray, label: int, sign: float) -> tuple[int, int]:
    """The wanted class and the other one."""
    others = np.delete(np.arange(len(logits)), label)
    strongest = int(others[np.argmax(logits[others])])
    return (label, strongest) if sign > 0 else (strongest, label)


@st.composite
def standoffs(draw, scales=(1e-6, 1.0, 30.0, 1e4, 2.0**90), sizes=(2, 3)):
    """Logits of any size, with ties, often near the boundary. Every number of classes is one more compilation."""
    classes = draw(st.sampled_from(sizes))
    elements = st.floats(-1, 1, width=32, allow_subnormal=False) | st.sampled_from([-1.0, 0.0, 0.5, 1.0])
    logits = np.array(draw(st.lists(elements, min_size=classes, max_size=classes)), np.float32)
    logits *= np.float32(draw(st.sampled_from(scales)))
    label, sign, confidence = draw(st.integers(0, classes - 1)), draw(SIGNS), np.float32(draw(CONFIDENCES))
    if draw(st.booleans()):  # lead by about the confidence
        wanted, other = standing(logits, label, sign)
        lead = draw(st.sampled_from([0.0, 1e-6, 1e-3, 1.0, 30.0]))
        logits[wanted] = np.float32((logits[other] + confidence) * np.float32(1 + 1e-6) + np.float32(lead))
    return logits, label, sign, confidence


MODERATE = standoffs(scales=(1e-6, 1.0, 8.0))


@PROPERTY
@given(standoffs())
def test_a_loss_at_most_zero_means_that_the_goal_is_met_with_confidence(question):
    logits, label, sign, confidence = question
    lead = definition(logits, label, sign)
    for name, (loss, _, met) in judged(logits, goal(label, sign), confidence).items():
        assert met or loss > 0, name
        if name in EXACT:
            assert loss <= 0 or not met, name
        if name in HINGED:
            assert loss >= 0, name
        assert not met or lead >= max(confidence, np.finfo(np.float32).tiny), name


@PROPERTY
@given(standoffs())
def test_no_finite_logits_give_a_loss_or_slope_that_is_not(question):
    logits, label, sign, confidence = question
    for name, (loss, gradient, _) in judged(logits, goal(label, sign), confidence).items():
        assert np.isfinite(loss), name
        assert np.isfinite(gradient).all(), name
        # Moving all logits together changes nothing, up to the margin that is kept for rounding.
        np.testing.assert_allclose(np.sum(gradient), 0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("classes", [2, 3, pytest.param(10, marks=pytest.mark.long)])
@pytest.mark.parametrize("level", [0.0, 1e-37, -7.25, 3e20])
def test_a_tie_is_nobodys_answer(classes, level, sign):
    for name, (loss, _, met) in judged(jnp.full(classes, level, jnp.float32), goal(1, sign), 0.0).items():
        assert loss > 0, name
        assert not met, name


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", sorted(set(EVERY) - EXACT))
def test_f1_f4_and_f5_ask_for_half_the_probability_which_is_more_than_the_goal(name, sign):
    logits, label = jnp.array([0.0, 0.6, 0.5]), 1 if sign > 0 else 2
    loss, _, met = judged(logits, goal(label, sign), 0.0)[name]
    assert met
    assert loss > 0
    loss, _, met = judged(logits.at[1].add(2.0), goal(label, sign), 0.0)[name]
    assert met
    assert loss <= 0


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def log_two_softplus(value: float) -> float:
    return float(np.log(1 + np.exp(value)) - np.log(2))


FORMULAS = {  # Z_w, Z_o, F_w, F_o -> f
    "f1": lambda z_w, z_o, f_w, f_o: -np.log2(f_w) - 1,
    "f2": lambda z_w, z_o, f_w, f_o: max(f_o - f_w, 0),
    "f3": lambda z_w, z_o, f_w, f_o: log_two_softplus(f_o - f_w),
    "f4": lambda z_w, z_o, f_w, f_o: max(0.5 - f_w, 0),
    "f5": lambda z_w, z_o, f_w, f_o: max(-np.log(2 * f_w), 0),
    "f5 unhinged": lambda z_w, z_o, f_w, f_o: -np.log(2 * f_w),
    "f6": lambda z_w, z_o, f_w, f_o: max(z_o - z_w, 0),
    "f7": lambda z_w, z_o, f_w, f_o: log_two_softplus(z_o - z_w),
}


def naive(name: str, logits: np.ndarray, label: int, sign: float, confidence: float) -> float:
    """The formula as it is written, for the goal made harder: the other class is ahead by the confidence."""
    wanted, other = standing(logits, label, sign)
    harder = np.asarray(logits, np.float64) + confidence * (np.arange(len(logits)) == other)
    probability = softmax(harder)
    return float(FORMULAS[name](harder[wanted], harder[other], probability[wanted], probability[other]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@PROPERTY
@given(MODERATE, st.floats(0, 12, width=32))
def test_losses_are_the_formulas(dtype, question, confidence):
    logits, label, sign, _ = question
    assume(np.abs(logits).max() < 100)
    with jax.enable_x64(dtype == np.float64):
        answers = judged(jnp.asarray(logits, dtype), goal(label, sign), confidence)
    # f1, in bits, is the steepest; the margin for rounding adds 64 units in the last place.
    tolerance = np.finfo(dtype).eps * (100 * np.abs(logits).max() + 500)
    for name, (loss, _, _) in answers.items():
        assert loss.dtype == dtype
        expected = naive(name, logits, label, sign, confidence)
        np.testing.assert_allclose(loss, expected, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@PROPERTY
@given(standoffs(scales=(1.0, 8.0)), st.floats(0, 12, width=32))
def test_gradients_are_the_formulas_slopes(dtype, question, confidence):
    logits, label, sign, _ = question
    logits = np.asarray(logits, np.float64)
    wanted, other = standing(logits, label, sign)
    # Away from the corners: of the hinges, and of the maximum over the classes that are not `label`.
    rest = np.delete(logits, [label, wanted if sign < 0 else other])
    assume(np.abs(rest - logits[wanted if sign < 0 else other]).min(initial=1.0) > 1e-3)
    assume(all(abs(naive(name, logits, label, sign, confidence)) > 1e-3 for name in ("f5 unhinged", "f7")))
    assume(np.abs(logits).max() < 100)
    with jax.enable_x64(dtype == np.float64):
        answers = judged(jnp.asarray(logits, dtype), goal(label, sign), confidence)
    step = 1e-5 * np.eye(len(logits))
    # The margin for rounding has a slope, and moves the point by 64 units in the last place; differences are inexact.
    tolerance = np.finfo(dtype).eps * (50 * np.abs(logits).max() + 200) + 1e-8
    for name, (_, gradient, _) in answers.items():
        ahead, behind = (
            np.array([naive(name, logits + way * move, label, sign, confidence) for move in step]) for way in (1, -1)
        )
        np.testing.assert_allclose(gradient, (ahead - behind) / 2e-5, rtol=0, atol=tolerance, err_msg=name)


@PROPERTY
@given(standoffs())
def test_f1_and_f5_without_its_hinge_differ_by_a_factor(question):
    logits, label, sign, confidence = question
    answers = judged(logits, goal(label, sign), confidence)
    (bits, slope_bits, _), (nats, slope_nats, _) = answers["f1"], answers["f5 unhinged"]
    np.testing.assert_allclose(bits, np.asarray(nats) / np.log(2), rtol=1e-6)
    np.testing.assert_allclose(slope_bits, np.asarray(slope_nats) / np.log(2), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("sign", [1, -1])
def test_f5_rests_where_half_the_probability_is_reached_and_f1_does_not(sign):
    for lead, rests in [(0.6, False), (0.8, True), (4.0, True)]:  # F_w = e^lead / (e^lead + 2), against log 2 = 0.69
        logits = jnp.array([0.0, lead, 0.0])
        answers = judged(logits, goal(1, sign) if sign > 0 else goal(2, sign), 0.0)
        assert (np.asarray(answers["f5"][1]) == 0).all() == rests
        assert answers["f1"][1][1] < -0.02
        assert answers["f5 unhinged"][1][1] < -0.02


def test_f1_and_f5_as_printed_are_no_objectives():
    """Errata: printed f1 = -loss_{F,t} + 1 falls as the target's probability does; printed f5 is no number at all."""
    probability = np.linspace(0.01, 0.99, 99)
    loss = -np.log(probability)
    printed_f1 = -loss + 1
    assert (np.diff(printed_f1) > 0).all()
    assert printed_f1[0] < 0 < printed_f1[-1]
    with np.errstate(invalid="ignore"):
        assert np.isnan(-np.log(2 * probability - 2)).all()
    ours = np.array(
        [float(cw.objectives.cross_entropy().loss(jnp.log(jnp.array([1 - p, p])), goal(1, 1))) for p in probability]
    )
    assert (np.diff(ours) < 0).all()
    np.testing.assert_array_equal(ours <= 0, probability > 0.5 + 1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_f2_f3_and_f4_have_no_slope_where_the_softmax_saturates(sign):
    """Why they fail in Table III, and why f6 was chosen: far from the goal nothing tells the descent where to go."""
    behind = 50.0
    logits = jnp.array([behind, 0.0, -1.0])
    answers = judged(logits, goal(1, 1) if sign > 0 else goal(0, -1), 0.0)
    steepest = {name: float(np.abs(gradient).max()) for name, (_, gradient, _) in answers.items()}
    flat = {name for name, slope in steepest.items() if slope < 1e-7}  # what rounding leaves of a zero
    assert flat == {"f2", "f3", "f4"}
    assert min(slope for name, slope in steepest.items() if name not in flat) > 0.7
    assert all(float(loss) > 0.4 for loss, _, _ in answers.values())


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("label", [-1, 3, 100])
def test_a_label_out_of_range_gives_nan_whatever_the_objective(label, sign):
    for name, (loss, _, met) in judged(jnp.array([1.0, 50.0, 3.0]), goal(label, sign), 0.0).items():
        assert np.isnan(loss), name
        assert not met, name


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_nan_logit_is_never_an_answer(place, label, sign):
    logits = jnp.array([-4.0, 8.0, 0.0]).at[place].set(jnp.nan)
    for name, (loss, _, met) in judged(logits, goal(label, sign), 0.0).items():
        assert np.isnan(loss), name
        assert not met, name


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_logits_are_taken_for_float32(dtype, sign):
    logits = jnp.array([2.5, 3.25, 0.125], dtype)  # exact in either
    answers = judged(logits, goal(0, sign), 0.3)
    expected = judged(logits.astype(jnp.float32), goal(0, sign), 0.3)
    for name, (loss, gradient, met) in answers.items():
        assert loss.dtype == jnp.float32
        assert loss == expected[name][0], name
        assert met == expected[name][2], name
        assert gradient.dtype == dtype
        rounding = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(gradient.astype(jnp.float32), expected[name][1], rtol=rounding, atol=1e-6)


@every_objective
def test_every_confidence_may_be_traced_and_compiles_once(name):
    chex.clear_trace_counter()  # chex counts by source line, whatever the parameter

    @jax.jit
    @chex.assert_max_traces(n=1)
    def loss(logits, goal, confidence):
        return EVERY[name](confidence).loss(logits, goal)

    logits = jnp.array([0.0, 5.0, 1.0])
    traced = [float(loss(logits, goal(1, 1), jnp.asarray(confidence))) for confidence in (0.0, 4.5, 8.0)]
    plain = [float(EVERY[name](confidence).loss(logits, goal(1, 1))) for confidence in (0.0, 4.5, 8.0)]
    np.testing.assert_allclose(traced, plain, rtol=1e-6)
    assert traced[0] < traced[2]


@every_objective
@pytest.mark.parametrize("confidence", [-1.0, float("nan"), float("inf")])
def test_a_confidence_out_of_range_is_named(name, confidence):
    with pytest.raises(ValueError, match=f"confidence must be at least 0, got {confidence}"):
        EVERY[name](confidence)


def test_many_at_once_give_what_each_gives_alone():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(40, 3)) * rng.choice([0.1, 3.0, 100.0], size=(40, 1)), jnp.float32)
    goals = LabelGoal(
        label=jnp.asarray(rng.integers(0, 3, 40), jnp.int32), sign=jnp.asarray(rng.choice([1, -1], 40), jnp.float32)
    )
    together = jax.vmap(judged, in_axes=(0, 0, None))(logits, goals, 0.5)
    for i in range(40):
        alone = judged(logits[i], jax.tree.map(lambda leaf, i=i: leaf[i], goals), 0.5)
        for name in EVERY:
            loss, gradient, met = (part[i] for part in together[name])
            np.testing.assert_allclose(loss, alone[name][0], rtol=1e-5, atol=1e-7, err_msg=name)
            np.testing.assert_allclose(gradient, alone[name][1], rtol=1e-4, atol=1e-6, err_msg=name)
            assert met == alone[name][2], name


@PROPERTY
@given(MODERATE)
def test_away_from_a_label_is_towards_the_largest_of_the_others(question):
    logits, label, _, confidence = question
    assume(len(set(logits.tolist())) == len(logits))
    wanted, _ = standing(logits, label, -1)
    # The label to be left is the wanted class's strongest rival if it is the model's answer, or the runner-up.
    rivals = np.delete(logits, wanted).max() == logits[label]
    confidence = confidence if rivals else 0.0
    away = judged(logits, goal(label, -1), confidence)
    towards = judged(logits, goal(wanted, 1), confidence)
    for name in EVERY if rivals else {"f1", "f4", "f5", "f5 unhinged"}:
        np.testing.assert_allclose(away[name][0], towards[name][0], rtol=1e-4, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(away[name][1], towards[name][1], rtol=1e-4, atol=1e-4, err_msg=name)
        assert not rivals or away[name][2] == towards[name][2], name


# Classes that are switched off, and few classes.

ALL = EVERY | {
    "label_cross_entropy": cw.losses.label_cross_entropy,
    "negative_margin": cw.losses.negative_margin,
    "softened_margin": cw.losses.softened_margin,
    "logits_ratio": cw.losses.logits_ratio,
}
OFF = [-np.inf, float(np.finfo(np.float32).min), -1e9, -1e4]


@jax.jit
def all_judged(logits, goal, confidence):
    objectives = {name: make(confidence) for name, make in ALL.items()}
    return {
        name: (*jax.value_and_grad(objective.loss)(logits, goal), objective.met(logits, goal))
        for name, objective in objectives.items()
    }


@pytest.mark.parametrize("off", OFF)
@pytest.mark.parametrize("confidence", [0.0, 2.0])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("classes", [2, *(pytest.param(classes, marks=pytest.mark.long) for classes in (3, 4, 5))])
def test_a_class_that_cannot_win_changes_nothing_and_has_no_slope(classes, sign, confidence, off):
    rng = np.random.default_rng(classes)
    for _ in range(5):
        logits = rng.normal(size=classes).astype(np.float32) * 3
        label = int(rng.integers(classes))
        padded = np.insert(logits, [0, classes], np.float32(off))
        alone = all_judged(logits, goal(label, sign), confidence)
        among = all_judged(padded, goal(label + 1, sign), confidence)
        for name, (loss, gradient, met) in among.items():
            np.testing.assert_allclose(loss, alone[name][0], rtol=1e-6, atol=1e-6, err_msg=name)
            np.testing.assert_allclose(gradient[1:-1], alone[name][1], rtol=1e-6, atol=1e-6, err_msg=name)
            assert gradient[0] == gradient[-1] == 0, name
            assert met == alone[name][2], name


@pytest.mark.parametrize("off", OFF)
@pytest.mark.parametrize("name", ALL)
def test_a_target_that_is_switched_off_is_out_of_reach_and_a_label_is_left_already(name, off):
    logits = jnp.array([3.0, 1.0, off, -2.0])
    loss, gradient, met = all_judged(logits, goal(2, 1), 0.0)[name]
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert not met
    loss, gradient, met = all_judged(logits, goal(2, -1), 0.0)[name]
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert met


def test_the_rounding_margin_is_that_of_the_two_logits_that_decide():
    unit = 64 * np.finfo(np.float32).eps
    assert float(rounding_margin(jnp.array([0.0, -1e3]))) == pytest.approx(unit * 1e3)  # 7.63e-3: both decide
    assert float(rounding_margin(jnp.array([1.0, 0.0, -1e3]))) == pytest.approx(unit)
    assert float(rounding_margin(jnp.array([-7.0, -9.0, -np.inf]))) == pytest.approx(unit * 9)
    # What a class that loses by a thousand adds to the rounding of the others, nobody can tell from the logits.
    tiny, lead = np.float32(1e-6), goal(0, 1)
    assert logit_margin().met(jnp.array([tiny, 0.0, -1e3]), lead)
    assert logit_margin().met(jnp.array([tiny, 0.0]), lead)
    assert not logit_margin().met(jnp.array([1 + 32 * unit / 64, 1.0, -1e3], jnp.float32), lead)


@pytest.mark.parametrize("huge", [1e9, 1e20, 1e30])
def test_a_huge_logit_that_loses_does_not_drown_a_lead(huge):
    # The label to be left has the smallest of three, and the other two are huge.
    logits = jnp.array([1.0, huge, 0.5 * huge])
    assert logit_margin().met(logits, goal(0, -1))
    assert logit_margin().met(logits, goal(1, 1))
    assert not logit_margin().met(logits, goal(2, 1))


def test_a_softplus_has_half_its_slope_where_it_is_zero():
    value, slope = jax.value_and_grad(_half_softplus)(jnp.float32(0))
    assert (float(value), float(slope)) == (0.0, 0.5)
    np.testing.assert_allclose(jax.grad(_half_softplus)(jnp.float32(1e-6)), 0.5, rtol=1e-5)


@pytest.mark.parametrize(
    ("logits", "playing"),
    [
        ([2e3, 1e3, -1e6, -3e6], [True, True, True, False]),  # by more than 1,000 times the larger of the two
        ([-1e3, -2e3, -1e6, -3e6], [True, True, True, False]),
        ([0.1, 0.05, -999.0, -1001.0], [True, True, True, False]),  # or of 1
        ([1.0, 0.5, -np.inf], [True, True, False]),
    ],
)
def test_which_classes_can_win(logits, playing):
    np.testing.assert_array_equal(in_play(jnp.asarray(logits, jnp.float32)), playing)
