"""What an epoch does to images, and what it learns from them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from cwjax.lab.training import epochs
from cwjax.lab.training.recipes import Adversary, Recipe, constant


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


def test_classes_are_distributions_too():
    logits, labels = jnp.array([[1.0, 2.0, -1.0], [0.0, 0.0, 3.0]]), jnp.array([1, 0])
    np.testing.assert_allclose(
        epochs.cross_entropy(logits, labels), epochs.cross_entropy(logits, jax.nn.one_hot(labels, 3)), rtol=1e-6
    )


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


def test_the_cross_entropy_is_in_nats():
    logits = jnp.array([[0.0, jnp.log(3.0)], [2.0, 2.0]])
    np.testing.assert_allclose(epochs.cross_entropy(logits, jnp.array([1, 0])), np.log([4 / 3, 2]), rtol=1e-6)
    share = jnp.array([[0.5, 0.5], [1.0, 0.0]])
    halves = (np.log(4) + np.log(4 / 3)) / 2
    np.testing.assert_allclose(epochs.cross_entropy(logits, share), [halves, np.log(2)], rtol=1e-6)
