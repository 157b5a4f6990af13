"""MagNet (Meng and Chen 2017): an autoencoder before the classifier, and detectors of what it cannot rebuild."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from cwjax.arguments import check_count, check_number
from cwjax.base import AnyArray
from cwjax.defences.defended import Defended, Keep, answers, calibrated, check_share, fresh, lessons_of
from cwjax.defences.learnt_weights import fitted
from cwjax.defences.mean_filter import check_pictures
from cwjax.defences.networks import Weights, averaged, convolved, doubled, logistic_layer
from cwjax.models import Model

_HALVED, _FULL = "halved", "full"  # the paper's autoencoders I and II for MNIST: with an average pool, and without


class Nets(NamedTuple):
    """The weights of both the classifier and the detector."""

    inner: PyTree  # the classifier's
    halved: list[Weights]  # the autoencoder that reforms, and the first detector's
    full: list[Weights]  # the second detector's
    usual: Float[Array, "D"]  # the detectors' scores that the quantile of clean inputs has


def magnet(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    channels: int = 3,
    noise: float = 0.1,
    temperatures: Sequence[float] = (),
    updates: int = 2000,
    false_positives: float = 0.05,
    keep: Keep = fresh,
) -> Defended:
    """The model on pictures that an autoencoder rebuilt; what the autoencoders cannot rebuild is refused.

    The detectors are the paper's: the mean square of what the first autoencoder changes, the mean size of what the
    second changes, and, for each temperature, the Jensen-Shannon divergence of the classifier's softmax at it, before
    and after the first. The score is the largest of their logarithms, each less its own quantile of clean pictures.

    Args:
      model: takes pictures [H, W, C] with even height and width; it is not trained.
      x: pictures in [0, 1]; the threshold is set on the last fifth.
      labels: of the pictures; unused: autoencoders learn without.
      key: of the weights, the noise and the batches.
      channels: of the autoencoders' convolutions; the paper has 3.
      noise: the standard deviation of what is added while they learn; the paper has 0.1.
      temperatures: of the divergence detectors; the paper has none for MNIST, and 10 and 40 for CIFAR-10.
      updates: steps of Adam at the rate 0.003 for each autoencoder, 64 pictures each. The paper learns for 100 epochs.
        At a rate of 0.01 or more some autoencoders came to answer one grey for every digit; at this one none of 8 did.
      false_positives: share of the clean pictures to refuse, all detectors together; the paper has 0.001 each on MNIST.
      keep: see `Keep`.

    Returns:
      The model behind the first autoencoder, and the detector.

    Raises:
      ValueError: inputs that are no pictures, or whose height or width is odd.

    Example:
      >>> defended = cw.defences.magnet(model, x, labels, jax.random.key(0), updates=50)
      >>> int(cw.defences.refused(defended, x[-8:]).sum())
      0

    References:
      Meng & Chen 2017, "MagNet: a two-pronged defense against adversarial examples", https://arxiv.org/abs/1705.09064,
        and its code, Trevillie/MagNet
      Broken by Carlini & Wagner 2017, "MagNet and 'Efficient defenses against adversarial attacks' are not robust to
        adversarial examples", https://arxiv.org/abs/1711.08478
    """
    check_pictures("magnet", x)
    check_count("channels", channels)
    check_number("noise", noise, least=0)
    if np.ndim(temperatures) != 1:
        raise TypeError(f"temperatures must be several numbers, such as (10, 40), got {temperatures!r}")
    for each in temperatures:
        check_number("each temperature", each, least=0, above=True)
    check_share(false_positives)
    fit, _, held_out = lessons_of(model, x, labels, bounded=True)
    if fit.shape[1] % 2 or fit.shape[2] % 2:
        raise ValueError(f"magnet takes pictures of even height and width, got {list(fit.shape[1:])}")

    def trained(kind: str, key: Array) -> Any:
        begin, learn = jax.random.split(key)
        shapes = _shapes(kind, fit, int(channels))
        start = [logistic_layer(*each) for each in zip(jax.random.split(begin, len(shapes)), shapes, strict=True)]

        def loss(weights, key, x):
            noisy = jnp.clip(x + noise * jax.random.normal(key, x.shape, x.dtype), 0, 1)
            return jnp.square(rebuilt(weights, noisy) - x).mean()

        return keep(kind, lambda: fitted(loss, start, (fit,), learn, updates=updates, batch=64, rate=3e-3))

    one, other = jax.random.split(key)
    nets = Nets(model.params, trained(_HALVED, one), trained(_FULL, other), jnp.zeros(2 + len(temperatures)))
    parts = _Parts(model.apply, tuple(temperatures))
    each = answers(Model(apply=parts, params=nets), held_out)
    nets = nets._replace(usual=jnp.asarray(np.quantile(each, 1 - false_positives, axis=0), jnp.float32))
    reformed = Model(apply=_Reformed(model.apply), params=(model.params, nets.halved))
    return calibrated(reformed, Model(apply=_Largest(parts), params=nets), held_out, false_positives)


def rebuilt(weights: Sequence[Weights], x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """The pictures as an autoencoder has them: with five convolutions they are halved between, with three not."""
    *hidden, last = weights
    for place, each in enumerate(hidden):
        if len(hidden) == 4:
            x = averaged(x) if place == 1 else doubled(x) if place == 3 else x
        x = jax.nn.sigmoid(convolved(each, x))
    return jax.nn.sigmoid(convolved(last, x))


def _shapes(kind: str, x: np.ndarray, channels: int) -> list[tuple[int, ...]]:
    count = 4 if kind == _HALVED else 2
    plan = [x.shape[-1], *[channels] * count, x.shape[-1]]
    return [(3, 3, before, after) for before, after in itertools.pairwise(plan)]


@dataclasses.dataclass(frozen=True)
class _Reformed:
    apply: Callable[..., Array]

    def __call__(self, params: tuple[PyTree, list[Weights]], x: Array) -> Array:
        inner, weights = params
        return self.apply(inner, rebuilt(weights, x))


@dataclasses.dataclass(frozen=True)
class _Parts:
    """The logarithms of the detectors' scores, [B, D]."""

    apply: Callable[..., Array]
    temperatures: tuple[float, ...]

    def __call__(self, nets: Nets, x: Float[Array, "B H W C"]) -> Float[Array, "B D"]:
        reformed = rebuilt(nets.halved, x)
        scores = [
            jnp.square(x - reformed).mean((1, 2, 3)),
            jnp.abs(x - rebuilt(nets.full, x)).mean((1, 2, 3)),
        ]
        if self.temperatures:
            logits, after = (self.apply(nets.inner, each) for each in (x, reformed))
            scores += [_divergence(logits / each, after / each) for each in self.temperatures]
        return jnp.log(jnp.stack(scores, 1) + 1e-12)


@dataclasses.dataclass(frozen=True)
class _Largest:
    parts: _Parts

    def __call__(self, nets: Nets, x: Float[Array, "B H W C"]) -> Float[Array, "B"]:
        return (self.parts(nets, x) - nets.usual[None]).max(1)


def _divergence(first: Float[Array, "B K"], second: Float[Array, "B K"]) -> Float[Array, "B"]:
    """The Jensen-Shannon divergence of two softmax answers, from their logits."""
    one, other = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
    middle = jnp.logaddexp(one, other) - jnp.log(jnp.asarray(2, one.dtype))
    return 0.5 * (jnp.exp(one) * (one - middle) + jnp.exp(other) * (other - middle)).sum(1)
