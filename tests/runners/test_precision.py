"""Search low, believe high: what bfloat16 claims is looked at again in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.models import Model
from tests import problems

COUNT = 24
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
GOAL = problems.goals(MODEL, np.asarray(X))
ARGUMENTS = (MODEL, problems.keys(COUNT), X, GOAL)
ATTACK = problems.small_l2()


@pytest.fixture(scope="module")
def expected():
    return jax.jit(cw.batched(ATTACK))(*ARGUMENTS)


@pytest.fixture(scope="module")
def half():
    """The result of a search in bfloat16, and its verification."""
    return jax.jit(cw.verified(cw.batched(ATTACK), precision="bfloat16"))(*ARGUMENTS)


@pytest.fixture(scope="module")
def low():
    """The result of that search alone."""
    return jax.jit(cw.batched(ATTACK))(cw.in_precision(MODEL, "bfloat16"), *ARGUMENTS[1:])


def test_bfloat16_is_what_the_model_computes_in():
    low = cw.in_precision(MODEL, "bfloat16")
    seen = []

    def apply(params, x):
        seen.append((x.dtype, params["w1"].dtype, params["count"].dtype))
        return problems.mlp(params, x)

    watched = cw.in_precision(cw.bind(apply, problems.mlp_params() | {"count": np.int32(3)}), "bfloat16")
    logits = watched(X[0])
    assert seen == [(jnp.bfloat16, jnp.bfloat16, jnp.int32)]
    assert logits.dtype == X.dtype
    error = np.abs(logits - MODEL(X[0])).max()
    assert 1e-4 < error < 0.2
    np.testing.assert_array_equal(logits, low(X[0]))


@pytest.mark.parametrize(("precision", "name"), [("tensorfloat32", "HIGH"), ("highest", "HIGHEST")])
def test_other_precisions_are_asked_of_the_products_and_of_their_gradients(precision, name):
    model = cw.in_precision(MODEL, precision)
    asked = f"precision=(Precision.{name}, Precision.{name})"  # HIGH is what JAX calls TF32 by
    assert str(jax.make_jaxpr(model)(X[0])).count(asked) == 2
    assert str(jax.make_jaxpr(jax.grad(lambda x: model(x)[0]))(X[0])).count(asked) == 4
    np.testing.assert_allclose(model(X[0]), MODEL(X[0]), rtol=1e-5)


def test_the_same_function_in_the_same_precision_is_the_same_model():
    assert cw.in_precision(MODEL, "bfloat16").apply == cw.in_precision(MODEL, "bfloat16").apply
    assert cw.in_precision(MODEL, "bfloat16").apply != cw.in_precision(MODEL, "highest").apply


def test_every_success_is_one_in_float32(half, low, expected):
    result, verification = half
    assert cw.metrics.successes(MODEL, result.x, GOAL)[result.success].all()
    measured = cw.metrics.norms(X, result.x)["l2"]
    np.testing.assert_allclose(result.distance[result.success], measured[result.success], rtol=1e-5)
    # Without the second look some would be none.
    np.testing.assert_array_equal(low.success, verification.claimed)
    np.testing.assert_array_equal(low.distance, verification.distance)
    assert not cw.metrics.successes(MODEL, low.x, GOAL)[low.success].all()
    both = np.asarray(result.success & expected.success)
    assert both.sum() >= 0.9 * expected.success.sum()
    assert result.distance[both].mean() < 1.05 * expected.distance[both].mean()


def test_what_stood_is_untouched_and_what_did_not_is_lengthened_on_its_line(half, low):
    result, verification = half
    looks = np.asarray(verification.looks)
    np.testing.assert_array_equal(looks == 0, ~np.asarray(verification.claimed))
    at_once = looks == 1
    np.testing.assert_array_equal(result.x[at_once], low.x[at_once])
    longer = (looks > 1) & np.asarray(result.success)
    assert at_once.any()
    assert longer.any()
    for i in np.flatnonzero(longer):
        stretched = X[i] + (1 + 2.0 ** (looks[i] - 12)) * (low.x[i] - X[i])
        np.testing.assert_allclose(result.x[i], jnp.clip(stretched, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(result.forwards, low.forwards + looks)
    np.testing.assert_array_equal(result.backwards, low.backwards)


def test_a_claim_that_never_stands_is_a_failure():
    # In bfloat16 this model answers class 1 everywhere; in float32 class 0, by a little.
    def apply(params, x):
        one = 1 + 1e-4 * jnp.ones(x.shape[0], x.dtype)
        lead = jnp.where(one > 1, 1.0, -1.0) + 0 * x.sum((1, 2))
        return jnp.stack([lead, -lead], 1)

    goal = cw.targeted(np.ones(COUNT, int))
    run = jax.jit(cw.verified(cw.batched(cw.attacks.fmn(steps=10)), precision="bfloat16"))
    result, verification = run(cw.bind(apply), ARGUMENTS[1], X, goal)
    assert verification.claimed.all()
    assert (verification.looks == 9).all()
    assert not result.success.any()
    np.testing.assert_array_equal(result.x, X)
    assert np.isinf(result.distance).all()
    assert np.isinf(result.c).all()


def test_the_confidence_that_was_asked_for_is_kept():
    attack = problems.small_l2(objective=cw.objectives.logit_margin(1.5))
    run = jax.jit(cw.verified(cw.batched(attack), precision="bfloat16"))
    result, _ = run(*ARGUMENTS)
    assert result.success.mean() > 0.6
    assert cw.metrics.successes(MODEL, result.x, GOAL, confidence=1.5)[result.success].all()


def test_at_highest_everything_stands(expected):
    result, verification = jax.jit(cw.verified(cw.batched(ATTACK), precision="highest"))(*ARGUMENTS)
    np.testing.assert_array_equal(result.x, expected.x)
    np.testing.assert_array_equal(verification.looks, np.asarray(expected.success, int))


@pytest.mark.long
def test_driven_from_the_host_too(half):
    runner = cw.verified(cw.streamed(ATTACK, width=7), precision="bfloat16")
    seen = []
    result, _ = runner(*ARGUMENTS, watch=lambda status: seen.append(status))
    np.testing.assert_array_equal(result.success, half[0].success)
    np.testing.assert_allclose(result.distance, half[0].distance, rtol=1e-3)
    assert seen[-1].finished == COUNT


def test_an_unknown_precision_is_refused():
    for make in (lambda: cw.in_precision(MODEL, "float8"), lambda: cw.verified(cw.batched(ATTACK), precision="half")):
        with pytest.raises(ValueError, match="choose one of bfloat16, tensorfloat32, highest"):
            make()
    assert isinstance(cw.in_precision(MODEL, "highest"), Model)
