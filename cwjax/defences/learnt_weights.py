"""What defences learn: weights by Adam on arrays, from fresh weights or from those of the model, and adversarial
inputs to learn from.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from cwjax.arguments import check_count, check_model
from cwjax.attacks.fast.attacks import fast
from cwjax.base import AnyArray, Attack, Runner
from cwjax.defences.defended import Keep, fresh, lessons_of
from cwjax.goals import untargeted
from cwjax.models import Model
from cwjax.runners.batch import batched, chunked
from cwjax.runners.fast_convolutions import canonical
from cwjax.values import known

ADVERSARIAL = "adversarial"  # how the names of kept adversarial inputs begin: they are of the model, not of a defence

Loss = Callable[..., Float[Array, ""]]  # (params, key, *batches) -> one number


def fitted(
    loss: Loss,
    params: PyTree,
    arrays: Sequence[AnyArray],
    key: Array,
    *,
    updates: int,
    batch: int = 128,
    rate: float = 1e-3,
) -> PyTree:
    """The weights after `updates` steps of Adam. Its rate falls to 0 along a cosine.

    One program for all updates: batches are drawn at random, with the same example perhaps twice.

    Args:
      loss: of a batch; it is given a key for what it draws itself.
      params: to begin with.
      arrays: of equal length, of which the batches are.
      key: of the batches, and of what the loss draws.
      updates: steps to make.
      batch: examples in one.
      rate: Adam's, at the beginning.

    Returns:
      Weights in the structure of `params`.

    Raises:
      ValueError: a number out of range; weights that are not finite at the end.
    """
    check_count("updates", updates)
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, updates))

    def update(params, state, key, *whole):
        pick, drawn = jax.random.split(key)
        chosen = jax.random.randint(pick, (batch,), 0, len(whole[0]))
        slope = jax.grad(loss)(params, drawn, *(array[chosen] for array in whole))
        change, state = optimizer.update(slope, state, params)
        return optax.apply_updates(params, change), state

    def run(params, keys, *whole):
        def step(carry, key):
            return canonical(update)(*carry, key, *whole), None

        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]

    start = jax.tree.map(jnp.asarray, params)
    learnt = jax.jit(run)(start, jax.random.split(key, int(updates)), *map(jnp.asarray, arrays))
    if known(learnt) and not all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(learnt)):
        raise ValueError(
            f"after {updates} steps of Adam some weights are NaN or infinite: does the model return finite logits "
            "with finite slopes for these inputs?"
        )
    return learnt


def retrained(
    model: Model, x: Float[AnyArray, "N *S"], labels: AnyArray, key: Array, *, updates: int, noise: float = 0.0
) -> Model:
    """The model with weights that were trained on, by cross-entropy with labels [N] or with probabilities [N, K].

    Args:
      model: where training begins.
      x: images in [0, 1].
      labels: int [N], or float [N, K].
      key: of the batches and the noise.
      updates: steps of Adam, 128 images each.
      noise: the standard deviation of what is added to each pixel, anew each time; the sum is clipped to [0, 1].
    """

    def loss(params, key, x, labels):
        if noise:
            x = jnp.clip(x + noise * jax.random.normal(key, x.shape, x.dtype), 0, 1)
        logits = model.apply(params, x)
        if labels.ndim == 1:
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return optax.softmax_cross_entropy(logits, labels).mean()

    return Model(apply=model.apply, params=fitted(loss, model.params, (x, labels), key, updates=updates))


def adversarial(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    attack: Attack | None = None,
    keep: Keep = fresh,
) -> Float[np.ndarray, "M *S"]:
    """What an attack makes of inputs, for detectors that learn from it; where it failed, the input is left out.

    Args:
      model: is attacked.
      x: clean inputs.
      labels: of them, which are to be left.
      key: of the attack.
      attack: by default `fast("l2", steps=40)`, the smallest changes in L2 as Carlini and Wagner's attack makes them.
      keep: see `Keep`.

    Raises:
      ValueError: the attack fools the model on none of them.
    """
    check_model(model)
    run = _runner(attack or _usual(), min(100, len(x)))
    keys, clean, goal = jax.random.split(key, len(x)), jnp.asarray(x), untargeted(labels)
    result = keep(f"{ADVERSARIAL}-{len(x)}", lambda: run(model, keys, clean, goal)._asdict())
    hit = np.asarray(result["success"] & (result["distance"] > 0))
    if not hit.any():
        raise ValueError(f"the attack that the detector learns from fools the model on none of {len(x)} inputs")
    return np.asarray(result["x"])[hit]


class Lesson(NamedTuple):
    """What a detector learns from, and the keys that are left for it."""

    clean: Float[np.ndarray, "N *S"]
    labels: Int[np.ndarray, "N"]
    wrong: Float[np.ndarray, "M *S"]  # adversarial inputs
    held_out: Float[np.ndarray, "P *S"]  # clean inputs, for the threshold
    begin: Array  # a key, of the fresh weights
    learn: Array  # a key, of the batches


def lesson(
    model: Model, x: AnyArray, labels: AnyArray, key: Array, *, count: int, attack: Attack | None, keep: Keep
) -> Lesson:
    """The inputs in two parts (`parted`), and what an attack makes of the first `count` (`adversarial`)."""
    check_count("count", count)
    attacking, begin, learn = jax.random.split(key, 3)
    clean, known, held_out = lessons_of(model, x, labels, bounded=True)
    wrong = adversarial(model, clean[:count], known[:count], attacking, attack=attack, keep=keep)
    return Lesson(clean, known, wrong, held_out, begin, learn)


@functools.cache
def _usual() -> Attack:
    return fast("l2", steps=40)


@functools.cache  # so that several detectors that learn from one attack compile it once
def _runner(attack: Attack, at_once: int) -> Runner:
    return jax.jit(chunked(batched(attack), at_once))


def told_apart(
    score: Callable[[PyTree, Array], Array],
    weights: PyTree,
    clean: Float[AnyArray, "N *S"],
    wrong: Float[AnyArray, "M *S"],
    key: Array,
    *,
    updates: int,
) -> PyTree:
    """The weights of a detector that learnt to tell clean inputs from adversarial ones, as many of each in a batch.

    Args:
      score: `(weights, x) -> score [B]`, as a logit: above 0 for adversarial inputs.
      weights: to begin with.
      clean: inputs.
      wrong: adversarial ones, which are repeated up to as many.
      key: of the batches.
      updates: steps of Adam.
    """

    def loss(weights, key, clean, wrong):
        del key
        return (jax.nn.softplus(score(weights, clean)) + jax.nn.softplus(-score(weights, wrong))).mean()

    return fitted(loss, weights, (clean, as_many(wrong, clean)), key, updates=updates, batch=64)


def as_many(some: Float[AnyArray, "M *S"], others: AnyArray) -> Float[np.ndarray, "N *S"]:
    """The inputs, one after the other and again from the first, until there are as many as of the others."""
    return np.asarray(some)[np.arange(len(others)) % len(some)]


def redrawn(model: Model, key: Array) -> Model:
    """The model with fresh weights: each array of at least two axes is drawn anew with its own standard deviation."""
    leaves, structure = jax.tree.flatten(model.params)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jnp.std(leaf) * jax.random.normal(one, jnp.shape(leaf), leaf.dtype) if jnp.ndim(leaf) > 1 else leaf
        for one, leaf in zip(keys, map(jnp.asarray, leaves), strict=True)
    ]
    return Model(apply=model.apply, params=jax.tree.unflatten(structure, drawn))
