"""Metamorphic relations: what must hold between what a network says of an input and of its transformed version.

A relation is a goal that is to be missed: an attack that meets the goal has found a violation.

    relation = metamorphic.label_kept(labels)
    wrong    = metamorphic.violated(relation, model.of_batch(changed))           # [B]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool

from cwjax.arguments import check_number
from cwjax.base import Goal, Number, Objective, Outputs
from cwjax.goals import untargeted, value_left
from cwjax.parts.objectives import logit_margin, tolerance


class Relation(NamedTuple):
    """A relation for a batch of inputs."""

    goal: Goal  # of a violation, for each input
    objective: Objective  # that reads it; give it to an attack


def label_kept(labels: ArrayLike, *, confidence: Number = 0.0) -> Relation:
    """The class stays.

    Args:
      labels: integers [B]: the true classes, or what the network says of the inputs as they were.
      confidence: the lead of another class, in logits, from which on it counts.

    Example:
      >>> from cwjax.generation import metamorphic
      >>> relation = metamorphic.label_kept([0, 1])
      >>> metamorphic.violated(relation, jnp.array([[2.0, 1.0], [2.0, 1.0]])).tolist()
      [False, True]

    References:
      Tian et al. 2018, "DeepTest: automated testing of deep-neural-network-driven autonomous cars",
        https://arxiv.org/abs/1708.08559
    """
    return Relation(untargeted(labels), logit_margin(confidence))


def error_kept(truth: ArrayLike, mean_squared_error: Number, *, factor: Number = 5.0) -> Relation:
    """DeepTest's relation for steering: `(y' - y)² <= lambda·MSE` (Tian et al. 2018, equation 2).

    Args:
      truth: the true values [B, ...], of the shape of the outputs.
      mean_squared_error: of the network on the inputs as they were, > 0.
      factor: lambda, > 0; the paper sweeps it.

    Example:
      >>> from cwjax.generation import metamorphic
      >>> relation = metamorphic.error_kept(jnp.zeros(2), 0.01, factor=4.0)  # at most 0.2 off
      >>> metamorphic.violated(relation, jnp.array([0.1, 0.3])).tolist()
      [False, True]

    References:
      Tian et al. 2018, "DeepTest: automated testing of deep-neural-network-driven autonomous cars", equation 2,
        https://arxiv.org/abs/1708.08559
    """
    check_number("mean_squared_error", mean_squared_error, least=0, above=True)
    check_number("factor", factor, least=0, above=True)
    return Relation(value_left(truth, jnp.sqrt(factor * mean_squared_error)), tolerance())


def outputs_kept(outputs: ArrayLike, allowed: Number) -> Relation:
    """DeepRoad's relation: `|y' - y| <= epsilon` for what the network said of the input as it was.

    Args:
      outputs: what it said [B, ...].
      allowed: epsilon, >= 0.

    Example:
      >>> from cwjax.generation import metamorphic
      >>> relation = metamorphic.outputs_kept(jnp.array([0.5, 0.5]), 0.2)
      >>> metamorphic.violated(relation, jnp.array([0.6, 0.9])).tolist()
      [False, True]

    References:
      Zhang et al. 2018, "DeepRoad: GAN-based metamorphic autonomous driving system testing",
        https://arxiv.org/abs/1802.02295
    """
    check_number("allowed", allowed, least=0)
    return Relation(value_left(outputs, allowed), tolerance())


def violated(relation: Relation, outputs: Outputs) -> Bool[Array, "B"]:
    """Where what the network says now violates the relation, beyond rounding.

    Args:
      relation: of these inputs.
      outputs: of the network on the changed inputs, with the batch in front.

    Example:
      >>> from cwjax.generation import metamorphic
      >>> metamorphic.violated(metamorphic.label_kept(labels), network.of_batch(x)).tolist()
      [False, False]
    """
    return jax.vmap(relation.objective.met)(outputs, relation.goal)
