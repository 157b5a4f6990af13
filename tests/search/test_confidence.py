"""An attack that knows of no confidence is held to one all the same."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.evaluation.metrics import margins, successes
from cwjax.search.confidence import handicapped
from tests import problems

COUNT, KAPPA = 6, 0.5
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
LABELS = MODEL.apply(MODEL.params, X).argmax(-1)
GOALS = {
    "untargeted": cw.untargeted(LABELS),
    "targeted": cw.targeted((LABELS + 1) % problems.CLASSES, labels=LABELS),
}
ATTACKS = {
    "ddn": functools.partial(cw.attacks.ddn, steps=60),  # goes down along a cross-entropy
    "deepfool": functools.partial(cw.attacks.deepfool, steps=60),  # along differences of logits, one for each class
    "alma": functools.partial(cw.attacks.alma, steps=60),  # along a ratio of logits
    "fast_l2": functools.partial(cw.fast, "l2", steps=60),
}


def attacked(attack, goal):
    return jax.jit(cw.batched(attack))(MODEL, problems.keys(COUNT), X, goal)


@pytest.mark.parametrize("kind", ["untargeted", pytest.param("targeted", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "name", ["ddn", "alma", *(pytest.param(name, marks=pytest.mark.long) for name in ("deepfool", "fast_l2"))]
)
def test_what_is_found_leads_by_that_much_and_is_farther(name, kind):
    goal = GOALS[kind]

    @jax.jit
    def run(kappa):
        return cw.batched(cw.confident(ATTACKS[name](), kappa))(MODEL, problems.keys(COUNT), X, goal)

    plain, asked = (run(kappa) for kappa in (0.0, KAPPA))
    assert plain.success.all()
    assert asked.success.all()
    assert successes(MODEL, asked.x, goal, confidence=KAPPA).all()
    assert (margins(MODEL, plain.x, goal) < KAPPA).any()  # so that it was asked for something
    assert asked.distance.mean() > plain.distance.mean()


@pytest.mark.parametrize("kind", ["untargeted", pytest.param("targeted", marks=pytest.mark.long)])
def test_no_confidence_changes_no_bit(kind):
    attack = cw.attacks.ddn(steps=20)
    told, plain = (attacked(each, GOALS[kind]) for each in (cw.confident(attack, 0.0), attack))
    np.testing.assert_array_equal(told.x, plain.x)
    np.testing.assert_array_equal(told.forwards, plain.forwards)


@pytest.mark.parametrize("kind", ["untargeted", pytest.param("targeted", marks=pytest.mark.long)])
def test_it_is_the_confidence_of_the_margin(kind):
    """f6 without its floor looks at the same two logits either way."""
    plain = attacked(cw.attacks.fmn(steps=40, objective=cw.losses.negative_margin(KAPPA)), GOALS[kind])
    told = attacked(cw.confident(cw.attacks.fmn(steps=40), KAPPA), GOALS[kind])
    np.testing.assert_allclose(told.distance, plain.distance, rtol=1e-3)


def test_handicapped_by_hand():
    logits = jnp.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])
    goal = cw.LabelGoal(jnp.array([2, 2]), jnp.array([1.0, -1.0]))
    np.testing.assert_array_equal(handicapped(logits, goal, 3.0), [[1, 2, 1], [1, 2, 7]])


def test_confidences_of_one_program():
    """It may be traced."""

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(kappa):
        return cw.batched(cw.confident(cw.attacks.ddn(steps=60), kappa))(
            MODEL, problems.keys(COUNT), X, GOALS["untargeted"]
        )

    distances = [run(jnp.float32(kappa)).distance.mean() for kappa in (0.0, 0.5, 1.0)]
    assert distances[0] < distances[1] < distances[2]
