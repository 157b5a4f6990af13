import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cwjax as cw
from cwjax.lab import zoo
from tests.coverage import made

RNG = np.random.default_rng(3)
X = RNG.normal(size=(4, 6)).astype(np.float32)
WEIGHTS = {"a": RNG.normal(size=(6, 5)).astype(np.float32), "b": RNG.normal(size=(5, 3)).astype(np.float32)}


def two_layers(params, x):
    return jnp.tanh(x @ params["a"]) @ params["b"]


MODEL = cw.bind(two_layers, WEIGHTS)
ZOO = {"mnist_cnn": 592, "mnist_distilled": 592, "mnist_robust": 592, "cifar_cnn": 896, "cifar_resnet": 304}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name == "cifar_resnet")) for name in ZOO]
)
def test_every_network_of_the_zoo(name):
    model = zoo.load(name).model
    x = np.zeros((2, 28, 28, 1) if name.startswith("mnist") else (2, 32, 32, 3), np.float32)
    units = cw.coverage.neurons(model, x)
    outputs, activations = jax.jit(lambda units, x: units(x))(units, x)
    assert units.convention.neurons == ZOO[name] == activations.values.shape[1]
    assert {layer.kind for layer in units.convention.layers} == {"activation"}
    np.testing.assert_allclose(outputs, jax.jit(lambda model, x: model.of_batch(x))(model, x), rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_the_layers_of_the_papers_network_with_their_shapes():
    every = ("activation", "convolution", "dense", "pool")
    layers = cw.coverage.neurons(made.network(), made.digits(), layers=every).convention.layers
    names = [layer.name for layer in layers]
    assert names[:6] == ["convolution_0", "relu_0", "convolution_1", "relu_1", "pool_0", "convolution_2"]
    assert names[-5:] == ["dense_0", "relu_4", "dense_1", "relu_5", "dense_2"]
    assert [layer.shape for layer in layers[:2]] == [(26, 26, 32)] * 2
    assert next(layer for layer in layers if layer.name == "pool_1").shape == (4, 4, 64)


def test_activations_are_those_that_others_computed():
    units = cw.coverage.neurons(made.network(), made.digits())
    _, activations = jax.jit(lambda units, x: units(x))(units, made.digits())
    np.testing.assert_allclose(activations.values, made.golden()[0]["channel_means"], atol=5e-5)


def test_one_pass_gives_outputs_and_activations_before_and_after():
    outputs, after = cw.coverage.neurons(MODEL, X)(X)
    _, before = cw.coverage.neurons(MODEL, X, value="before")(X)
    np.testing.assert_allclose(outputs, two_layers(WEIGHTS, X), rtol=1e-6)
    np.testing.assert_allclose(before.values, X @ WEIGHTS["a"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.values, np.tanh(before.values), rtol=1e-5, atol=1e-6)


def test_under_vmap_and_jit_and_a_gradient():
    units = cw.coverage.neurons(MODEL, X)
    _, wanted = units(X)
    several = jax.jit(jax.vmap(lambda x: units(x[None])[1].values[0]))(X)
    np.testing.assert_allclose(several, wanted.values, rtol=1e-5, atol=1e-6)
    slope = jax.grad(lambda x: units(x)[1].values[0, 2])(jnp.asarray(X))
    expected = (1 - wanted.values[0, 2] ** 2) * WEIGHTS["a"][:, 2]
    np.testing.assert_allclose(slope[0], expected, rtol=1e-3, atol=1e-5)


def test_units_of_a_convolution():
    x = made.digits()[:3]
    values = {
        unit: cw.coverage.neurons(made.network(), x, layers="relu_0", unit=unit)(x)[1]
        for unit in ("channel mean", "channel maximum", "element")
    }
    elements = np.asarray(values["element"].values).reshape(3, 26, 26, 32)
    np.testing.assert_allclose(values["channel mean"].values, elements.mean((1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(values["channel maximum"].values, elements.max((1, 2)))
    for each in values.values():
        np.testing.assert_array_equal(each.low[:, 0], elements.reshape(3, -1).min(1))
        np.testing.assert_array_equal(each.high[:, 0], elements.reshape(3, -1).max(1))


def test_channels_first():
    def apply(params, x):
        return jax.nn.relu(jax.lax.conv(x, params, (1, 1), "SAME")).mean((2, 3))

    x = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    kernel = RNG.normal(size=(5, 3, 3, 3)).astype(np.float32)
    units = cw.coverage.neurons(cw.bind(apply, kernel), x)
    assert units.convention.neurons == 5
    np.testing.assert_allclose(units(x)[1].values, apply(kernel, x), rtol=1e-5, atol=1e-6)


def test_new_weights_do_not_compile_again_and_are_another_network():
    run = jax.jit(lambda units, x: units(x)[1])
    other = jax.tree.map(lambda leaf: leaf + 1, WEIGHTS)
    first, second = (cw.coverage.neurons(cw.bind(two_layers, weights), X) for weights in (WEIGHTS, other))
    for units in (first, second):
        run(units, X)
    assert run._cache_size() == 1  # pyright: ignore[reportAttributeAccessIssue]
    assert first.network() != second.network()
    assert first.network() == cw.coverage.neurons(MODEL, X, unit="element").network()


def test_what_a_function_returns():
    def function(params, x):
        hidden = jnp.tanh(x @ params["a"])
        return hidden @ params["b"], {"hidden": hidden, "double": hidden * 2}

    units = cw.coverage.from_function(function, WEIGHTS, X)
    assert [layer.name for layer in units.convention.layers] == ["double", "hidden"]
    outputs, activations = units(X)
    np.testing.assert_allclose(outputs, two_layers(WEIGHTS, X), rtol=1e-6)
    np.testing.assert_allclose(activations.values[:, :5], 2 * activations.values[:, 5:], rtol=1e-6)
    with pytest.raises(ValueError, match="'wrong' must be"):
        cw.coverage.from_function(lambda params, x: (x, {"wrong": x.sum()}), (), X)


class Sown(nnx.Module):
    def __init__(self, keeps):
        self.layer, self.keeps = nnx.Linear(6, 5, rngs=nnx.Rngs(0)), keeps
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1), deterministic=True)

    def __call__(self, x):
        x = self.dropout(nnx.relu(self.layer(x)))
        if self.keeps:
            self.sow(nnx.Intermediate, "hidden", x)
        return x.sum(1)


def test_what_a_module_of_flax_keeps():
    net = Sown(keeps=True)
    units = cw.coverage.from_nnx(net, X)
    outputs, activations = jax.jit(lambda units, x: units(x))(units, X)
    assert units.convention.layers[0].name == "hidden.0"
    assert len(units.network()) == 64
    np.testing.assert_allclose(activations.values, nnx.relu(net.layer(jnp.asarray(X))), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs, activations.values.sum(1), rtol=1e-5)
    with pytest.raises(ValueError, match="sow"):
        cw.coverage.from_nnx(Sown(keeps=False), X)


def test_a_model_that_is_told_a_context():
    model = cw.bind(lambda params, x, shift: jnp.tanh(x + shift), ())
    units = cw.coverage.neurons(model, X, context=X)
    np.testing.assert_allclose(units(X, X)[1].values, np.tanh(2 * X), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "relu_0"}, "no layer 'relu_0': it has dense_0, tanh_0, dense_1"),
        ({"layers": ("tanh_0", "tanh_1")}, "no layer 'tanh_1'"),
        ({"layers": "pool"}, "no layer 'pool'"),
        ({"unit": "channel"}, "unit must be one of"),
        ({"value": "pre"}, "value must be one of"),
        ({"layers": "dense", "value": "before"}, "only activation functions have a value before them, and dense_0"),
    ],
)
@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        cw.coverage.neurons(MODEL, X, **options)
    with pytest.raises(TypeError, match=r"cwjax\.bind"):
        cw.coverage.neurons(two_layers, X, **options)  # pyright: ignore[reportArgumentType]


def test_a_layer_is_changed_on_its_way():
    def doubled(factor, values):
        return factor * values

    model = cw.coverage.rewired(MODEL, X, doubled, jnp.float32(2), layers="tanh_0")
    wanted = 2 * np.tanh(X @ WEIGHTS["a"]) @ WEIGHTS["b"]
    np.testing.assert_allclose(jax.jit(lambda model, x: model.of_batch(x))(model, X), wanted, rtol=1e-4, atol=1e-5)
    slope = jax.grad(lambda factor: cw.Model(model.apply, (MODEL, factor)).of_batch(jnp.asarray(X)).sum())(
        jnp.float32(2)
    )
    np.testing.assert_allclose(slope, wanted.sum() / 2, rtol=1e-3)
    assert model.apply == cw.coverage.rewired(MODEL, X, doubled, jnp.float32(3), layers="tanh_0").apply
    with pytest.raises(ValueError, match="has no layer 'relu_0'"):
        cw.coverage.rewired(MODEL, X, doubled, layers="relu_0")
