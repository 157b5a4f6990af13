"""The fast attacks on L1 and L0."""

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.fast import sparse
from cwjax.attacks.fast.legs import Leg
from cwjax.problems import problem as problem_of
from tests.attacks.fast.made import KEYS, X, affine_model, attacked, towards, two_classes


def test_l0_finds_the_fewest_elements_of_two_classes():
    model, margin, normal = two_classes()
    goal = cw.untargeted(model.apply(model.params, X).argmax(-1))
    result = attacked(cw.fast_l0, model, goal, steps=100, low=0.1, high=0.9)
    logits = np.asarray(model.apply(model.params, X))
    down = np.where(logits[:, 0] > logits[:, 1], 1.0, -1.0)[:, None] * normal[None]
    gain = np.sort(np.abs(down) * np.where(down > 0, np.asarray(X) - 0.1, 0.9 - np.asarray(X)), axis=1)[:, ::-1]
    fewest = (np.cumsum(gain, axis=1) < margin[:, None]).sum(1) + 1
    np.testing.assert_array_equal(result.distance, fewest)


@pytest.mark.parametrize("kind", ["towards a label", "away from one"])
def test_the_last_round_of_a_long_run_in_l0_goes_as_sigma_zero_does(kind):
    model = affine_model()
    goal = towards(model) if kind == "towards a label" else cw.untargeted(model.apply(model.params, X).argmax(-1))
    problem = problem_of(X[0], jax.tree.map(lambda leaf: leaf[0], goal))
    long, short = cw.fast_l0(steps=400), cw.attacks.sigma_zero(steps=200)
    step, recipe = jax.jit(long.step), jax.jit(short.step)
    state, expected = long.init(KEYS[0], problem), short.init(KEYS[0], problem)
    for _ in range(200):
        state = step(model, problem, state)
    for _ in range(40):
        np.testing.assert_allclose(state.inner.w, expected.w, atol=1e-6)
        state, expected = step(model, problem, state), recipe(model, problem, expected)
    assert (expected.w != problem.x).any()


@pytest.mark.parametrize(("kind", "bold"), [("away", [0, 1, 0, 1, 0, 1]), ("towards", [0, 0, 1, 0, 0, 1])])
def test_every_second_leg_in_l1_is_bold_away_from_a_label_and_every_third_towards_one(kind, bold):
    goal = cw.untargeted(np.array([1])) if kind == "away" else cw.targeted(np.array([1]))
    problem = problem_of(X[0], jax.tree.map(lambda leaf: leaf[0], goal))
    one = np.float32(1)
    legs = [Leg(number, 0, 0, 9, lost=False, start=X[0], scale=one, c=one) for number in range(6)]
    objective = cw.losses.negative_margin()
    assert [int(sparse._bold_in_l1(leg, objective)(problem)) for leg in legs] == bold
