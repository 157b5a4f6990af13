"""Flax modules in inference mode, and what is said of those that train."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import cwjax as cw
from cwjax.adapters import NotConvertible

X: Any = jnp.asarray(np.random.default_rng(2).uniform(size=(5, 3)), jnp.float32)


class Net(nnx.Module):
    def __init__(self, rngs, width=4):
        self.first = nnx.Linear(3, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


def test_an_nnx_module_is_copied_in_evaluation_mode():
    net = Net(nnx.Rngs(0))
    net(X)  # statistics that are not the first ones
    model, mean = cw.adapters.from_nnx(net, (3,)), np.asarray(net.norm.mean[...])
    assert not net.dropout.deterministic
    np.testing.assert_array_equal(mean, net.norm.mean[...])
    net.eval()
    np.testing.assert_allclose(model.of_batch(X), net(X), rtol=1e-5)
    other: Any = cw.adapters.from_nnx(Net(nnx.Rngs(1)), (3,), mean=0.5, std=2.0)
    assert hash(model.apply) == hash(other.apply.apply)
    assert model.apply == other.apply.apply
    np.testing.assert_allclose(
        cw.adapters.from_nnx(net, (3,), mean=0.5, std=2.0)(X[0]), net(X[:1] / 2 - 0.25)[0], rtol=1e-4
    )


class Stubborn(Net):
    def eval(self, **attributes):
        super().eval(**attributes)
        self.norm.use_running_average = False


def test_an_nnx_layer_that_trains_is_named():
    with pytest.raises(NotConvertible, match=r"layer 'norm' of the NNX module Stubborn stays in training mode"):
        cw.adapters.from_nnx(Stubborn(nnx.Rngs(0)), (3,))
    with pytest.raises(NotConvertible, match=r"from_nnx takes an nnx.Module, got a int"):
        cw.adapters.from_nnx(3, (3,))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, *, train: bool = True):
        x = linen.BatchNorm(use_running_average=not train, name="norm")(linen.Dense(4)(x))
        return linen.Dense(2)(linen.Dropout(0.5, deterministic=not train)(linen.relu(x)))


class Training(linen.Module):
    layer: str

    @linen.compact
    def __call__(self, x):
        x = linen.Dense(2)(x)
        if self.layer == "norm":
            return linen.BatchNorm(use_running_average=False, name="norm")(x)
        return linen.Dropout(0.5, deterministic=False, name="dropout")(x)


def test_a_linen_module_is_told_not_to_train():
    net = Linen()
    variables = net.init(jax.random.key(0), X, train=False)
    model = cw.adapters.from_linen(net, variables, (3,))
    np.testing.assert_allclose(model.of_batch(X), np.asarray(net.apply(variables, X, train=False)), rtol=1e-5)
    assert model.apply == cw.adapters.from_linen(Linen(), variables, (3,)).apply


@pytest.mark.parametrize("layer", ["norm", "dropout"])
def test_a_linen_layer_that_trains_is_named(layer):
    net = Training(layer)
    variables = net.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, X)
    with pytest.raises(NotConvertible, match=rf"layer '{layer}' of the Linen module Training is in training mode"):
        cw.adapters.from_linen(net, variables, (3,))


def test_probabilities_are_refused():
    net = nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.softmax)
    with pytest.raises(NotConvertible, match=r"the NNX module Sequential returns probabilities"):
        cw.adapters.from_nnx(net, (3,))
