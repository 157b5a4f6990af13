"""Thresholded descent: down the loss and a smooth count of the elements that change, small changes undone."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from cwjax.base import Number, wide
from cwjax.loop import Rule
from cwjax.parts.schedules import annealed
from cwjax.problems import clip


class ThresholdedMemory(NamedTuple):
    threshold: Float[Array, ""]  # tau: changes smaller than it are undone
    adam: optax.OptState


def thresholded_descent(
    steps: Number,
    *,
    first_step: Number = 1.0,
    sigma: Number = 1e-3,
    threshold: Number = 0.3,
    threshold_rate: Number = 0.01,
) -> Rule:
    """What `sigma_zero` does; it says what these are. The loss is one that is 0 as soon as the goal is met.

    Lengths are in widths of the box, element by element. They do not know of the loss's own scale: how the loss and the
    count weigh against each other depends on that of the logits, as in the paper.
    """
    adam = optax.scale_by_adam()

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        return start, ThresholdedMemory(threshold=jnp.asarray(threshold, start.dtype), adam=adam.init(start))

    def move(problem, memory, seen):
        unit = problem.widths
        clean, share = seen.x - seen.delta, seen.delta / unit
        counted = 2 * share * sigma / (share**2 + sigma) ** 2 / share.size
        gradient = unit * seen.slope + counted
        gradient = gradient / jnp.maximum(jnp.max(jnp.abs(gradient)), 1e-12)
        direction, state = adam.update(gradient, memory.adam)
        eta = annealed(first_step, first_step / 10, jnp.maximum(seen.taken - 1, 0), steps)
        delta = clip(problem, seen.x - unit * eta * jnp.asarray(direction)) - clean

        change = threshold_rate * annealed(first_step, first_step / 10, seen.taken, steps)
        tau = jnp.clip(memory.threshold + jnp.where(seen.met, change, -change), 0, 1)
        x = clean + jnp.where(jnp.abs(delta) < unit * tau, 0, delta)
        return x, ThresholdedMemory(threshold=tau.astype(memory.threshold.dtype), adam=state)

    return Rule(init=init, move=move)
