"""The losses of training, counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.lab.training import label_losses


def test_classes_are_distributions_too():
    logits, labels = jnp.array([[1.0, 2.0, -1.0], [0.0, 0.0, 3.0]]), jnp.array([1, 0])
    for loss in (label_losses.cross_entropy, label_losses.squared_error):
        np.testing.assert_allclose(loss(logits, labels), loss(logits, jax.nn.one_hot(labels, 3)), rtol=1e-6)


def test_the_cross_entropy_is_in_nats():
    logits = jnp.array([[0.0, jnp.log(3.0)], [2.0, 2.0]])
    np.testing.assert_allclose(label_losses.cross_entropy(logits, jnp.array([1, 0])), np.log([4 / 3, 2]), rtol=1e-6)
    share = jnp.array([[0.5, 0.5], [1.0, 0.0]])
    halves = (np.log(4) + np.log(4 / 3)) / 2
    np.testing.assert_allclose(label_losses.cross_entropy(logits, share), [halves, np.log(2)], rtol=1e-6)


def test_the_squared_error_is_the_distance_to_the_one_hot_label():
    logits = jnp.array([[1.0, 2.0, -1.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(label_losses.squared_error(logits, jnp.array([0, 1])), [5.0, 0.0])
