"""One epoch of training as one compiled program: images drawn in random order, moved, attacked, and learnt from."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from cwjax.lab.training.intervals import ball, bounded, worst_logits
from cwjax.lab.training.label_losses import Labels, cross_entropy
from cwjax.lab.training.recipes import Adversary, Certified, Recipe
from cwjax.runners.fast_convolutions import canonical

Batch = Float[Array | np.ndarray, "B H W C"]


def epoch(net: nnx.Module, recipe: Recipe, optimizer: optax.GradientTransformation, updates: int) -> Callable[..., Any]:
    """One pass over the images in random order as one compiled program; a last batch that is not full is left out.

    Args:
      net: gives the graph; its weights are arguments.
      recipe: says what is done to images, and the loss.
      optimizer: see `recipes.optimizer_of`; its state counts the updates.
      updates: how many there will be in all.

    Raises:
      ValueError: the recipe needs interval bounds, and the network has none.
    """
    graph = nnx.graphdef(bounded(net) if recipe.certified else net)

    def loss_of(params, images, labels, rngs=None):
        logits = nnx.merge(graph, params)(images, rngs=rngs)
        return recipe.loss(logits / recipe.temperature, labels).mean(), logits

    def update(params, state, key, images, labels):
        given: Any = state

        def objective(params):
            loss, logits = loss_of(params, images, labels, nnx.Rngs(dropout=key) if recipe.dropout else None)
            if recipe.certified:
                loss = certified_loss(
                    loss, nnx.merge(graph, params), images, labels, recipe.certified, given.count / updates
                )
            answers = labels if labels.ndim == 1 else labels.argmax(-1)
            return loss, (logits.argmax(-1) == answers).mean()

        if recipe.shift:
            images = moved(jax.random.fold_in(key, 1), images, recipe.shift)
        if recipe.flip:
            images = flipped(jax.random.fold_in(key, 2), images)
        if recipe.adversary:
            grown = jnp.minimum(1.0, (state.count + 1) / (recipe.adversary.ramp * updates))
            images = attacked(
                jax.random.fold_in(key, 3),
                images,
                jax.grad(lambda x: loss_of(params, x, labels)[0]),
                recipe.adversary._replace(epsilon=recipe.adversary.epsilon * grown),
            )
        (loss, accuracy), slope = jax.value_and_grad(objective, has_aux=True)(params)
        change, state = optimizer.update(slope, state, params)
        return optax.apply_updates(params, change), state, loss, accuracy

    @jax.jit
    def run(params: PyTree, state: PyTree, key: PRNGKeyArray, images: Batch, labels: Labels):
        shuffle, drop = jax.random.split(key)
        order = jax.random.permutation(shuffle, len(images))
        batches = order[: len(order) // recipe.batch * recipe.batch].reshape(-1, recipe.batch)

        def step(carry, inputs):
            chosen, key = inputs
            params, state = carry
            params, state, loss, accuracy = canonical(update)(params, state, key, images[chosen], labels[chosen])
            return (params, state), (loss, accuracy)

        keys = jax.random.split(drop, len(batches))
        (params, state), (losses, accuracies) = lax.scan(step, (params, state), (batches, keys))
        return params, state, losses.mean(), accuracies.mean()

    return run


def certified_loss(loss, net, images: Batch, labels: Labels, plan: Certified, share: Any) -> Float[Array, ""]:
    """The loss at the images, and more and more of the cross-entropy of the worst logits around them instead.

    Args:
      loss: at the images.
      net: a network with interval bounds.
      images: whose balls are looked at.
      labels: of the images.
      plan: how large the balls become, and how much the worst logits count in the end.
      share: of all updates, those that are over.
    """
    grown = jnp.clip((share - plan.wait) / plan.ramp, 0, 1)
    worst = cross_entropy(worst_logits(net, ball(images, plan.epsilon * grown), labels), labels).mean()
    weight = plan.weight * grown
    return (1 - weight) * loss + weight * worst


def moved(key: PRNGKeyArray, images: Batch, most: int) -> Batch:
    """Each image shifted by up to `most` pixels down or up, right or left; what comes in is black."""
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * most + 1)
    return jax.vmap(lambda image, corner: lax.dynamic_slice(image, (*corner, 0), images.shape[1:]))(padded, corners)


def flipped(key: PRNGKeyArray, images: Batch) -> Batch:
    """Each image with left and right exchanged, half of the time."""
    return jnp.where(jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1)), images[:, :, ::-1], images)


def attacked(key: PRNGKeyArray, images: Batch, slope: Callable[[Batch], Batch], adversary: Adversary) -> Batch:
    """Projected gradient ascent within epsilon of each image, and within [0, 1], along `slope` of the loss."""
    along, within = (jnp.sign, _near) if adversary.norm == "linf" else (_unit, _shortened)
    epsilon, steps = adversary.epsilon, adversary.steps

    def step(_: Int[Array, ""], x: Batch) -> Batch:
        return within(x + 2.5 * epsilon / steps * along(slope(x)), images, epsilon)

    noise = jax.random.uniform(key, images.shape, minval=-epsilon, maxval=epsilon)
    return lax.fori_loop(0, steps, step, within(images + noise, images, epsilon))


def _near(x: Batch, images: Batch, epsilon: Any) -> Batch:
    """The nearest point in [0, 1] whose every pixel is within epsilon of the image's."""
    return jnp.clip(x, jnp.maximum(images - epsilon, 0), jnp.minimum(images + epsilon, 1))


def _shortened(x: Batch, images: Batch, epsilon: Any) -> Batch:
    """A point on the way to x that is no farther than epsilon from the image, and then clipped to [0, 1]."""
    change = x - images
    return jnp.clip(images + change * jnp.minimum(1, epsilon / jnp.maximum(_lengths(change), 1e-12)), 0, 1)


def _unit(slope: Batch) -> Batch:
    """The slope of each image at length 1; 0 where there is none."""
    return slope / jnp.maximum(_lengths(slope), 1e-12)


def _lengths(change: Batch) -> Float[Array, "B 1 1 1"]:
    return jnp.sqrt(jnp.sum(change**2, axis=(1, 2, 3), keepdims=True))
