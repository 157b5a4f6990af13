"""One sigmoid output against the two logits that it stands for, and several labels against NumPy float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.parts.objectives import one_output, several_labels
from tests.parts.objectives.asked import answers, handed, of_one

HINGED, FREE = several_labels, functools.partial(several_labels, hinged=False)
LABELS = 4
EPS, LEAST = 2.0**-23, 2.0**-103


# One output.

EVERY = dict(cw.objectives.OBJECTIVES)
EVERY |= {
    name: getattr(cw.losses, name)
    for name in ("label_cross_entropy", "negative_margin", "softened_margin", "logits_ratio")
}
Z = np.array([-9.0, -1.5, -0.25, 0.0, 0.5, 3.0, 20.0], np.float32)


def two_logits(z: float) -> jax.Array:
    return jnp.stack([jnp.zeros_like(z), z])


@jax.jit
def of_output_and_of_logits(outputs, goal, confidence):
    """Loss, whether it is met, and slope in z, by one output and by two logits, of every objective."""

    def one(name, wrap, shown, outputs, goal):
        objective = wrap(EVERY[name](confidence))
        loss, slope = jax.value_and_grad(lambda outputs: objective.loss(shown(outputs), goal))(outputs)
        return loss, objective.met(shown(outputs), goal), slope.ravel()[0]

    return {
        name: [
            jax.vmap(functools.partial(one, name, *ways))(outputs, goal)
            for ways in ((one_output, lambda z: z), (lambda objective: objective, lambda z: two_logits(z.reshape(()))))
        ]
        for name in EVERY
    }


def binary_goals() -> tuple[np.ndarray, cw.LabelGoal]:
    """Every z with every label, to reach it and to leave it."""
    z, label, sign = (axis.ravel() for axis in np.meshgrid(Z, [0, 1], [1.0, -1.0], indexing="ij"))
    return z, cw.LabelGoal(label=jnp.asarray(label, jnp.int32), sign=jnp.asarray(sign, jnp.float32))


@pytest.mark.parametrize("confidence", [0.0, 2.0])
@pytest.mark.parametrize("shape", [(), pytest.param((1,), marks=pytest.mark.long)])
def test_one_output_is_two_logits_to_every_objective(shape, confidence):
    z, goal = binary_goals()
    for name, (mine, its) in of_output_and_of_logits(z.reshape(-1, *shape), goal, confidence).items():
        for own, other in zip(mine, its, strict=True):
            np.testing.assert_allclose(own, other, rtol=1e-6, err_msg=name)
        assert 0 < np.sum(mine[1]) < len(z)


def formula(name: str, z: float, wanted: int) -> float:
    """f1 … f7 as the paper has them (f1 and f5 as computed), of the probabilities of a sigmoid."""
    yes = 1 / (1 + np.exp(-z))
    mine, other = (yes, 1 - yes) if wanted else (1 - yes, yes)
    lag = -z if wanted else z
    return {
        "f1": -np.log2(mine) - 1,
        "f2": max(other - mine, 0),
        "f3": np.log1p(np.exp(other - mine)) - np.log(2),
        "f4": max(0.5 - mine, 0),
        "f5": max(-np.log(2 * mine), 0),
        "f6": max(lag, 0),
        "f7": np.log1p(np.exp(lag)) - np.log(2),
    }[name]


@pytest.mark.parametrize("name", cw.objectives.OBJECTIVES)
def test_f1_to_f7_of_the_probabilities_of_a_sigmoid(name):
    z, goal = binary_goals()
    loss = of_output_and_of_logits(z.reshape(-1), goal, 0.0)[name][0][0]
    wanted = np.where(np.asarray(goal.sign) > 0, goal.label, 1 - np.asarray(goal.label))
    expected = [formula(name, float(each), which) for each, which in zip(z, wanted, strict=True)]
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=2e-5)


def test_one_output_says_yes_where_it_is_above_zero():
    objective = one_output()
    said = [bool(objective.met(jnp.float32(z), of_one(cw.targeted([1])))) for z in (-1.0, 0.0, 1e-20, 1.0)]
    assert said == [False, False, True, True]
    said = [bool(objective.met(jnp.float32(z), of_one(cw.untargeted([1])))) for z in (-1.0, -1e-20, 0.0, 1.0)]
    assert said == [True, True, False, False]


def test_what_one_output_keeps_of_its_objective():
    objective = one_output(cw.objectives.logit_margin(3.0))
    assert objective.confidence == 3.0
    assert objective.reaches(of_one(cw.targeted([0])))
    assert not objective.reaches(of_one(cw.untargeted([0])))
    assert objective.logits is not None
    np.testing.assert_array_equal(objective.logits(jnp.array([2.5])), [0, 2.5])


@pytest.mark.parametrize("shape", [(2,), (1, 1), [(), ()]])
def test_outputs_that_are_not_one_number_are_refused(shape):
    with pytest.raises(ValueError, match=r"^one_output reads one number from one input, \[\] or \[1\], got \(?float32"):
        handed(one_output(), shape, cw.untargeted([0, 1]))


def test_one_output_takes_an_objective_and_goals_of_labels(as_users_have_it):
    with pytest.raises(TypeError, match=r"^objective must be of the type cwjax.Objective, got the function"):
        one_output(cw.objectives.logit_margin)  # type: ignore
    with pytest.raises(TypeError, match=r"^one_output reads a goal of cwjax.targeted or cwjax.untargeted, got Labels"):
        handed(one_output(), (), cw.goals.labels_flipped(np.ones((2, 1), bool)))


# Several labels.


def definition(question, confidence: float, hinged: bool) -> tuple[float, bool]:
    z, wanted, least = question
    raised = confidence + 64 * EPS * np.abs(z) + LEAST
    lags = np.sort((raised - wanted * z)[wanted != 0])
    met = bool(lags[least - 1] <= 0)
    return float(lags[least - 1] if met and not hinged else np.maximum(lags[:least], 0).mean()), met


@pytest.fixture(scope="module")
def questions():
    """Outputs, some of them 0, and goals: several labels reached, and from one to all of them flipped."""
    generator = np.random.default_rng(1)
    z = generator.integers(-6, 7, (200, LABELS)) / 2
    among = generator.random((200, LABELS)) < 0.8
    among[np.arange(200), generator.integers(0, LABELS, 200)] = True
    said = generator.random((200, LABELS)) < 0.5
    reached = cw.goals.labels_reached(said, among=among)
    flipped = cw.goals.labels_flipped(said, generator.integers(1, among.sum(1) + 1), among=among)
    return np.concatenate([z, z]).astype(np.float32), jax.tree.map(lambda *two: jnp.concatenate(two), reached, flipped)


@pytest.mark.parametrize("confidence", [0.0, 0.75])
@pytest.mark.parametrize("make", [HINGED, FREE])
def test_the_loss_of_several_labels_is_its_definition(questions, make, confidence):
    z, goal = questions
    rows = zip(z.astype(np.float64), np.asarray(goal.wanted), np.asarray(goal.least), strict=True)
    expected = np.array([definition(row, confidence, make is HINGED) for row in rows])
    found = answers(make, z, goal, confidence)
    np.testing.assert_allclose(found.loss, expected[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.met, expected[:, 1])
    assert 40 < found.met.sum() < 360


@pytest.mark.parametrize(
    ("wanted", "count", "loss", "met"),
    [
        ([True, True, False], None, 0.5, False),  # 2, -1 and 0.5: the second and the third are wrong
        ([True, False, True], None, 0.0, True),
        ([True, True, False], 1, 0.0, True),
        ([True, True, False], 2, 0.25, False),
        ([False, True, False], 1, 0.5, False),
    ],
)
def test_several_labels_by_hand(wanted, count, loss, met):
    made = (
        cw.goals.labels_reached(np.array([wanted]))
        if count is None
        else cw.goals.labels_flipped(~np.array([wanted]), count)
    )
    objective, z = several_labels(), jnp.array([2.0, -1.0, 0.5])
    assert float(objective.loss(z, of_one(made))) == pytest.approx(loss, abs=1e-4)
    assert bool(objective.met(z, of_one(made))) == met


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_lead_over_the_confidence_within_rounding_does_not_count(scale):
    goal = of_one(cw.goals.labels_reached(np.array([[True, False]])))
    met = [
        bool(several_labels(scale).met(jnp.array([1.0, -1.0]) * (scale * (1 + ulps * EPS)), goal)) for ulps in (60, 72)
    ]
    assert met == [False, True]


def test_to_have_all_labels_is_to_reach_one_place():
    labels, reaches = np.zeros((1, 3), bool), several_labels().reaches
    assert reaches(of_one(cw.goals.labels_reached(labels)))
    assert reaches(of_one(cw.goals.labels_reached(labels, among=np.array([[True, False, True]]))))
    assert not reaches(of_one(cw.goals.labels_flipped(labels, 2)))
    assert reaches(of_one(cw.goals.labels_flipped(labels, 3)))
    assert reaches(of_one(cw.goals.labels_flipped(labels, 1, among=np.array([[False, True, False]]))))


@pytest.mark.parametrize("hinged", [True, False])
def test_more_labels_than_count_cannot_be_had(hinged):
    goal = of_one(cw.goals.labels_reached(np.ones((1, 3), bool), among=np.array([[True, True, False]])))._replace(
        least=jnp.int32(3)
    )
    objective, z = several_labels(hinged=hinged), jnp.full(3, 5.0)
    assert np.isnan(objective.loss(z, goal))
    assert not objective.met(z, goal)


@pytest.mark.parametrize("shape", [(3,), (LABELS, 1), (), [(LABELS,), (LABELS,)]])
def test_outputs_that_are_not_one_for_each_label_are_refused(shape):
    goal = cw.goals.labels_reached(np.ones((2, LABELS), bool))
    with pytest.raises(ValueError, match=r"^several_labels reads an output for each label of the goal, \[4\], .* got "):
        handed(several_labels(), shape, goal)


def test_several_labels_refuse_a_goal_of_another_task_and_a_batch_of_another_size():
    with pytest.raises(TypeError, match=r"^several_labels reads a goal of goals.labels_reached or .*, got LabelGoal"):
        handed(several_labels(), (LABELS,), cw.untargeted([0, 1]))
    goal = cw.goals.labels_reached(np.ones((3, LABELS), bool))
    with pytest.raises(ValueError, match=r"^goal.least must have one entry an example, 3 of them, got shape \[2\]"):
        handed(several_labels(), (LABELS,), goal._replace(least=goal.least[:2]))


@pytest.mark.parametrize("confidence", [-1.0, np.nan, np.inf])
def test_a_confidence_of_labels_that_is_out_of_range_is_refused(confidence):
    with pytest.raises(ValueError, match=r"^confidence must be at least 0, got"):
        several_labels(confidence)
