"""Principal components: a classifier that sees the first of them alone (Bhagoji et al. 2017), and a detector that looks
at the last ones (Hendrycks and Gimpel 2017).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from cwjax.arguments import check_count
from cwjax.base import AnyArray
from cwjax.defences.defended import Defended, Keep, calibrated, fresh, lessons_of
from cwjax.defences.learnt_weights import retrained
from cwjax.models import Model


class Components(NamedTuple):
    """Of some inputs, flat."""

    mean: Float[Array, "F"]
    rows: Float[Array, "C F"]  # of length 1, those of the largest variance first


def components_of(x: Float[AnyArray, "N *S"]) -> Components:
    """The principal components of the inputs, all of them."""
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    mean = flat.mean(0)
    _, vectors = np.linalg.eigh(np.cov((flat - mean).T).reshape(len(mean), len(mean)))
    return Components(jnp.asarray(mean, jnp.float32), jnp.asarray(vectors.T[::-1].copy(), jnp.float32))


def first_components(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    components: int = 50,
    updates: int = 150,
    keep: Keep = fresh,
) -> Defended:
    """The model on inputs of which only the first principal components are left, trained on such inputs.

    Args:
      model: where training begins.
      x: inputs in [0, 1]; components and weights come from all but the last fifth.
      labels: of the inputs.
      key: of the batches.
      components: that are left. Carlini and Wagner's code tries the squares from 9 to 729 for MNIST.
      updates: steps of Adam, 128 inputs each.
      keep: see `Keep`.

    Returns:
      The model; it refuses nothing.

    Raises:
      ValueError: more components than an input has elements.

    Example:
      >>> defended = cw.defences.first_components(model, x, labels, jax.random.key(0), components=2, updates=20)
      >>> float((defended.model.of_batch(x).argmax(1) == labels).mean())
      1.0

    References:
      Bhagoji et al. 2017, "Dimensionality reduction as a defense against evasion attacks on machine learning
        classifiers", https://arxiv.org/abs/1704.02654
      Broken by Carlini & Wagner 2017, "Adversarial examples are not easily detected", https://arxiv.org/abs/1705.07263
    """
    fit, known, _ = lessons_of(model, x, labels)
    check_count("components", components, most=fit[0].size)
    mean, rows = components_of(fit)
    first = Components(mean, rows[: int(components)])
    seen = np.asarray(_projected(first, jnp.asarray(fit)))
    params = keep("network", lambda: retrained(model, seen, known, key, updates=updates).params)
    return Defended(Model(apply=_Reduced(model.apply), params=(params, first)))


def last_components(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    components: int = 100,
    false_positives: float = 0.05,
    keep: Keep = fresh,
) -> Defended:
    """Refuses inputs that have much in the principal components which clean inputs make little use of.

    The score is the logarithm of what the first components leave: the sum of squares along all others.

    Args:
      model: stays the classifier.
      x: inputs; components come from all but the last fifth, and the threshold from that.
      labels: of the inputs; unused: nothing is trained.
      key: unused: nothing is drawn.
      components: the first ones, which are not looked at. The number is ours. Hendrycks and Gimpel compare the variance
        of whitened coefficients, whose last ones on MNIST belong to pixels that are always black.
      false_positives: share of the clean inputs to refuse.
      keep: unused: nothing is trained.

    Returns:
      The model and the detector.

    Raises:
      ValueError: no component is left to look at.

    Example:
      >>> defended = cw.defences.last_components(model, x, labels, jax.random.key(0), components=2)
      >>> striped = np.zeros((1, 4, 4, 1), np.float32)
      >>> striped[0, :, ::2] = 1
      >>> int(cw.defences.refused(defended, x[-8:]).sum()), cw.defences.refused(defended, striped).tolist()
      (0, [True])

    References:
      Hendrycks & Gimpel 2017, "Early methods for detecting adversarial images", https://arxiv.org/abs/1608.00530
      Broken by Carlini & Wagner 2017, "Adversarial examples are not easily detected", https://arxiv.org/abs/1705.07263
    """
    del key, keep
    fit, _, held_out = lessons_of(model, x, labels)
    check_count("components", components, most=fit[0].size - 1)
    mean, rows = components_of(fit)
    return calibrated(
        model, Model(apply=_left, params=Components(mean, rows[: int(components)])), held_out, false_positives
    )


def _projected(first: Components, x: Float[Array, "B *S"]) -> Float[Array, "B *S"]:
    flat = x.reshape(len(x), -1) - first.mean[None]
    return (flat @ first.rows.T @ first.rows + first.mean[None]).reshape(x.shape)


def _left(first: Components, x: Float[Array, "B *S"]) -> Float[Array, "B"]:
    return jnp.log(jnp.square(x - _projected(first, x)).reshape(len(x), -1).sum(1) + 1e-12)


@dataclasses.dataclass(frozen=True)
class _Reduced:
    apply: Callable[..., Array]

    def __call__(self, params: tuple[PyTree, Components], x: Array) -> Array:
        inner, first = params
        return self.apply(inner, _projected(first, x))
