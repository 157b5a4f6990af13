"""All of several objectives, any of them, and a detector, by hand and against NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.parts.losses import negative_margin
from cwjax.parts.objectives import all_of, any_of, below, ctc, logit_margin, several_labels
from tests.parts.objectives.asked import answers, handed, of_one

EPS, LEAST, THRESHOLD, WEIGHTS = 2.0**-23, 2.0**-103, 1.5, (0.5, 3.0, 2.0)


def three(confidence, *, hinged: bool):
    """Two models, the second with a confidence, and a detector."""
    margin = logit_margin if hinged else negative_margin
    return [margin(), margin(confidence), below(THRESHOLD)]


def all_hinged(confidence):
    return all_of(three(confidence, hinged=True), WEIGHTS)


def all_free(confidence):
    return all_of(three(confidence, hinged=False), WEIGHTS)


def any_hinged(confidence):
    return any_of(three(confidence, hinged=True))


def any_free(confidence):
    return any_of(three(confidence, hinged=False))


def lag(logits, aim, confidence: float) -> float:
    label, sign = aim
    margin = sign * (logits[label] - np.delete(logits, label).max())
    return confidence + 64 * EPS * np.abs(np.sort(logits)[-2:]).max() + LEAST - margin


def definition(make, outputs, goals, confidence: float) -> tuple[float, bool]:
    (first, second, score), (one, other) = outputs, goals
    lags = [lag(first, one, 0.0), lag(second, other, confidence), score - THRESHOLD + 64 * EPS * abs(score) + LEAST]
    met = [each <= 0 for each in lags]
    free = make in (all_free, any_free)
    losses = [each if free and place < 2 else max(each, 0) for place, each in enumerate(lags)]  # below has its hinge
    if make in (any_hinged, any_free):
        return min(losses), any(met)
    total = sum(weight * max(each, 0) for weight, each in zip(WEIGHTS, losses, strict=True))
    return max(losses) if all(met) else total, all(met)


@pytest.fixture(scope="module")
def questions():
    """Outputs of two models and a detector, and the goal of each model."""
    generator = np.random.default_rng(7)
    first, second = (generator.integers(-6, 7, (300, size)).astype(np.float32) / 2 for size in (3, 4))
    score = generator.integers(-2, 5, 300).astype(np.float32)
    goals = [
        cw.LabelGoal(
            label=jnp.asarray(generator.integers(0, size, 300), jnp.int32),
            sign=jnp.asarray(generator.choice([-1, -1, 1], 300), jnp.float32),
        )
        for size in (3, 4)
    ]
    return (first, second, score), tuple(goals)


@pytest.mark.parametrize("confidence", [0.0, 0.75])
@pytest.mark.parametrize("make", [all_hinged, all_free, any_hinged, any_free])
def test_the_loss_of_several_objectives_is_its_definition(questions, make, confidence):
    outputs, goals = questions
    found = answers(make, outputs, (*goals, goals[0]), confidence)
    aims = [list(zip(*map(np.asarray, goal), strict=True)) for goal in goals]
    rows = zip(*(each.astype(np.float64) for each in outputs), strict=True)
    expected = np.array(
        [definition(make, row, aim, confidence) for row, aim in zip(rows, zip(*aims, strict=True), strict=True)]
    )
    np.testing.assert_allclose(found.loss, expected[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.met, expected[:, 1])
    np.testing.assert_array_equal(found.met, found.loss <= 0)
    assert 10 < found.met.sum() < 290


@pytest.mark.parametrize("make", [all_hinged, all_free, any_hinged, any_free])
@pytest.mark.parametrize("size", [0.0, 1e4])
def test_the_loss_of_several_objectives_and_its_slope_are_finite(questions, make, size):
    outputs, goals = questions
    found = answers(make, tuple(size * np.sign(each) for each in outputs), (*goals, goals[0]))
    assert np.isfinite(found.loss).all()
    assert all(np.isfinite(leaf).all() for leaf in found.slope)
    steepest = np.max([np.abs(leaf.reshape(300, -1)).max(1) for leaf in found.slope], 0)
    assert (steepest[~found.met] > 0).all()


@pytest.mark.parametrize("make", [all_hinged, all_free, any_hinged, any_free])
def test_several_objectives_under_jit_are_what_they_are_alone(questions, make):
    outputs, goals = questions
    goals = (*goals, goals[0])
    found = answers(make, outputs, goals, 0.75)
    for row in range(0, 300, 100):
        given = of_one(outputs, row), of_one(goals, row)
        loss, slope = jax.value_and_grad(make(0.75).loss)(*given)
        np.testing.assert_allclose(found.loss[row], loss, rtol=1e-6)
        for one, other in zip(of_one(found.slope, row), slope, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
        assert found.met[row] == make(0.75).met(*given)


@pytest.mark.parametrize("combine", [all_of, any_of])
def test_several_objectives_may_read_one_goal(combine):
    objective, outputs = combine([logit_margin(), logit_margin()]), (jnp.array([1.0, 3.0]), jnp.array([2.0, 0.5]))
    shared = of_one(cw.untargeted([0]))
    loss, met = objective.loss(outputs, shared), objective.met(outputs, shared)
    assert (float(loss), bool(met)) == pytest.approx((1.5, False) if combine is all_of else (0.0, True), abs=1e-4)
    assert loss == objective.loss(outputs, (shared, shared))
    own = (shared, of_one(cw.targeted([0])))
    assert float(objective.loss(outputs, own)) == 0
    assert objective.met(outputs, own)


@pytest.mark.parametrize(
    ("leads", "loss"), [((2.0, 0.5), -0.5), ((0.25, 3.0), -0.25), ((2.0, -0.5), 1.5), ((-1.0, -0.5), 2.0 + 1.5)]
)
def test_without_hinges_the_loss_of_all_is_the_largest_where_all_are_met_and_goes_on_falling(leads, loss):
    objective, goal = all_of([negative_margin(), negative_margin()], [2.0, 3.0]), of_one(cw.untargeted([0]))
    outputs = tuple(jnp.array([0.0, lead]) for lead in leads)
    found, slope = jax.value_and_grad(objective.loss)(outputs, goal)
    assert float(found) == pytest.approx(loss, abs=1e-4)
    assert bool(objective.met(outputs, goal)) == (loss < 0)
    weights = [
        float(lead == min(leads)) if loss < 0 else weight * (lead < 0)
        for lead, weight in zip(leads, (2, 3), strict=True)
    ]
    np.testing.assert_allclose([each[0] for each in slope], weights, atol=1e-4)


def test_a_list_of_outputs_is_read_too():
    objective, goal = all_of([logit_margin(), below(1.0)]), of_one(cw.untargeted([0]))
    assert float(objective.loss([jnp.array([1.0, 0.0]), jnp.array(3.0)], goal)) == pytest.approx(3, abs=1e-4)


def test_what_is_met_has_no_part_in_the_slope_of_all():
    objective, goal = all_of([logit_margin(), logit_margin()]), of_one(cw.untargeted([0]))
    slope = jax.grad(objective.loss)((jnp.array([1.0, 3.0]), jnp.array([2.0, 0.5])), goal)
    np.testing.assert_array_equal(slope[0], [0, 0])
    np.testing.assert_allclose(slope[1], [1, -1], atol=1e-4)


@pytest.mark.parametrize("place", [0, 1])
def test_one_objective_of_which_the_loss_is_no_number_leaves_none_for_all(place):
    outputs = tuple(jnp.float32(np.nan if which == place else -1.0) for which in (0, 1))
    objective = all_of([below(0.0), below(0.0)])
    goal = of_one(cw.untargeted([0]))
    for loss in (objective.loss(outputs, goal), jax.jit(objective.loss)(outputs, goal)):
        assert np.isnan(loss)
    assert not objective.met(outputs, goal)


def test_weights_may_be_traced():
    @jax.jit
    def loss(weights):
        return all_of([below(0.0), below(0.0)], weights).loss((jnp.float32(1), jnp.float32(2)), ())

    assert float(loss([1.0, 10.0])) == pytest.approx(21, abs=1e-3)
    assert float(loss([2.0, 0.5])) == pytest.approx(3, abs=1e-3)


# A detector.


@pytest.mark.parametrize("confidence", [0.0, 0.5])
@pytest.mark.parametrize("score", [-3.0, 0.75, 1.0, 1.25, 1e4])
def test_below_is_what_is_missing_to_the_threshold(score, confidence):
    objective = below(1.25, confidence=confidence)
    expected = score - 1.25 + confidence + 64 * EPS * abs(score)
    loss, slope = jax.value_and_grad(objective.loss)(jnp.float32(score), ())
    assert float(loss) == pytest.approx(max(expected, 0), rel=1e-6)
    assert bool(objective.met(jnp.float32(score), ())) == (expected <= 0) == (float(loss) == 0)
    assert float(slope) == pytest.approx(float(expected > 0), abs=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_score_that_is_below_within_rounding_does_not_count(scale):
    met = [bool(below(scale).met(jnp.float32(scale * (1 - ulps * EPS)), ())) for ulps in (60, 72)]
    assert met == [False, True]


def test_a_score_is_made_of_the_outputs_of_its_model():
    objective = below(2.0, score=lambda outputs: outputs["seen"].sum())
    outputs = {"seen": jnp.array([1.0, 4.0]), "other": jnp.zeros(3)}
    loss, slope = jax.value_and_grad(objective.loss)(outputs, ())
    assert float(loss) == pytest.approx(3, abs=1e-4)
    np.testing.assert_allclose(slope["seen"], [1, 1], atol=1e-4)
    np.testing.assert_array_equal(slope["other"], np.zeros(3))


def test_a_score_of_one_entry_and_one_of_bfloat16():
    assert float(below(2.0).loss(jnp.array([5.0]), ())) == pytest.approx(3, abs=1e-4)
    loss = below(2.0).loss(jnp.bfloat16(5.0), ())
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(3 + 64 * 2.0**-7 * 5, rel=1e-6)


def test_a_threshold_and_a_confidence_may_be_traced():
    loss = jax.jit(lambda threshold, confidence: below(threshold, confidence=confidence).loss(jnp.float32(5), ()))
    assert float(loss(2.0, 0.0)) == pytest.approx(3, abs=1e-4)
    assert float(loss(-1.0, 4.0)) == pytest.approx(10, abs=1e-4)


# What they are to whoever asks.


@pytest.mark.parametrize("combine", [all_of, any_of])
def test_several_objectives_reach_one_place_if_each_of_them_does(combine):
    away, towards = of_one(cw.untargeted([0])), of_one(cw.targeted([0]))
    both, one = combine([logit_margin(), logit_margin()]), combine([logit_margin(2.0), below(0.0)])
    assert [bool(both.reaches(goal)) for goal in (away, towards, (towards, towards), (towards, away))] == [0, 1, 1, 0]
    assert [bool(one.reaches(goal)) for goal in (away, towards)] == [0, 1]
    assert below(0.0).reaches(away)
    assert one.confidence == 2.0


@pytest.mark.parametrize("combine", [all_of, any_of])
def test_no_objective_is_refused_and_so_is_something_else(combine, as_users_have_it):
    with pytest.raises(ValueError, match=f"^{combine.__name__} takes at least one objective, got none$"):
        combine([])
    with pytest.raises(TypeError, match=f"^each objective of {combine.__name__} must be of the type cwjax.Objective, "):
        combine([logit_margin(), "f6"])


def test_weights_that_are_out_of_range_or_too_few_are_refused():
    with pytest.raises(ValueError, match=r"^all_of takes a weight for each of 2 objectives, got 1$"):
        all_of([below(0.0), below(0.0)], [1.0])
    for weight in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"^a weight of all_of must be more than 0, got {weight}"):
            all_of([below(0.0), below(0.0)], [1.0, weight])


@pytest.mark.parametrize("combine", [all_of, any_of])
@pytest.mark.parametrize("shape", [(2,), [(3,)], [(3,), (3,), ()]])
def test_outputs_that_are_not_a_tuple_of_as_many_are_refused(combine, shape):
    words = f"^{combine.__name__} of 2 objectives reads a tuple of 2 outputs, as cwjax.joined returns them, got "
    with pytest.raises(ValueError, match=words):
        handed(combine([logit_margin(), below(0.0)]), shape, cw.untargeted([0, 1]))


@pytest.mark.parametrize("combine", [all_of, any_of])
def test_each_objective_looks_at_its_own_outputs_and_goal(combine):
    labels, reached = cw.untargeted([0, 1]), cw.goals.labels_reached(np.ones((2, 4), bool))
    objective = combine([logit_margin(), several_labels()])
    handed(objective, [(3,), (4,)], (labels, reached))
    with pytest.raises(ValueError, match=r"^several_labels reads an output for each label of the goal, \[4\]"):
        handed(objective, [(3,), (5,)], (labels, reached))
    with pytest.raises(
        ValueError, match=r"^this objective reads logits \[K\] with K >= 2 from one input, got float32 \[1\]"
    ):
        handed(objective, [(1,), (4,)], (labels, reached))
    with pytest.raises(TypeError, match=r"^several_labels reads a goal of .*, got LabelGoal"):
        handed(objective, [(3,), (4,)], labels)
    with pytest.raises(TypeError, match=r"^this objective reads a goal of labels, .*, got LabelsGoal"):
        handed(objective, [(3,), (4,)], reached)
    with pytest.raises(TypeError, match=r"^ctc reads a goal of goals.transcript, got LabelGoal"):
        handed(combine([ctc(), logit_margin()]), [(5, 3), (4,)], labels)
    with pytest.raises(
        ValueError, match=r"^goal\[1\].least must have one entry an example, 2 of them, got shape \[1\]"
    ):
        handed(objective, [(3,), (4,)], (labels, reached._replace(least=reached.least[:1])))


@pytest.mark.parametrize("shape", [(2,), (1, 1)])
def test_a_score_that_is_not_one_number_is_refused(shape):
    with pytest.raises(ValueError, match=r"^the score of below must be one number, \[\] or \[1\], got float32 \["):
        handed(below(0.0), shape, cw.untargeted([0, 1]))
    handed(below(0.0, score=lambda outputs: outputs.sum()), shape, cw.untargeted([0, 1]))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_threshold_or_a_confidence_that_is_out_of_range_is_refused(number):
    with pytest.raises(ValueError, match=f"^threshold must be at least -inf, got {number}"):
        below(number)
    for confidence in (number, -1.0):
        with pytest.raises(ValueError, match=f"^confidence must be at least 0, got {confidence}"):
            below(0.0, confidence=confidence)
