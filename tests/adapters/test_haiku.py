from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.adapters import NotConvertible

hk = pytest.importorskip("haiku", reason="needs the extra haiku")

X: Any = jnp.asarray(np.random.default_rng(2).uniform(size=(5, 3)), jnp.float32)


def forward(x, is_training=True):
    x = hk.BatchNorm(True, True, 0.9, name="norm")(hk.Linear(4)(x), is_training)
    if is_training:
        x = hk.dropout(hk.next_rng_key(), 0.5, x)
    return hk.Linear(2)(jax.nn.relu(x))


def test_a_function_with_state():
    net = hk.transform_with_state(forward)
    params, state = net.init(jax.random.key(0), X)
    model = cw.adapters.from_haiku(net, params, (3,), state, is_training=False)
    np.testing.assert_allclose(model.of_batch(X), net.apply(params, state, None, X, is_training=False)[0], rtol=1e-5)
    assert model.apply == cw.adapters.from_haiku(net, params, (3,), state, is_training=False).apply
    with pytest.raises(
        NotConvertible, match=r"draws at random.*called with is_training=True.*such as is_training=False"
    ):
        cw.adapters.from_haiku(net, params, (3,), state, is_training=True)


def test_a_function_that_updates_its_state_is_refused():
    net = hk.transform_with_state(lambda x: hk.BatchNorm(True, True, 0.9, name="norm")(hk.Linear(2)(x), True))
    params, state = net.init(jax.random.key(0), X)
    with pytest.raises(NotConvertible, match=r"updates state\['norm/~/mean_ema'\]\['average'\]|updates state.*norm"):
        cw.adapters.from_haiku(net, params, (3,), state)


@pytest.mark.parametrize("wrap", [lambda net: net, hk.without_apply_rng], ids=["with a key", "without"])
def test_a_function_without_state(wrap):
    net = wrap(hk.transform(lambda x: hk.Linear(2)(x)))
    params = net.init(jax.random.key(0), X)
    with pytest.raises(NotConvertible, match=r"takes what haiku.transform made, got a function"):
        cw.adapters.from_haiku(net.apply, params, (3,))
    model = cw.adapters.from_haiku(net, params, (3,))
    np.testing.assert_allclose(model.of_batch(X), X @ params["linear"]["w"] + params["linear"]["b"][None], rtol=1e-5)


def test_a_function_with_state_that_takes_no_key():
    net = hk.without_apply_rng(hk.transform_with_state(forward))
    params, state = hk.transform_with_state(forward).init(jax.random.key(0), X)
    model = cw.adapters.from_haiku(net, params, (3,), state, is_training=False)
    np.testing.assert_allclose(model.of_batch(X), net.apply(params, state, X, is_training=False)[0], rtol=1e-5)
