"""Attacks that may change only some elements."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from tests import problems

COUNT = 8
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
GOAL = cw.untargeted(MODEL.apply(MODEL.params, X).argmax(-1))
MASK = np.arange(problems.SHAPE[0])[:, None] < 2  # the upper rows
ATTACKS = {
    "l2": problems.small("l2"),
    "l0": problems.small("l0"),
    "l2, restarted": cw.restarted(problems.small("l2"), 2, 0.5),
    "alternating_l2": cw.alternating_l2(steps=40),
    "pgd": cw.pgd(epsilon=0.5, steps=20),  # with a random start
}


LONG = ("l0", "l2, restarted", "alternating_l2")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.long] * (name in LONG)) for name in ATTACKS])
def test_only_what_the_mask_allows_changes_and_it_is_enough(name):
    @jax.jit
    def run(mask):
        return cw.batched(cw.masked(ATTACKS[name], mask))(MODEL, problems.keys(COUNT), X, GOAL)

    result, free = run(MASK), run(np.ones(problems.SHAPE, bool))  # a mask may be traced
    fixed = np.broadcast_to(~MASK, problems.SHAPE)
    np.testing.assert_array_equal(result.x[:, fixed], X[:, fixed])
    assert result.success.sum() >= COUNT // 2
    assert cw.metrics.successes(MODEL, result.x, GOAL)[result.success].all()
    assert not np.array_equal(free.x[:, fixed], X[:, fixed])
    plain = jax.jit(cw.batched(ATTACKS[name]))(MODEL, problems.keys(COUNT), X, GOAL)
    np.testing.assert_array_equal(free.success, plain.success)
    np.testing.assert_allclose(free.distance, plain.distance, rtol=1e-4)


def test_a_smaller_region_costs_more():
    attack = cw.alternating_l2(steps=100)
    result, free = (
        jax.jit(cw.batched(each))(MODEL, problems.keys(COUNT), X, GOAL) for each in (cw.masked(attack, MASK), attack)
    )
    assert result.success.sum() >= COUNT // 2
    assert (result.distance > 0.99 * free.distance).all()


def test_a_mask_that_does_not_fit_the_input_says_both_shapes():
    attack = cw.masked(problems.small("l2"), np.ones((2, 7), bool))
    with pytest.raises(ValueError, match=r"mask of shape \[2, 7\] does not broadcast to one input"):
        cw.batched(attack)(MODEL, problems.keys(COUNT), X, GOAL)


def test_slopes_of_elements_that_may_not_move_hold_no_others():
    def apply(params, x):  # the second element shows its slope only away from the clean input
        lead = x[:, 0] + 10 * jax.nn.relu(x[:, 1] - 0.6) - 1
        return jnp.stack([jnp.zeros_like(lead), lead], 1)

    attack = cw.masked(cw.restarted(cw.l2(box=cw.projected(), steps=100), 10, 0.5), np.array([False, True]))
    model, x = cw.bind(apply, ()), jnp.full((1, 2), 0.5)
    result = jax.jit(cw.batched(attack))(model, problems.keys(1), x, cw.untargeted([0]))
    assert result.success.all()
    np.testing.assert_allclose(result.x, [[0.5, 0.65]], atol=0.01)


@pytest.mark.long
def test_it_is_compared_with_attacks_on_the_same_elements():
    narrow = np.arange(problems.SHAPE[0])[:, None] < 1
    attack = cw.masked(cw.masked(cw.alternating_l2(steps=100), narrow), np.ones(problems.SHAPE, bool))
    np.testing.assert_array_equal(attack.terms.mask, np.broadcast_to(narrow, problems.SHAPE))
    result = jax.jit(cw.batched(attack))(MODEL, problems.keys(COUNT), X, GOAL)
    checks = cw.diagnose(MODEL, attack, X, GOAL, result, jax.random.key(0)).checks
    closer = checks["weaker_wins"].evidence[np.asarray(result.success)]
    assert (closer > 0.9 * result.distance[result.success]).all()
    assert not result.success.all()
    assert "only some elements" in checks["unbounded_fails"].note
    # Among all elements FGSM, PGD or noise win.
    checks = cw.diagnose(MODEL, cw.alternating_l2(steps=100), X, GOAL, result, jax.random.key(0)).checks
    closer = checks["weaker_wins"].evidence[np.asarray(result.success)]
    assert (closer <= 0.9 * result.distance[result.success]).any()
