"""What an attack is to reach: goals for a batch, from labels."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import ArrayLike

from cwjax.arguments import check_labels, check_targets
from cwjax.base import Goal


def targeted(targets: ArrayLike | Sequence[int], *, labels: ArrayLike | Sequence[int] | None = None) -> Goal:
    """Make the model answer `targets`, an integer array [B] of classes in 0…K-1.

    Args:
      targets: the classes to reach.
      labels: the true classes [B], if they are to be checked to differ from the targets.

    Raises:
      ValueError: not integers, not of rank 1 (one-hot, for instance), or a target that equals its label.
    """
    classes = check_labels("targets", targets)
    if labels is not None:
        check_targets(check_labels("labels", labels), classes)
    return Goal(label=jnp.asarray(classes, jnp.int32), sign=jnp.ones(classes.shape, jnp.float32))


def untargeted(labels: ArrayLike | Sequence[int]) -> Goal:
    """Make the model answer anything but `labels`, an integer array [B] of classes in 0…K-1.

    An input that the model gets wrong already meets this goal: every attack returns it unchanged, a success at distance
    0. Give a mean distance with and without such inputs.

    Raises:
      ValueError: not integers, or not of rank 1 (one-hot, for instance).
    """
    classes = check_labels("labels", labels)
    return Goal(label=jnp.asarray(classes, jnp.int32), sign=-jnp.ones(classes.shape, jnp.float32))
