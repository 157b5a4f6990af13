"""When two models of several disagree."""

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.generation import differences
from tests.generation import made

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("models", [2, 3, 5])
def test_it_is_met_exactly_where_two_answers_differ(models):
    logits = RNG.normal(size=(models, 40, 3)).astype(np.float32)
    logits[:, :20] = logits[:1, :20] + RNG.normal(size=(models, 20, 3)).astype(np.float32) / 5
    answers = logits.argmax(-1)
    outputs = tuple(logits)
    objective = differences.models_disagree()
    goal = cw.untargeted(answers[0])
    met = jax.vmap(objective.met)(outputs, goal)
    np.testing.assert_array_equal(met, (answers != answers[:1]).any(0))
    loss = jax.vmap(objective.loss)(outputs, goal)
    np.testing.assert_array_equal(loss == 0, met)
    leads = np.sort(logits, -1)
    leads = (leads[..., -1] - leads[..., -2]).min(0)
    same = ~np.asarray(met)
    np.testing.assert_allclose(loss[same], leads[same], atol=1e-4)  # the least lead of any model


def test_an_attack_finds_a_nearby_input_on_which_they_differ():
    model = cw.joined([made.model(1), made.model(2)])
    x = made.inputs(8)
    attack = cw.attacks.fmn(norm="l2", objective=differences.models_disagree(hinged=False), steps=60)
    result = jax.jit(cw.batched(attack))(model, made.keys(8), x, cw.untargeted([0] * 8))
    first, second = (made.logits(seed, result.x).argmax(-1) for seed in (1, 2))
    assert result.success.mean() > 0.7
    np.testing.assert_array_equal(first != second, result.success)


def test_numbers_are_apart_beyond_the_tolerance():
    objective = differences.models_apart(0.2)
    outputs = (np.array([[0.1], [0.1]], np.float32), np.array([[0.25], [0.35]], np.float32))
    np.testing.assert_array_equal(jax.vmap(objective.met)(outputs, np.zeros(2)), [False, True])
    np.testing.assert_allclose(jax.vmap(objective.loss)(outputs, np.zeros(2)), [0.05, 0], atol=1e-5)


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    run = cw.batched(cw.attacks.fmn(objective=differences.models_disagree()))
    with pytest.raises(ValueError, match="two or more models from"):
        run(cw.joined([made.model()]), made.keys(2), made.inputs(2), cw.untargeted([0, 0]))
    with pytest.raises(ValueError, match="tolerance must be more than 0"):
        differences.models_apart(0)
