"""Interval bounds hold, are exact where they can be, and certify."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.lab import data
from cwjax.lab.training import nets
from cwjax.lab.training.intervals import Interval, ball, bounds, certified_accuracy, worst_logits
from cwjax.lab.training.layered import Convolution, LayeredNet, Layers

PLANS = {
    "dense": Layers((), dense=(9, 7)),
    "strides": Layers((Convolution(3, 4, stride=2), Convolution(4, 3, padding="VALID")), dense=(8,)),
    "pools": Layers((Convolution(3, 3), Convolution(4, 3)), dense=(8,), pool=True),
}
plans = pytest.mark.parametrize(
    "plan",
    [pytest.param(plan, id=name, marks=[pytest.mark.long] * (name == "strides")) for name, plan in PLANS.items()],
)


def made(plan) -> Any:
    net: Any = LayeredNet(plan, shape=(8, 8, 1), classes=4, seed=0)
    for k, layer in enumerate((*net.convolutions, *net.layers)):  # biases of zero would hide a mistake
        layer.bias.set_value(0.1 * jax.random.normal(jax.random.key(k), layer.bias.get_value().shape))
    return net


@plans
def test_every_answer_in_the_ball_is_within_the_bounds(plan):
    net, labels = made(plan), jnp.array([0, 3, 1])
    images = jax.random.uniform(jax.random.key(5), (3, 8, 8, 1))
    inside = ball(images, 0.1)
    found, most = bounds(net, inside), worst_logits(net, inside, labels)
    corners = jax.random.bernoulli(jax.random.key(6), 0.5, (200, *images.shape))
    points = jax.random.uniform(jax.random.key(7), (200, *images.shape))
    for share in (corners, points):
        answers = jax.vmap(net)(inside.low[None] + share * (inside.high - inside.low)[None])
        assert (answers >= found.low[None] - 1e-5).all()
        assert (answers <= found.high[None] + 1e-5).all()
        leads = answers - jnp.take_along_axis(answers, labels[None, :, None], axis=2)
        assert (leads <= most[None] + 1e-5).all()
    assert (found.high - found.low > 0).all()


@plans
def test_a_ball_of_one_image_has_its_answer(plan):
    net, labels = made(plan), jnp.array([2, 0])
    images = jax.random.uniform(jax.random.key(5), (2, 8, 8, 1))
    answer = net(images)
    for end in bounds(net, Interval(images, images)):
        np.testing.assert_allclose(end, answer, atol=1e-5)
    leads = answer - answer[jnp.arange(2), labels][:, None]
    np.testing.assert_allclose(worst_logits(net, Interval(images, images), labels), leads, atol=1e-5)


def test_bounds_of_one_affine_layer_are_reached():
    net = made(Layers((), dense=()))
    inside = ball(jax.random.uniform(jax.random.key(5), (2, 8, 8, 1)), 0.1)
    kernel = net.layers[0].kernel.get_value()
    low, high = (end.reshape(2, -1) for end in inside)
    for k in range(4):
        worst = jnp.where(kernel[None, :, k] > 0, high, low).reshape(2, 8, 8, 1)
        np.testing.assert_allclose(bounds(net, inside).high[:, k], net(worst)[:, k], atol=1e-5)
    apart = kernel[:, 3] - kernel[:, 1]
    y = net(jnp.where(apart[None] > 0, high, low).reshape(2, 8, 8, 1))
    np.testing.assert_allclose(worst_logits(net, inside, jnp.array([1, 1]))[:, 3], y[:, 3] - y[:, 1], atol=1e-5)


def test_the_ball_keeps_to_the_box():
    inside = ball(jnp.array([0.05, 0.5, 1.0]), 0.1)
    np.testing.assert_allclose(inside.low, [0, 0.4, 0.9], atol=1e-7)
    np.testing.assert_allclose(inside.high, [0.15, 0.6, 1.0], atol=1e-7)


def test_certified_accuracy_is_the_share_whose_label_wins_everywhere():
    """Of two logits, 0.5 - x and x - 0.5, the second wins where the pixel is bright."""
    net: Any = LayeredNet(Layers((), dense=()), shape=(1, 1, 1), classes=2, seed=0)
    net.layers[0].kernel.set_value(jnp.array([[-1.0, 1.0]]))
    net.layers[0].bias.set_value(jnp.array([0.5, -0.5]))
    values, labels = np.array([0.9, 0.65, 0.58, 0.1, 0.45, 0.8]), np.array([1, 1, 1, 0, 0, 0])
    pixels = data.Dataset(
        "pixels",
        "test",
        values.astype(np.float32).reshape(-1, 1, 1, 1),
        labels.astype(np.int32),
        ("dark", "bright"),
        np.arange(6),
    )
    shares = [certified_accuracy(net, pixels, epsilon=epsilon) for epsilon in (0.01, 0.1, 0.45)]
    assert shares == pytest.approx([5 / 6, 3 / 6, 0])


@pytest.mark.parametrize("name", ["mnist_cnn", "mnist_winners"])
def test_networks_without_bounds_are_refused(name):
    net = nets.build(name, shape=(28, 28, 1), classes=10, seed=0)
    with pytest.raises(ValueError, match=r"interval bounds need a network of layers with ReLU.*choose mnist_small"):
        certified_accuracy(net, data.load("mnist5k", "test").take(slice(2)), epsilon=0.1)
