"""A kernel density of the last hidden layer (Feinman et al. 2017): adversarial inputs lie off the data of the class."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cwjax.arguments import check_count, check_logits, check_number
from cwjax.base import AnyArray
from cwjax.coverage.convention import Neurons
from cwjax.defences.defended import Defended, Keep, calibrated, fresh, lessons_of
from cwjax.defences.inner_layers import inside
from cwjax.models import Model


class Density(NamedTuple):
    """The weights of the detector."""

    units: Neurons  # the layer
    centres: Float[Array, "K M D"]  # its values at training inputs of each class
    bandwidth: Float[Array, ""]


def kernel_density(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    layer: str | None = None,
    centres: int = 300,
    bandwidth: float | None = None,
    false_positives: float = 0.05,
    keep: Keep = fresh,
) -> Defended:
    """Refuses inputs that lie where the last hidden layer has seen little of the class that is answered.

        score(x) = -log 1/M Σ_i exp(-|h(x) - h(x_i)|² / σ²)          over M training inputs of the class answered

    Args:
      model: stays the classifier.
      x: inputs; the threshold is set on the last fifth.
      labels: of the inputs.
      key: unused: nothing is drawn.
      layer: h, a name of `cwjax.coverage.neurons`; by default the last activation function.
      centres: M, at most; the first of each class. The paper takes all, and Carlini and Wagner's code a hundred.
      bandwidth: σ; by default the median distance of a centre to the next one of its class, which is ours. The paper
        has 1.2 for its MNIST network, and Carlini and Wagner's code σ² = 20.
      false_positives: share of the clean inputs to refuse.
      keep: unused: nothing is trained.

    Returns:
      The model and the detector.

    Raises:
      ValueError: a class with fewer than two training inputs.

    Example:
      >>> defended = cw.defences.kernel_density(model, x, labels, jax.random.key(0), centres=10)
      >>> grey = np.full((1, 4, 4, 1), 0.5, np.float32)  # between the classes
      >>> int(cw.defences.refused(defended, x[-8:]).sum()), cw.defences.refused(defended, grey).tolist()
      (0, [True])

    References:
      Feinman et al. 2017, "Detecting adversarial samples from artifacts", https://arxiv.org/abs/1703.00410
      Broken by Carlini & Wagner 2017, "Adversarial examples are not easily detected", https://arxiv.org/abs/1705.07263
    """
    del key, keep
    check_count("centres", centres, least=2)
    fit, known, held_out = lessons_of(model, x, labels)
    units, read = inside(model, fit, layer or -1)
    counts = np.bincount(known, minlength=check_logits(model, fit))
    count = int(min(centres, counts.min()))
    if count < 2:
        raise ValueError(f"a density needs two training inputs of each class, got {counts.tolist()}")
    chosen = np.stack([np.flatnonzero(known == label)[:count] for label in range(len(counts))])
    values = read(fit[chosen.ravel()]).reshape(len(counts), count, -1)
    if bandwidth is None:
        bandwidth = float(np.median(_nearest(values)))
        if not np.isfinite(bandwidth):
            raise ValueError(
                "the layer has the same values at most training inputs of a class, so that no bandwidth follows from "
                "them: choose another layer, or give a bandwidth"
            )
    check_number("bandwidth", bandwidth, least=0, above=True)
    density = Density(units, jnp.asarray(values), jnp.asarray(bandwidth, values.dtype))
    return calibrated(model, Model(apply=rarity, params=density), held_out, false_positives)


def rarity(density: Density, x: Float[Array, "B *S"]) -> Float[Array, "B"]:
    """Minus the logarithm of the density of each input's class."""
    logits, [values] = density.units.read(x, None)
    values = values.reshape(len(values), -1)
    products = jnp.einsum("bd,kmd->bkm", values, density.centres, precision="highest")
    squares = jnp.square(values).sum(1)[:, None, None] + jnp.square(density.centres).sum(2)[None] - 2 * products
    exponents = -jnp.maximum(squares, 0) / density.bandwidth**2
    each = jax.nn.logsumexp(exponents, axis=2) - jnp.log(jnp.asarray(exponents.shape[2], values.dtype))
    return -jnp.take_along_axis(each, logits.argmax(-1)[:, None], 1)[:, 0]


def _nearest(values: Float[np.ndarray, "K M D"]) -> Float[np.ndarray, "K M"]:
    """The distance of each centre to the next one of its class that is not in the same place."""
    apart = np.stack([np.linalg.norm(each[:, None] - each[None], axis=2) for each in values])
    return np.where(apart > 0, apart, np.inf).min(2)
