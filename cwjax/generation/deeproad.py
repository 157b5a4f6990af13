"""DeepRoad: images taken to another weather, and whether a network says the same of both; and which images are too far
from what it was trained on to be judged.

The translation itself is a trained network (`experiments/translators.py` has a small one), or the baseline that it has
to beat: the colours of one set of images moved to those of another.

    moved    = deeproad.colours_between(sunny, foggy)
    relation = metamorphic.outputs_kept(model.of_batch(x), 0.1)             # |θ(x) - θ(T(x))| <= ε
    wrong    = metamorphic.violated(relation, model.of_batch(moved(x)))     # [B]
    valid    = deeproad.validator(features(train), features(held_out))
    kept     = valid.accepts(features(moved(x)))                            # [B]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, ArrayLike, Bool, Float

from cwjax.arguments import check_count, check_number
from cwjax.base import AnyArray
from cwjax.generation.transforms import fogged, rained

LEAST = 1e-6  # of a variance, so that a channel that never varies can be moved


FOG, NIGHT, RAIN = 0.5, 0.4, (0.6, 2.0)  # density, light, opacity and lean: ours, strong enough to be seen


def _each(transform: Callable[..., Array], *settings: float) -> Callable[[Any], Array]:
    """A transform of one image on each of several."""
    return lambda x: jax.vmap(lambda image: transform(image, jnp.array(settings)))(jnp.asarray(x))


WEATHERS: dict[str, Callable[[Any], Array]] = {
    "fog": _each(fogged, FOG),
    "night": lambda x: NIGHT * jnp.asarray(x),
    "inverted": lambda x: 1 - jnp.asarray(x),
    "rain": _each(rained, *RAIN),
}
"""Known operators from images [B, H, W, C] in [0, 1] to another domain: what a translation should come to."""


class Colours(NamedTuple):
    """An affine map of colours; make it with `colours_between`.

    Example:
      >>> from cwjax.generation import deeproad
      >>> darker = deeproad.Colours(np.full((1, 1), 0.5), np.zeros(1), np.zeros(1))
      >>> round(darker(np.full((1, 1, 1, 1), 0.8, np.float32)).item(), 3)
      0.4
    """

    matrix: Float[np.ndarray, "C C"]
    source: Float[np.ndarray, "C"]  # the mean colour of the images that it is for
    target: Float[np.ndarray, "C"]

    def __call__(self, x: Float[AnyArray, "*B H W C"]) -> Float[Array, "*B H W C"]:
        """Images in [0, 1] with their colours moved, within [0, 1]."""
        centred = x - jnp.reshape(self.source, (1,) * (x.ndim - 1) + (-1,))
        moved = jnp.einsum("...c,dc->...d", centred, self.matrix, precision="highest")
        return jnp.clip(moved + jnp.reshape(self.target, (1,) * (x.ndim - 1) + (-1,)), 0, 1)


def colours_between(source: Float[AnyArray, "M H W C"], target: Float[AnyArray, "N H W C"]) -> Colours:
    """The linear map of colours from one set of images to another: the optimal transport of two Gaussians.

    It takes the mean and covariance of one set's pixels to those of the other's, and moves colours least. The sets need
    no pairs.

    It can make fog and darkness, which are affine, and nothing that depends on a place: the baseline for a trained
    translator. It cannot turn light into dark either: the map never reverses an order.

    Args:
      source: images in [0, 1].
      target: images of the other domain, with as many channels.

    Raises:
      ValueError: sets without images, or of other channels.

    Example:
      >>> import numpy as np
      >>> from cwjax.generation import deeproad
      >>> x = np.random.default_rng(0).uniform(size=(20, 4, 4, 3)).astype(np.float32)
      >>> foggy = 0.5 * x + 0.5
      >>> bool(np.allclose(deeproad.colours_between(x, foggy)(x), foggy, atol=1e-3))
      True

    References:
      Pitié and Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping".
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.ndim != 4 or target.ndim != 4 or source.shape[-1] != target.shape[-1] or not len(source) * len(target):
        raise ValueError(
            f"colours are moved between images [M, H, W, C] and [N, H, W, C], got {list(source.shape)} and "
            f"{list(target.shape)}"
        )
    (first, before), (second, after) = _moments(source), _moments(target)
    root = _root(before)
    inverse = np.linalg.inv(root)
    matrix = inverse @ _root(root @ after @ root) @ inverse
    return Colours(matrix.astype(np.float32), first.astype(np.float32), second.astype(np.float32))


class Validator(NamedTuple):
    """What the inputs of a network look like from its features; make it with `validator`.

    Example:
      >>> from cwjax.generation import deeproad
      >>> features = np.array([[-1.0], [1.0], [-1.0], [1.0]])
      >>> known = deeproad.validator(features, features)
      >>> known.accepts(np.array([[0.5], [9.0]])).tolist()
      [True, False]
    """

    mean: Float[np.ndarray, "F"]
    whitening: Float[np.ndarray, "F D"]
    threshold: float  # an input farther away is not accepted

    def distance(self, features: Float[AnyArray, "B F"]) -> Float[Array, "B"]:
        """How far features lie from the mean of those of the training inputs, in standard deviations along their
        principal axes, [B] >= 0.
        """
        white = jnp.einsum("bf,fd->bd", features - jnp.asarray(self.mean)[None], self.whitening, precision="highest")
        return jnp.linalg.norm(white, axis=1)

    def accepts(self, features: Float[AnyArray, "B F"]) -> Bool[Array, "B"]:
        """Which inputs are near enough to be judged, [B]."""
        return self.distance(features) <= self.threshold


def validator(
    features: Float[AnyArray, "M F"],
    held_out: Float[AnyArray, "N F"],
    *,
    dimensions: int = 50,
    rejected: float | int = 0.05,
) -> Validator:
    """DeepRoad's input validation: features reduced by PCA, and a threshold on their distance.

    DeepRoad takes features of VGG; here they are any, such as the last hidden layer of the tested network itself
    (`cw.coverage.neurons`).

    Args:
      features: of training inputs; they give the mean and the axes.
      held_out: of inputs of the same kind that are in no training; they give the threshold.
      dimensions: principal axes that are kept, at most; those without variance are left out.
      rejected: the share of held-out inputs that is rejected, in [0, 1).

    Raises:
      ValueError: fewer than two inputs, features that never vary or are not finite, numbers out of range.

    Example:
      >>> from cwjax.generation import deeproad
      >>> features = np.random.default_rng(0).normal(size=(200, 3))
      >>> known = deeproad.validator(features[:100], features[100:], rejected=0.1)
      >>> round(float(known.accepts(features[100:]).mean()), 1)
      0.9

    References:
      Zhang et al. 2018, "DeepRoad: GAN-based metamorphic autonomous driving system testing", section III.C,
        https://arxiv.org/abs/1802.02295
    """
    check_count("dimensions", dimensions)
    check_number("rejected", rejected, least=0)
    if rejected >= 1:
        raise ValueError(f"rejected is a share below 1, got {rejected}")
    given, others = (np.asarray(each, np.float64) for each in (features, held_out))
    if given.ndim != 2 or len(given) < 2 or others.ndim != 2 or not len(others) or given.shape[1] != others.shape[1]:
        raise ValueError(
            f"features are [M, F] of at least two inputs and held_out [N, F], got {list(given.shape)} and "
            f"{list(others.shape)}"
        )
    if not (np.isfinite(given).all() and np.isfinite(others).all()):
        raise ValueError("the features have NaN or infinite values")
    mean = given.mean(0)
    _, spread, axes = np.linalg.svd((given - mean) / np.sqrt(len(given) - 1), full_matrices=False)
    varying = spread > 1e-6 * spread[0] if spread[0] > 0 else np.zeros(len(spread), bool)
    kept = np.flatnonzero(varying)[:dimensions]
    if not kept.size:
        raise ValueError("the features never vary: there is no axis to measure a distance along")
    whitening = (axes[kept] / spread[kept, None]).T.astype(np.float32)
    unfinished = Validator(mean.astype(np.float32), whitening, np.inf)
    far = np.asarray(unfinished.distance(others.astype(np.float32)))
    return unfinished._replace(threshold=float(np.quantile(far, 1 - rejected, method="higher")))


def separation(inside: ArrayLike, outside: ArrayLike) -> float:
    """AUROC: how often an input from outside is farther than one from inside; ties count half. 0.5 is chance.

    Args:
      inside: distances [M] of inputs that belong.
      outside: distances [N] of inputs that do not.

    Raises:
      ValueError: no distances on one side.

    Example:
      >>> from cwjax.generation import deeproad
      >>> deeproad.separation([1.0, 2.0], [3.0, 4.0])
      1.0
    """
    inside, outside = np.ravel(np.asarray(inside)), np.ravel(np.asarray(outside))
    if not inside.size or not outside.size:
        raise ValueError(f"separation compares two sets, got {inside.size} distances inside and {outside.size} outside")
    wins = scipy.stats.mannwhitneyu(outside, inside).statistic
    return float(wins / (inside.size * outside.size))


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and covariance of the pixels' colours."""
    pixels = images.reshape(-1, images.shape[-1])
    centred = pixels - pixels.mean(0)
    return pixels.mean(0), centred.T @ centred / len(pixels) + LEAST * np.eye(pixels.shape[-1])


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
