"""Networks of layers compute what their plan says, and as many units win as it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.lab.training import nets
from cwjax.lab.training.layered import Convolution, LayeredNet, Layers, winners_take_all

DIGIT = (28, 28, 1)


def shapes(name):
    params = nets.as_model(nets.build(name, shape=DIGIT, classes=10, seed=0)).params
    return [layer["kernel"].shape for part in ("convolutions", "layers") for layer in params.get(part, {}).values()]


def test_the_layers_by_name():
    assert shapes("mnist_dense") == [(784, 128), (128, 64), (64, 10)]
    assert shapes("mnist_small") == [(4, 4, 1, 16), (4, 4, 16, 32), (1568, 100), (100, 10)]
    lenet = [(5, 5, 1, 6), (5, 5, 6, 16), (400, 120), (120, 84), (84, 10)]
    assert shapes("mnist_lenet") == lenet
    assert shapes("mnist_winners") == lenet


def test_the_network_computes_what_the_layers_say():
    plan = Layers((Convolution(3, 4, stride=2), Convolution(4, 3, padding="VALID")), dense=(7,), pool=True)
    net = LayeredNet(plan, shape=(16, 16, 1), classes=3, seed=0)
    x = jax.random.uniform(jax.random.key(0), (2, 16, 16, 1))
    y = x
    for layer, stride, padding in zip(net.convolutions, (2, 1), ("SAME", "VALID"), strict=True):
        kernel = jnp.asarray(layer.kernel.get_value())
        plan = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(y, kernel, (stride, stride), padding, dimension_numbers=plan)
        y = jnp.maximum(jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), 0)
    first, last = (jnp.asarray(layer.kernel.get_value()) for layer in net.layers)
    np.testing.assert_allclose(net(x), jnp.maximum(y.reshape(2, -1) @ first, 0) @ last, atol=1e-5)


def test_images_that_vanish_on_the_way_are_refused():
    with pytest.raises(ValueError, match=r"needs larger images, got shape \[6, 6, 1\]"):
        nets.build("mnist_lenet", shape=(6, 6, 1), classes=10, seed=0)


@pytest.mark.parametrize(("share", "winners"), [(0.1, 9), (0.5, 48), (0.001, 1), (1.0, 96)])
def test_so_many_of_each_example_win_and_stay_as_they_are(share, winners):
    x = np.random.default_rng(0).normal(size=(5, 4, 4, 6)).astype(np.float32)
    out = np.asarray(winners_take_all(jnp.asarray(x), share))
    stay = out != 0
    assert (stay.sum((1, 2, 3)) == winners).all()
    np.testing.assert_array_equal(out[stay], x[stay])
    for before, won in zip(x, stay, strict=True):
        assert winners == 96 or before[won].min() > before[~won].max()


def test_equal_values_win_together():
    np.testing.assert_array_equal(winners_take_all(jnp.array([[1.0, 2.0, 1.0, -3.0]]), 0.5), [[1.0, 2.0, 1.0, 0.0]])


def test_only_winners_have_a_slope():
    x = jnp.array([[3.0, 1.0, -2.0, 5.0]])
    slope = jax.grad(lambda x: (winners_take_all(x, 0.5) * jnp.arange(1.0, 5.0)[None]).sum())(x)
    np.testing.assert_array_equal(slope, [[1.0, 0.0, 0.0, 4.0]])


@pytest.mark.long
def test_a_network_of_winners_jumps_where_its_twin_does_not():
    """Along a line of inputs ReLU's largest step shrinks with the length of the steps, and that of the winners less."""
    line = jnp.linspace(0, 1, 4001)[:, None, None, None]
    ends = jax.random.uniform(jax.random.key(1), (2, *DIGIT))
    points = (1 - line) * ends[:1] + line * ends[1:]

    def refined(name):
        """By how much the largest step shrinks where steps are 40 times as short."""
        y = np.asarray(nets.build(name, shape=DIGIT, classes=10, seed=0)(points))
        fine, coarse = (np.abs(np.diff(y[::every], axis=0)).max() for every in (1, 40))
        return coarse / fine

    assert refined("mnist_lenet") > 20
    assert refined("mnist_winners") < 10
