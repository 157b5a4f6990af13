"""Detectors that learn from adversarial inputs: a network on the input (Gong et al. 2017), or on an inner layer of the
classifier (Metzen et al. 2017).
"""

from typing import NamedTuple

from jaxtyping import Array, Float, Int

from cwjax.base import AnyArray, Attack
from cwjax.coverage.convention import Neurons
from cwjax.defences.defended import Defended, Keep, calibrated, fresh
from cwjax.defences.inner_layers import activations, inside, values_of
from cwjax.defences.learnt_weights import lesson, told_apart
from cwjax.defences.networks import Weights, detector, suspicion
from cwjax.models import Model


class Inner(NamedTuple):
    """The weights of a detector on a layer."""

    units: Neurons  # the classifier, with that layer
    weights: Weights  # of the detector


def second_network(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    count: int = 300,
    updates: int = 400,
    attack: Attack | None = None,
    false_positives: float = 0.05,
    keep: Keep = fresh,
) -> Defended:
    """Refuses what a second network, which sees the input alone, takes for adversarial.

    Args:
      model: stays the classifier.
      x: inputs in [0, 1]; the threshold is set on the last fifth.
      labels: of the inputs.
      key: of the attack, the fresh weights and the batches.
      count: training inputs that are attacked.
      updates: steps of Adam, 64 clean and 64 adversarial inputs each.
      attack: that the network learns from, see `adversarial`.
      false_positives: share of the clean inputs to refuse.
      keep: see `Keep`.

    Returns:
      The model and the detector: two convolutions with strides and two dense layers.

    Example:
      >>> small = {"count": 10, "updates": 20, "attack": cw.attacks.ddn(steps=20)}
      >>> defended = cw.defences.second_network(model, x, labels, jax.random.key(0), **small)
      >>> int(cw.defences.refused(defended, x[-8:]).sum())
      0

    References:
      Gong et al. 2017, "Adversarial and clean data are not twins", https://arxiv.org/abs/1704.04960
      Broken by Carlini & Wagner 2017, "Adversarial examples are not easily detected", https://arxiv.org/abs/1705.07263
    """
    clean, _, wrong, held_out, begin, learn = lesson(model, x, labels, key, count=count, attack=attack, keep=keep)
    start = detector(begin, clean.shape[1:])
    weights = keep("detector", lambda: told_apart(suspicion, start, clean, wrong, learn, updates=updates))
    return calibrated(model, Model(apply=suspicion, params=weights), held_out, false_positives)


def inner_layer(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    layer: str | None = None,
    count: int = 300,
    updates: int = 400,
    attack: Attack | None = None,
    false_positives: float = 0.05,
    keep: Keep = fresh,
) -> Defended:
    """Refuses what a network on an inner layer of the classifier takes for adversarial.

    Args:
      model: stays the classifier.
      x: inputs in [0, 1]; the threshold is set on the last fifth.
      labels: of the inputs.
      key: of the attack, the fresh weights and the batches.
      layer: a name of `cwjax.coverage.neurons`; by default the activation function in the middle.
      count: training inputs that are attacked; the detector learns from four times as many clean ones.
      updates: steps of Adam, 64 clean and 64 adversarial inputs each.
      attack: that the detector learns from, see `adversarial`. Metzen et al. let it attack the detector too, while that
        learns; here it does not.
      false_positives: share of the clean inputs to refuse.
      keep: see `Keep`.

    Returns:
      The model and the detector.

    Example:
      >>> small = {"count": 10, "updates": 20, "attack": cw.attacks.ddn(steps=20)}
      >>> defended = cw.defences.inner_layer(model, x, labels, jax.random.key(0), layer="relu_0", **small)
      >>> int(cw.defences.refused(defended, x[-8:]).sum())
      0

    References:
      Metzen et al. 2017, "On detecting adversarial perturbations", https://arxiv.org/abs/1702.04267
      Broken by Carlini & Wagner 2017, "Adversarial examples are not easily detected", https://arxiv.org/abs/1705.07263
    """
    clean, _, wrong, held_out, begin, learn = lesson(model, x, labels, key, count=count, attack=attack, keep=keep)
    units, read = inside(model, clean, layer or len(activations(model, clean)) // 2)
    clean_values, wrong_values = read(clean[: 4 * count]), read(wrong)
    start = detector(begin, clean_values.shape[1:])
    weights = keep("detector", lambda: told_apart(suspicion, start, clean_values, wrong_values, learn, updates=updates))
    return calibrated(model, Model(apply=_on_layer, params=Inner(units, weights)), held_out, false_positives)


def _on_layer(inner: Inner, x: Float[Array, "B *S"]) -> Float[Array, "B"]:
    return suspicion(inner.weights, values_of(inner.units, x))
