"""How unsure a classifier is of each input: scores to order tests by, from its logits alone."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cwjax.base import AnyArray


def gini(logits: Float[AnyArray, "B K"]) -> Float[Array, "B"]:
    """DeepGini: 1 - Σp², which is 0 where one class is certain.

    It is computed as Σp(1 - p), which is the same, and keeps its digits where one p is nearly 1.

    Args:
      logits: of each input.

    Example:
      >>> print(np.asarray(cw.coverage.uncertainty.gini(jnp.array([[0.0, 0.0], [9.0, -9.0]]))).round(2))
      [0.5 0. ]

    References:
      Feng et al. 2020, "DeepGini: prioritizing massive tests to enhance the robustness of deep neural networks",
        https://arxiv.org/abs/1903.00661
    """
    share, rest = _shares(logits)
    return (share * rest).sum(-1)


def least_confidence(logits: Float[AnyArray, "B K"]) -> Float[Array, "B"]:
    """1 less the largest probability, "vanilla softmax".

    Args:
      logits: of each input.

    Example:
      >>> print(np.asarray(cw.coverage.uncertainty.least_confidence(jnp.zeros((1, 4)))).round(2))
      [0.75]
    """
    return _shares(logits)[1].min(-1)


def margin(logits: Float[AnyArray, "B K"]) -> Float[Array, "B"]:
    """PCS, the prediction-confidence score: 1 less the lead of the largest probability over the next.

    Args:
      logits: of each input.

    Example:
      >>> print(np.asarray(cw.coverage.uncertainty.margin(jnp.log(jnp.array([[0.7, 0.2, 0.1]])))).round(2))
      [0.5]

    References:
      Zhang et al. 2020, "Towards characterizing adversarial defects of deep learning software from the lens of
        uncertainty", https://arxiv.org/abs/2004.11573
    """
    share, rest = _shares(logits)
    return rest.min(-1) + jax.lax.top_k(share, 2)[0][..., 1]


def entropy(logits: Float[AnyArray, "B K"]) -> Float[Array, "B"]:
    """The entropy of the probabilities, in bits: 1 where two classes are equally likely.

    Args:
      logits: of each input.

    Example:
      >>> print(np.asarray(cw.coverage.uncertainty.entropy(jnp.zeros((1, 4)))).round(2))  # four alike: two bits
      [2.]
    """
    share, rest = _shares(logits)
    logarithms = jnp.where(share > 0.5, jnp.log1p(-rest), jnp.log(jnp.where(share > 0, share, 1)))
    return -(share * logarithms).sum(-1) / jnp.log(jnp.asarray(2, share.dtype))


def _shares(logits: Float[AnyArray, "B K"]) -> tuple[Float[Array, "B K"], Float[Array, "B K"]]:
    """P and 1 - p. The second is a sum over the other classes, so that nothing cancels."""
    share = jax.nn.softmax(jnp.asarray(logits))
    others = 1 - jnp.eye(share.shape[-1], dtype=share.dtype)
    return share, jnp.einsum("bk,kl->bl", share, others, precision="highest")
