import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw

X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "relu, by maximum": lambda x: jnp.maximum(x, 0),
    "relu, by where": lambda x: jnp.where(x > 0, x, 0),
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "leaky_relu, by where": lambda x: jnp.where(x > 0, x, 0.1 * x),
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "gelu": jax.nn.gelu,
    "gelu, exact": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "silu, written out": lambda x: x * jax.nn.sigmoid(x),
    "sigmoid": jax.nn.sigmoid,
    "log_sigmoid": jax.nn.log_sigmoid,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "mish": jax.nn.mish,
    "hard_tanh": jax.nn.hard_tanh,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_silu": jax.nn.hard_swish,
    "soft_sign": jax.nn.soft_sign,
    "squareplus": jax.nn.squareplus,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_function_is_found_once_with_what_goes_in_and_comes_out(name):
    function = ACTIVATIONS[name]
    model = cw.bind(lambda params, x: function(2 * x + 1) * 3, ())
    after = cw.coverage.neurons(model, X)
    before = cw.coverage.neurons(model, X, value="before")
    assert [layer.name for layer in after.convention.layers] == [f"{name.split(',')[0]}_0"]
    np.testing.assert_allclose(before(X)[1].values, 2 * X + 1, rtol=1e-5)
    np.testing.assert_allclose(after(X)[1].values, function(jnp.asarray(2 * X + 1)), rtol=1e-5, atol=1e-6)


def names(function, x=X, layers=("activation", "convolution", "dense", "pool"), params=()) -> list[str]:
    units = cw.coverage.neurons(cw.bind(function, params), x, layers=layers)
    return [layer.name for layer in units.convention.layers]


def test_inside_of_programs_that_are_called():
    inner = jax.jit(lambda x: jax.nn.relu(x) + 1)
    assert names(lambda params, x: inner(jax.checkpoint(lambda x: jnp.tanh(x))(inner(x))), layers="activation") == [
        "relu_0",
        "tanh_0",
        "relu_1",
    ]


def test_loops_stay_shut():
    def function(params, x):
        looped, _ = jax.lax.scan(lambda carry, _: (jnp.tanh(carry), None), x, length=3)
        return jax.nn.relu(looped)

    assert names(function, layers="activation") == ["relu_0"]
    units = cw.coverage.neurons(cw.bind(function), X)
    np.testing.assert_allclose(units(X)[0], function((), X), rtol=1e-6)


def test_a_derivative_of_ones_own_is_kept_where_no_layer_is_inside():
    @jax.custom_jvp
    def odd(x):
        return x * 2

    odd.defjvp(lambda primals, tangents: (odd(*primals), 100 * tangents[0]))
    units = cw.coverage.neurons(cw.bind(lambda params, x: jax.nn.relu(odd(x))), X)
    assert jax.grad(lambda x: units(x)[1].values.sum())(jnp.ones_like(X))[0, 0] == 100


def test_the_variance_of_a_normalisation_is_no_activation():
    def function(params, x):
        mean = x.mean(1, keepdims=True)
        variance = jnp.maximum(0.0, (x * x).mean(1, keepdims=True) - mean**2)
        return jax.nn.relu((x - mean) * jax.lax.rsqrt(variance + 1e-6))

    assert names(function, layers="activation") == ["relu_0"]


def test_attention_is_no_dense_layer_and_masks_of_weights_are_no_activation():
    def function(params, x):
        weights = jax.nn.relu(params)
        keys = x @ weights
        return jnp.tanh((keys[:, :, None] * x[:, None, :]).sum(1)) + (x @ x.T @ x)

    assert names(function, params=np.eye(6, dtype=np.float32)) == ["dense_0", "tanh_0"]


def test_a_dense_layer_counts_its_bias_and_not_its_scale():
    weights, bias = np.eye(6, dtype=np.float32), np.arange(6, dtype=np.float32)

    def function(params, x):
        return (x @ weights + bias[None]) * 7

    units = cw.coverage.neurons(cw.bind(function, ()), X, layers="dense")
    np.testing.assert_allclose(units(X)[1].values, X + bias[None], rtol=1e-6)


def test_pools_of_every_kind():
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    pools = {
        "by windows": lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
        "by reshape": lambda x: x.reshape(len(x), 4, 2, 4, 2, 3).max((2, 4)),
        "mean, by reshape": lambda x: x.reshape(len(x), 4, 2, 4, 2, 3).mean((2, 4)),
        "mean, by windows": lambda x: (
            jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
        ),
    }
    for pool in pools.values():
        units = cw.coverage.neurons(cw.bind(lambda params, x, pool=pool: pool(x), ()), x, layers="pool", unit="element")
        assert [layer.shape for layer in units.convention.layers] == [(4, 4, 3)]
        np.testing.assert_allclose(units(x)[1].values, pool(x).reshape(2, -1), rtol=1e-5, atol=1e-6)


def test_layers_without_an_axis_of_the_batch_are_left_out():
    assert names(lambda params, x: jnp.tanh(jnp.tanh(x).T).T, layers="activation") == ["tanh_0"]
