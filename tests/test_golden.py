"""The reference preset reaches the distances of the authors' released code on the same network and images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from tests import golden_net

pytestmark = pytest.mark.optimized


def test_the_network_is_the_one_that_was_measured():
    model, golden = golden_net.load()
    logits = model.apply(model.params, jnp.asarray(golden["images"] / np.float32(255)))
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-4)


def attacked(attack, count):
    """The attack's result on the first images, and the golden file."""
    model, golden = golden_net.load()
    x = jnp.asarray(golden["images"][:count] / np.float32(255))
    goal = cw.targeted(golden["targets"][:count], labels=golden["labels"][:count])
    result = jax.jit(cw.batched(attack))(model, jax.random.split(jax.random.key(0), count), x, goal)
    assert result.success.all()
    # Every one survives: the saved array alone, through the plain model.
    for i in range(count):
        alone = jnp.asarray(np.asarray(result.x[i : i + 1]))
        assert int(model.apply(model.params, alone).argmax()) == golden["targets"][i]
    return result, golden


@pytest.mark.long
def test_l2_with_a_thousand_steps_is_within_one_percent_of_the_released_code():
    result, golden = attacked(cw.l2(steps=1000), 6)  # of 20, for the time of the tests
    assert golden["original_l2"].mean() == pytest.approx(2.6254, abs=1e-4)
    original = golden["original_l2"][:6]
    assert float(result.distance.mean()) == pytest.approx(original.mean(), rel=0.01)
    np.testing.assert_allclose(result.distance, original, rtol=0.03)
    # Nine rounds of at most a thousand steps, and the abort saved some.
    assert 3_000 < float(result.forwards.mean()) < 9_000


def assert_at_most_two_percent_above(attack, original: str, count: int, means: float, each: float):
    """On the first images, `means` being that of the released code on all that it was run on."""
    result, golden = attacked(attack, count)
    assert golden[original].mean() == pytest.approx(means, abs=1e-4)
    assert float(result.distance.mean()) <= 1.02 * golden[original][:count].mean()
    np.testing.assert_allclose(result.distance, golden[original][:count], rtol=each)


@pytest.mark.long
def test_linf_is_at_most_two_percent_above_the_released_code():
    assert_at_most_two_percent_above(cw.linf(), "original_linf", count=2, means=0.2210, each=0.12)


@pytest.mark.long
def test_l0_is_at_most_two_percent_above_the_released_code():
    assert_at_most_two_percent_above(cw.l0(), "original_l0", count=2, means=37.4, each=0.15)
