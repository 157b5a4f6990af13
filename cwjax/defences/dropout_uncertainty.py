"""Dropout at use (Feinman et al. 2017): the answers of thinned networks differ more on adversarial inputs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cwjax.arguments import check_count, check_number
from cwjax.base import AnyArray
from cwjax.coverage.neurons import rewired
from cwjax.defences.defended import Defended, Keep, calibrated, fresh, lessons_of
from cwjax.defences.inner_layers import activations
from cwjax.models import Model


class Thinned(NamedTuple):
    """The weights of the detector."""

    network: Model  # with a layer that is multiplied by a mask; its own mask keeps all
    masks: Float[Array, "T ..."]  # 0 or 1/(1 - rate) for each neuron of the layer


def dropout_uncertainty(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    layer: str | None = None,
    rate: float = 0.5,
    draws: int = 50,
    false_positives: float = 0.05,
    keep: Keep = fresh,
) -> Defended:
    """Refuses inputs on which networks with other neurons left out do not agree.

    The score is the logarithm of the uncertainty, which is `1/T Σ |p_t|² - |1/T Σ p_t|²` for the softmax answers p_t of
    T thinned networks. The masks are drawn once, so that the score is a function of the input; `with_fresh_masks` draws
    others, as a detector that draws anew for every input does.

    Args:
      model: stays the classifier; best one that was trained with dropout in that layer.
      x: inputs; the threshold is set on the last fifth.
      labels: of the inputs; unused: nothing is trained.
      key: of the masks.
      layer: whose neurons are left out, a name of `cwjax.coverage.neurons`; by default the first activation function
        that is no picture, where the paper's network (`cwjax train`) has its dropout.
      rate: share of the neurons left out.
      draws: T; Feinman et al. draw 50 on MNIST, and Carlini and Wagner's code 100.
      false_positives: share of the clean inputs to refuse.
      keep: unused: nothing is trained.

    Returns:
      The model and the detector.

    Raises:
      ValueError: a rate that is not in (0, 1); no such layer.

    Example:
      >>> defended = cw.defences.dropout_uncertainty(model, x, labels, jax.random.key(0), layer="relu_0", draws=10)
      >>> int(cw.defences.refused(defended, x[-8:]).sum())
      0

    References:
      Feinman et al. 2017, "Detecting adversarial samples from artifacts", https://arxiv.org/abs/1703.00410
      Broken by Carlini & Wagner 2017, "Adversarial examples are not easily detected", https://arxiv.org/abs/1705.07263
    """
    del keep
    check_number("rate", rate, least=0, above=True, most=0.99)
    check_count("draws", draws, least=2)
    fit, _, held_out = lessons_of(model, x, labels)
    layers = [one for one in activations(model, fit) if layer == one.name or (layer is None and len(one.shape) == 1)]
    if not layers:
        raise ValueError(f"the model has no activation function {layer or 'on a flat layer'!r} to leave neurons out of")
    shape = layers[0].shape
    network = rewired(model, fit, _thinned, jnp.ones(shape), layers=layers[0].name)
    thinned = Thinned(network, _masks(key, int(draws), shape, rate))
    return calibrated(model, Model(apply=disagreement, params=thinned), held_out, false_positives)


def disagreement(thinned: Thinned, x: Float[Array, "B *S"]) -> Float[Array, "B"]:
    """The logarithm of the uncertainty, from -30 where all networks agree."""
    network, (inner, _) = thinned.network, thinned.network.params
    shares = jax.nn.softmax(jax.vmap(lambda mask: network.apply((inner, mask), x))(thinned.masks))
    apart = shares - shares.mean(0, keepdims=True)  # as written in the paper, but nothing cancels
    return jnp.log(jnp.square(apart).sum(2).mean(0) + 1e-13)


def with_fresh_masks(defended: Defended, key: Array) -> Defended:
    """The same detector with other masks and the same threshold: it is this one that an attack has to deceive.

    Args:
      defended: from `dropout_uncertainty`.
      key: of the masks.

    Example:
      >>> defended = cw.defences.dropout_uncertainty(model, x, labels, jax.random.key(0), layer="relu_0", draws=10)
      >>> again = cw.defences.with_fresh_masks(defended, jax.random.key(1))
      >>> bool(again.threshold == defended.threshold)
      True

    References:
      Feinman et al. 2017, "Detecting adversarial samples from artifacts", https://arxiv.org/abs/1703.00410
    """
    if defended.detector is None or not isinstance(defended.detector.params, Thinned):
        raise ValueError("with_fresh_masks takes what dropout_uncertainty returned")
    thinned = defended.detector.params
    masks = thinned.masks
    rate = 1 - 1 / masks.max()
    fresh_masks = _masks(key, len(masks), masks.shape[1:], rate)
    detector = Model(apply=defended.detector.apply, params=thinned._replace(masks=fresh_masks))
    return defended._replace(detector=detector)


def _thinned(mask: Float[Array, "..."], values: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    return values * mask[None].astype(values.dtype)


def _masks(key: Array, draws: int, shape: tuple[int, ...], rate: float | Array) -> Float[Array, "T ..."]:
    return jax.random.bernoulli(key, 1 - rate, (draws, *shape)).astype(jnp.float32) / (1 - rate)
