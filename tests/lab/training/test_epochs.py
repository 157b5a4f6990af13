"""What an epoch does to images, and what it learns from them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from cwjax.lab.training import epochs, nets
from cwjax.lab.training.intervals import ball, worst_logits
from cwjax.lab.training.label_losses import cross_entropy
from cwjax.lab.training.layered import LayeredNet
from cwjax.lab.training.recipes import Adversary, Certified, Recipe, constant


def a_batch(count: int = 6):
    return jax.random.uniform(jax.random.key(0), (count, 8, 8, 1))


def test_images_are_moved_whole_by_at_most_so_many_pixels():
    images = a_batch(40)
    moved = np.asarray(epochs.moved(jax.random.key(1), images, 2))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    found = set()
    for image, around in zip(moved, padded, strict=True):
        places = [(i, j) for i in range(5) for j in range(5) if (around[i : i + 8, j : j + 8] == image).all()]
        assert len(places) == 1
        found |= set(places)
    assert len(found) > 10


def test_some_images_are_mirrored():
    images = a_batch(40)
    mirrored = np.asarray(epochs.flipped(jax.random.key(1), images))
    as_it_was = (mirrored == images).all((1, 2, 3))
    np.testing.assert_array_equal(mirrored[~as_it_was], images[~as_it_was][:, :, ::-1])
    assert 5 < as_it_was.sum() < 35


def test_the_adversary_climbs_and_keeps_to_its_ball_and_the_box():
    images = a_batch()
    weights = jax.random.normal(jax.random.key(2), images.shape)
    worst = epochs.attacked(
        jax.random.key(1),
        images,
        lambda x: weights,
        Adversary(epsilon=0.1, steps=3, ramp=1.0),
    )
    np.testing.assert_allclose(worst, jnp.clip(images + 0.1 * jnp.sign(weights), 0, 1), atol=1e-6)


def test_in_l2_the_adversary_goes_along_the_slope_and_keeps_to_its_ball_and_the_box():
    images = jnp.full((3, 8, 8, 1), 0.5).at[2].set(1.0)
    weights = jnp.abs(jax.random.normal(jax.random.key(2), images.shape)).at[1].multiply(1e3)
    adversary = Adversary(epsilon=0.4, steps=20, ramp=1.0, norm="l2")
    worst = epochs.attacked(jax.random.key(1), images, lambda x: weights, adversary)
    changes = np.asarray(worst - images).reshape(3, -1)
    lengths = np.linalg.norm(changes, axis=1)
    assert (lengths <= 0.4 + 1e-5).all()
    np.testing.assert_allclose(lengths[:2], 0.4, rtol=1e-4)
    ways = np.asarray(weights).reshape(3, -1)
    cosines = (changes * ways).sum(1) / lengths / np.linalg.norm(ways, axis=1)
    assert (cosines[:2] > 0.97).all()
    assert worst.max() <= 1
    still = epochs.attacked(jax.random.key(1), images, jnp.zeros_like, adversary)
    assert np.isfinite(still).all()


def test_the_certified_loss_goes_from_the_plain_one_to_the_worst_around():
    net = nets.build("mnist_dense", shape=(8, 8, 1), classes=3, seed=0)
    images, labels = a_batch(4), jnp.array([0, 1, 2, 0])
    plan = Certified(epsilon=0.1, wait=0.2, ramp=0.4, weight=0.5)
    assert isinstance(net, LayeredNet)

    def loss(share):
        return float(epochs.certified_loss(2.0, net, images, labels, plan, share))

    def worst(epsilon):
        return float(cross_entropy(worst_logits(net, ball(images, epsilon), labels), labels).mean())

    assert loss(0.0) == loss(0.2) == pytest.approx(2.0)
    assert loss(0.4) == pytest.approx(0.75 * 2 + 0.25 * worst(0.05), rel=1e-5)
    assert loss(0.6) == loss(1.0) == pytest.approx(0.5 * 2 + 0.5 * worst(0.1), rel=1e-5)


class Line(nnx.Module):
    """Two logits of an image of one pixel: nothing, and a weight times the pixel."""

    def __init__(self):
        self.weight = nnx.Param(jnp.float32(0.5))

    def __call__(self, images, rngs=None):
        assert rngs is None  # there is no dropout
        scaled = self.weight * images.reshape(len(images))
        return jnp.stack([jnp.zeros_like(scaled), scaled], axis=1)


def plain(**changes) -> Recipe:
    recipe = Recipe(constant(0.1), constant(0.0), nesterov=False, batch=4, epochs=1, source="", dropout=False)
    return recipe._replace(**changes)


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_an_epoch_is_an_update_for_each_full_batch(temperature):
    """Ten equal images in batches of four are two updates by the slope of one image, and the last two are left out."""
    net, optimizer = Line(), optax.sgd(0.1)
    run = epochs.epoch(net, plain(temperature=temperature), optimizer, updates=2)
    params = nnx.state(net)
    images, labels = jnp.full((10, 1, 1, 1), 2.0), jnp.ones(10, jnp.int32)
    params, _, loss, accuracy = run(params, optimizer.init(params), jax.random.key(0), images, labels)

    weight, losses = 0.5, []
    for _ in range(2):
        losses.append(np.log(1 + np.exp(-2 * weight / temperature)))
        weight += 0.1 * 2 / temperature / (1 + np.exp(2 * weight / temperature))
    np.testing.assert_allclose(jax.tree.leaves(params), [weight], rtol=1e-5)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    assert accuracy == 1
