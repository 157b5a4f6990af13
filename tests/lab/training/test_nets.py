"""The networks are those of the technical report's Table 1 and the paper's Table I."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cwjax.lab.training import nets


def shapes(name, shape):
    params = nets.as_model(nets.build(name, shape=shape, classes=10, seed=0)).params
    kernels = {**params["convolutions"], **{4 + i: layer for i, layer in params["layers"].items()}}
    return [kernels[i]["kernel"].shape for i in range(7)]


def test_the_layers_of_the_mnist_network():
    assert shapes("mnist_cnn", (28, 28, 1)) == [
        (3, 3, 1, 32),
        (3, 3, 32, 32),
        (3, 3, 32, 64),
        (3, 3, 64, 64),
        (1024, 200),
        (200, 200),
        (200, 10),
    ]


def test_the_layers_of_the_cifar_network():
    assert shapes("cifar_cnn", (32, 32, 3)) == [
        (3, 3, 3, 64),
        (3, 3, 64, 64),
        (3, 3, 64, 128),
        (3, 3, 128, 128),
        (3200, 256),
        (256, 256),
        (256, 10),
    ]


def convolved(x, layer):
    kernel, bias = (jnp.asarray(value.get_value()) for value in (layer.kernel, layer.bias))
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return np.asarray(y) + np.asarray(bias)


def rectified(x):
    """ReLU of channels normalised sixteen at a time, with scale 1 and bias 0 as they start."""
    groups = x.reshape(len(x), -1, x.shape[-1] // 16, 16)
    mean, std = groups.mean((1, 3), keepdims=True), groups.std((1, 3), keepdims=True)
    return np.maximum(((groups - mean) / std).reshape(x.shape), 0)


@pytest.mark.long
def test_the_residual_network_computes_what_the_layers_say():
    net = nets.build("cifar_resnet", shape=(32, 32, 3), classes=10, seed=0)
    assert isinstance(net, nets.ResidualNet)
    x = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    y = convolved(x, net.stem)
    for block in net.blocks:
        if block.halve:
            y = y.reshape(2, y.shape[1] // 2, 2, y.shape[2] // 2, 2, -1).mean((2, 4))
        branch = convolved(rectified(convolved(rectified(y), block.first)), block.second)
        y = (convolved(y, block.shortcut) if block.shortcut else y) + branch
    assert y.shape == (2, 8, 8, 96)
    np.testing.assert_allclose(net(jnp.asarray(x)), net.head(rectified(y).mean((1, 2))), atol=1e-3)


def test_the_network_computes_what_the_layers_say():
    net = nets.build("mnist_cnn", shape=(28, 28, 1), classes=10, seed=0)
    params = nets.as_model(net).params
    x = jax.random.uniform(jax.random.key(0), (2, 28, 28, 1))
    y = x
    for i in range(4):
        kernel = params["convolutions"][i]["kernel"]
        y = jax.lax.conv_general_dilated(y, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        y = jnp.maximum(y, 0)
        if i in (1, 3):
            y = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    y = y.reshape(2, -1)
    y = jnp.maximum(y @ params["layers"][0]["kernel"], 0)
    y = jnp.maximum(y @ params["layers"][1]["kernel"], 0)
    np.testing.assert_allclose(net(x), y @ params["layers"][2]["kernel"], atol=1e-5)


def test_weights_start_glorot_uniform_with_zero_biases():
    params = nets.as_model(nets.build("mnist_cnn", shape=(28, 28, 1), classes=10, seed=0)).params
    limit = np.sqrt(6 / (1024 + 200))
    kernel = np.asarray(params["layers"][0]["kernel"])
    assert np.abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.01)
    assert not np.asarray(params["layers"][0]["bias"]).any()


def test_dropout_is_between_the_first_two_dense_layers_and_in_training_alone():
    net = nets.build("mnist_cnn", shape=(28, 28, 1), classes=10, seed=0)
    x = jax.random.uniform(jax.random.key(0), (1, 28, 28, 1))
    np.testing.assert_array_equal(net(x), net(x))
    assert isinstance(net, nets.ConvolutionalNet)
    many = jnp.stack([net(x, rngs=nnx.Rngs(i))[0] for i in range(3)])
    assert (many[0] != many[1]).any()
    # With its second kernel at zero nothing behind the dropout can depend on it.
    net.layers[1].kernel.set_value(jnp.zeros_like(net.layers[1].kernel.get_value()))
    np.testing.assert_array_equal(net(x, rngs=nnx.Rngs(1)), net(x))


def test_equal_networks_with_other_weights_are_one_program():
    first, second = (
        nets.as_model(nets.build("mnist_cnn", shape=(28, 28, 1), classes=10, seed=seed)) for seed in (0, 1)
    )
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert (first.params["layers"][0]["kernel"] != second.params["layers"][0]["kernel"]).any()


def test_bad_requests_say_what_to_do():
    with pytest.raises(ValueError, match="unknown network 'resnet': choose one of mnist_cnn, cifar_cnn"):
        nets.build("resnet", shape=(28, 28, 1), classes=10, seed=0)
    with pytest.raises(ValueError, match="at least 4×4"):
        nets.build("cifar_resnet", shape=(3, 8, 1), classes=10, seed=0)
    with pytest.raises(ValueError, match="at least 16×16"):
        nets.build("mnist_cnn", shape=(12, 12, 1), classes=10, seed=0)
    with pytest.raises(ValueError, match="0 classes"):
        nets.build("mnist_dense", shape=(12, 12, 1), classes=0, seed=0)
