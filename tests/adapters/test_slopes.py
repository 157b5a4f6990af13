import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.adapters import NotConvertible
from cwjax.adapters.slopes import check_slopes

WEIGHTS = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
X = np.random.default_rng(0).uniform(size=(3, 6)).astype(np.float32)


def original(x):
    return np.maximum(x @ WEIGHTS, 0)


def halved(weights, x):
    """The right logits with half of the slope."""
    inside = x @ weights
    return jax.nn.relu(jax.lax.stop_gradient(inside / 2) + inside / 2)


def test_slopes_that_are_the_originals():
    check_slopes(cw.bind(lambda weights, x: jax.nn.relu(x @ weights), WEIGHTS), original, X, width=1.0, name="it")


def test_slopes_that_are_not():
    with pytest.raises(NotConvertible, match=r"slopes of the model made of it differ .* by \d\.\de[+-]\d\d"):
        check_slopes(cw.bind(halved, WEIGHTS), original, X, width=1.0, name="it")


def test_a_constant_has_no_slope_to_differ():
    flat = cw.bind(lambda weights, x: jnp.zeros((len(x), 3)) * weights[0, 0], WEIGHTS)
    check_slopes(flat, lambda x: np.zeros((len(x), 3)), X, width=1.0, name="it")
