"""Keras models on JAX: whole files, weights alone, nets in memory."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.adapters import NotConvertible

os.environ.setdefault("KERAS_BACKEND", "jax")
keras: Any = pytest.importorskip("keras", reason="needs the extra keras")
if keras.backend.backend() != "jax":
    pytest.skip("needs KERAS_BACKEND=jax", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

X: Any = jnp.asarray(np.random.default_rng(2).uniform(size=(3, 4, 4, 1)), jnp.float32)


@pytest.fixture(autouse=True)
def promoted():
    """Keras' own layers add arrays of different ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


def net(end: str | None = "softmax", seed=0):
    keras.utils.set_random_seed(seed)
    tail = [keras.layers.Dense(2, activation=None if end == "layer" else end, name="scores")]
    layers = [
        keras.Input((4, 4, 1)),
        keras.layers.Conv2D(2, 2, activation="relu", name="convolution"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dropout(0.5, name="dropout"),
        keras.layers.Flatten(name="flat"),
        *tail,
        *([keras.layers.Softmax(name="end")] if end == "layer" else []),
    ]
    return keras.Sequential(layers, name="net")


def test_a_net_in_inference_mode():
    given = net(None)
    before = [np.asarray(each) for each in given.get_weights()]
    model = cw.adapters.from_keras(given, mean=0.5, std=0.25)
    np.testing.assert_allclose(model.of_batch(X), given((X - 0.5) / 0.25, training=False), rtol=1e-5, atol=1e-6)
    for old, new in zip(before, given.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(("end", "layer"), [("softmax", "scores"), ("layer", "end"), ("sigmoid", "scores")])
def test_a_softmax_at_the_end_is_refused_or_cut(end, layer):
    given = net(end)
    with pytest.raises(NotConvertible, match=rf"'net' ends in the s\w+ of layer '{layer}'.*softmax=\"cut\""):
        cw.adapters.from_keras(given)
    model = cw.adapters.from_keras(given, softmax="cut")
    logits, theirs = np.asarray(model.of_batch(X)), np.asarray(given(X, training=False))
    shares = 1 / (1 + np.exp(-logits)) if end == "sigmoid" else np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, theirs, rtol=1e-4)
    assert given.layers[-1].name == layer


def test_files(tmp_path):
    given = net()
    whole, legacy, alone = tmp_path / "net.keras", tmp_path / "net.h5", tmp_path / "net.weights.h5"
    given.save(whole)
    given.save(legacy)
    given.save_weights(alone)
    first = cw.adapters.from_keras(given, softmax="cut")
    models = [cw.adapters.from_keras(path, softmax="cut") for path in (whole, whole, legacy)]
    fresh = net(seed=1)
    models.append(cw.adapters.from_keras(fresh, weights=alone, softmax="cut"))
    asked = cw.adapters.original(whole, softmax="cut")(np.asarray(X))
    for model in models:
        np.testing.assert_allclose(model.of_batch(X), first.of_batch(X), rtol=1e-6)
        np.testing.assert_allclose(model.of_batch(X), asked, rtol=1e-4, atol=1e-6)
    assert models[0].apply == models[1].apply  # a second file of the network compiles nothing
    assert np.abs(np.asarray(fresh(X)) - np.asarray(given(X))).max() > 1e-3  # the caller's net is as it was
    with pytest.raises(NotConvertible, match=r"net.weights.h5 has weights and no model|cannot load net.weights.h5"):
        cw.adapters.from_keras(alone)
    with pytest.raises(FileNotFoundError, match=r"there is no file"):
        cw.adapters.from_keras(tmp_path / "none.keras")
    with pytest.raises(NotConvertible, match=r"txt is no model file that can be asked"):
        cw.adapters.original(tmp_path / "net.txt")


class Statistics(keras.layers.Layer):
    """Updates its statistics whatever it is told."""

    def build(self, shape):
        self.mean = self.add_weight(shape=(), trainable=False, name="mean")

    def call(self, x):
        self.mean.assign(self.mean + 1.0)
        return x - self.mean


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2, activation="softmax")

    def call(self, x):
        return self.dense(keras.ops.reshape(x, (-1, 16)))


def test_what_is_refused():
    training = keras.Sequential(
        [keras.Input((3,)), Statistics(name="statistics"), keras.layers.Dense(2)], name="trains"
    )
    with pytest.raises(
        NotConvertible, match=r"'trains' updates trains/statistics/mean when it is called with training=False"
    ):
        cw.adapters.from_keras(training)
    own = Own()
    with pytest.raises(NotConvertible, match=r"has no weights yet"):
        cw.adapters.from_keras(own)
    own(X)
    with pytest.raises(NotConvertible, match=r"does not say the shape of its input: say shape"):
        cw.adapters.from_keras(own)
    with pytest.raises(NotConvertible, match=r"returns probabilities"):
        cw.adapters.from_keras(own, shape=(4, 4, 1))
    with pytest.raises(NotConvertible, match=r"takes a keras.Model or the path of a file, got a function"):
        cw.adapters.from_keras(net)


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(NotConvertible, match=r"Keras runs on torch.*KERAS_BACKEND=jax before Keras is imported"):
        cw.adapters.from_keras(net())
