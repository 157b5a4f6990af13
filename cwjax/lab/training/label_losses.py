"""What training makes small: a loss of logits and labels for each image."""

from collections.abc import Callable

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Shaped

Labels = Shaped[Array | np.ndarray, "B *K"]  # int [B], or probabilities [B, K]
Loss = Callable[[Float[Array, "B K"], Labels], Float[Array, " B"]]


def cross_entropy(logits: Float[Array, "B K"], labels: Labels) -> Float[Array, " B"]:
    """Against a class each, or against a distribution each."""
    if labels.ndim == 1:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return optax.softmax_cross_entropy(logits, labels)


def squared_error(logits: Float[Array, "B K"], labels: Labels) -> Float[Array, " B"]:
    """The sum over the classes of the squared distance to 1 for the label, and to 0 for every other class.

    References:
      Hui and Belkin, "Evaluation of Neural Architectures Trained with Square Loss vs Cross-Entropy in Classification
      Tasks", ICLR 2021, section 2: https://arxiv.org/abs/2006.07322. Theirs is the mean over the classes; for more than
      42 classes they also scale it.
    """
    wanted = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype) if labels.ndim == 1 else labels
    return ((logits - wanted) ** 2).sum(-1)
