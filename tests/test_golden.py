"""The reference preset reaches the distances of the authors' released code on the same network and images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from tests import golden_net


def test_the_network_is_the_one_that_was_measured():
    model, golden = golden_net.load()
    logits = model.apply(model.params, jnp.asarray(golden["images"] / np.float32(255)))
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-4)


@pytest.mark.xdist_group("golden")
def test_l2_with_a_thousand_steps_is_within_one_percent_of_the_released_code():
    model, golden = golden_net.load()
    x = jnp.asarray(golden["images"] / np.float32(255))
    goal = cw.targeted(golden["targets"], labels=golden["labels"])
    run = jax.jit(cw.batched(cw.l2(steps=1000)))
    result = run(model, jax.random.split(jax.random.key(0), len(x)), x, goal)

    assert result.success.all()
    assert golden["original_l2"].mean() == pytest.approx(2.6254, abs=1e-4)
    assert float(result.distance.mean()) == pytest.approx(2.6254, rel=0.01)
    np.testing.assert_allclose(result.distance, golden["original_l2"], rtol=0.03)
    # Every one survives: the saved array alone, through the plain model.
    for i in range(len(x)):
        alone = jnp.asarray(np.asarray(result.x[i : i + 1]))
        assert int(model.apply(model.params, alone).argmax()) == golden["targets"][i]
    # Nine rounds of at most a thousand steps, and the abort saved some.
    assert 3_000 < float(result.forwards.mean()) < 9_000
