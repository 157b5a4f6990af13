"""Feature squeezing (Xu et al. 2018): an input is refused where the answer changes when its bits or its noise go."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from cwjax.arguments import check_count
from cwjax.base import AnyArray
from cwjax.defences.defended import Defended, Keep, calibrated, fresh, lessons_of
from cwjax.defences.mean_filter import check_pictures
from cwjax.models import Model


def feature_squeezing(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    bits: int = 1,
    median: int = 2,
    straight_through: bool = True,
    false_positives: float = 0.05,
    keep: Keep = fresh,
) -> Defended:
    """Refuses pictures whose softmax answer is another one when they are squeezed.

    The score is the logarithm of the paper's joint detection: of the larger of the two L1 distances between the answer
    to the picture and the answers to it in fewer bits and to its local median. A logarithm refuses the same pictures.

    Args:
      model: stays the classifier, on pictures [H, W, C].
      x: pictures in [0, 1]; the threshold is set on the last fifth.
      labels: of the pictures; unused: nothing is trained.
      key: unused: nothing is drawn.
      bits: of each pixel that are left; the paper has 1 for MNIST, 5 for CIFAR-10.
      median: the side of the square whose median is taken; the paper has 2 for both.
      straight_through: on the backward pass rounding to bits is left out (Athalye et al. 2018, arXiv 1802.00420), so
        that the score has a slope. Scores are the same either way: False is the detector with the slopes that it has.
      false_positives: share of the clean pictures to refuse; the paper has at most 5 %.
      keep: unused: nothing is trained.

    Returns:
      The model and the detector.

    Raises:
      ValueError: inputs that are no pictures; numbers out of range.

    Example:
      >>> defended = cw.defences.feature_squeezing(model, x, labels, jax.random.key(0))
      >>> grey = np.full((1, 4, 4, 1), 0.4, np.float32)
      >>> grey[0, :2] = 0.6  # barely of class 0, and surely of it in one bit
      >>> cw.defences.refused(defended, grey).tolist()
      [True]

    References:
      Xu et al. 2018, "Feature squeezing: detecting adversarial examples in deep neural networks",
        https://arxiv.org/abs/1704.01155
      Attacked by He et al. 2017, "Adversarial example defenses: ensembles of weak defenses are not strong",
        https://arxiv.org/abs/1706.04701
    """
    del key, keep
    check_pictures("feature_squeezing", x)
    check_count("bits", bits, most=8)
    check_count("median", median, least=2)
    _, _, held_out = lessons_of(model, x, labels, bounded=True)
    squeezed = _Squeezed(model.apply, int(bits), int(median), straight_through)
    return calibrated(model, Model(apply=squeezed, params=model.params), held_out, false_positives)


def in_bits(x: Float[Array, "..."], bits: int, *, straight_through: bool = True) -> Float[Array, "..."]:
    """Values in [0, 1] rounded to a number of bits; see `feature_squeezing` for their slope."""
    levels = 2**bits - 1
    rounded = jnp.round(x * levels) / levels
    return _instead(x, rounded) if straight_through else rounded


def local_median(x: Float[Array, "B H W C"], size: int) -> Float[Array, "B H W C"]:
    """The median of the square around each pixel, or of an even number the upper one, as SciPy's `median_filter` has
    it: an even square begins half its size above and left, and the picture is mirrored beyond its edge.
    """
    before, after = size // 2, (size - 1) // 2
    padded = jnp.pad(x, ((0, 0), (before, after), (before, after), (0, 0)), mode="symmetric")
    height, width = x.shape[1:3]
    around = [padded[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return jnp.sort(jnp.stack(around), axis=0)[len(around) // 2]


@jax.custom_jvp
def _instead(x: Array, rounded: Array) -> Array:
    """`rounded`, with the slope of x."""
    del x
    return rounded


@_instead.defjvp
def _(primals, tangents):
    return primals[1], tangents[0]


@dataclasses.dataclass(frozen=True)
class _Squeezed:
    apply: Callable[..., Array]
    bits: int
    median: int
    straight_through: bool

    def __call__(self, params: PyTree, x: Float[Array, "B H W C"]) -> Float[Array, "B"]:
        squeezed = (in_bits(x, self.bits, straight_through=self.straight_through), local_median(x, self.median))
        answer, *others = (jax.nn.softmax(self.apply(params, each)) for each in (x, *squeezed))
        return jnp.log(jnp.stack([jnp.abs(answer - other).sum(1) for other in others]).max(0) + 1e-7)
