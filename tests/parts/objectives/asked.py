"""An objective that is asked about a batch, as its tests do: compiled once for each shape."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.arguments import check_batch


class Answers(NamedTuple):
    """Of every example."""

    loss: Any  # [B]
    met: Any  # [B]
    slope: Any  # of the loss in the outputs, [B, ...]


def answers(make: Callable[[Any], cw.Objective], outputs: Any, goal: Any, confidence: float = 0.0) -> Answers:
    """What the objective `make(confidence)` says of every example."""
    return jax.tree.map(np.asarray, _answers(make, outputs, goal, confidence))


@functools.partial(jax.jit, static_argnames="make")
def _answers(make, outputs, goal, confidence):
    return jax.vmap(functools.partial(_answer, make, confidence))(outputs, goal)


def _answer(make, confidence, outputs, goal):
    objective = make(confidence)
    loss, slope = jax.value_and_grad(objective.loss)(outputs, goal)
    return Answers(loss, objective.met(outputs, goal), slope)


@functools.partial(jax.jit, static_argnames="make")
def alone(make: Callable[[Any], cw.Objective], confidence: Any, outputs: Any, goal: Any) -> Answers:
    """The same of one example that is in no batch."""
    return _answer(make, confidence, outputs, goal)


def of_one(batch: Any, row: int = 0) -> Any:
    """One example's part of a batch."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[row]), batch)


def handed(objective: cw.Objective, shape: Any, goal: Any) -> None:
    """What a runner does with a model whose outputs have this shape, or these shapes, before it calls an attack."""
    count = len(jax.tree.leaves(goal)[0])
    shapes = shape if isinstance(shape, list) else [shape]

    def apply(params, x) -> Any:
        outputs = tuple(jnp.zeros((len(x), *each)) for each in shapes)
        return outputs if isinstance(shape, list) else outputs[0]

    keys = jax.random.split(jax.random.key(0), count)
    check_batch(cw.bind(apply), keys, np.zeros((count, 2), np.float32), goal, objective=objective)
