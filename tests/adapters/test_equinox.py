from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.adapters import NotConvertible

eqx: Any = pytest.importorskip("equinox", reason="needs the extra equinox")

X: Any = jnp.asarray(np.random.default_rng(2).uniform(size=(3, 4, 4, 1)), jnp.float32)


class Net(eqx.Module):
    first: Any
    norm: Any
    dropout: Any
    last: Any

    def __init__(self, key):
        first, last = jax.random.split(key)
        self.first = eqx.nn.Conv2d(1, 2, 2, key=first)
        self.norm = eqx.nn.BatchNorm(2, axis_name="batch", mode="batch")
        self.dropout = eqx.nn.Dropout(0.5)
        self.last = eqx.nn.Linear(18, 2, key=last)

    def __call__(self, x, state):
        x, state = self.norm(self.first(x), state)
        return self.last(self.dropout(jax.nn.relu(x)).reshape(-1)), state


def test_a_module_with_state_in_inference_mode():
    net, state = eqx.nn.make_with_state(Net)(jax.random.key(0))
    model = cw.adapters.from_equinox(net, (1, 4, 4), state)
    assert not net.dropout.inference
    evaluating = eqx.nn.inference_mode(net)
    theirs = [evaluating(x.transpose(2, 0, 1), state)[0] for x in X]
    np.testing.assert_allclose(model.of_batch(X), np.stack(theirs), rtol=1e-5)
    other, state = eqx.nn.make_with_state(Net)(jax.random.key(1))
    assert cw.adapters.from_equinox(other, (1, 4, 4), state).apply == model.apply
    with pytest.raises(NotConvertible, match=r"cannot be called in inference mode .* hand over its state"):
        cw.adapters.from_equinox(net, (1, 4, 4))


def test_a_plain_module():
    net = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    model = cw.adapters.from_equinox(net, (3,))
    np.testing.assert_allclose(model(X[0, 0, :3, 0]), net(X[0, 0, :3, 0]), rtol=1e-5)
    with pytest.raises(NotConvertible, match=r"takes an equinox.Module, got a function"):
        cw.adapters.from_equinox(test_a_plain_module, (3,))
