"""A mean filter before the classifier (Li and Li 2017)."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from cwjax.arguments import check_count, check_model
from cwjax.base import AnyArray
from cwjax.defences.defended import Defended, Keep, fresh
from cwjax.models import Model


def mean_filter(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    size: int = 3,
    keep: Keep = fresh,
) -> Defended:
    """The model on pictures of which each pixel is the mean of those around it.

    Args:
      model: takes pictures [H, W, C]; it is not trained.
      x: pictures; only their shape is used.
      labels: unused.
      key: unused.
      size: of the square, odd; what lies outside of the picture counts as 0. The paper's is 3.
      keep: unused.

    Returns:
      The model behind the filter; it refuses nothing.

    Raises:
      ValueError: inputs that are no pictures; a size that is even.

    Example:
      >>> defended = cw.defences.mean_filter(model, x, labels, jax.random.key(0))
      >>> float((defended.model.of_batch(x).argmax(1) == labels).mean())
      1.0

    References:
      Li & Li 2017, "Adversarial examples detection in deep networks with convolutional filter statistics",
        https://arxiv.org/abs/1612.07767
      Broken by Carlini & Wagner 2017, "Adversarial examples are not easily detected", https://arxiv.org/abs/1705.07263
    """
    del labels, key, keep
    check_model(model)
    check_pictures("mean_filter", x)
    check_count("size", size)
    if size % 2 == 0:
        raise ValueError(f"size must be odd, got {size}")
    return Defended(Model(apply=_Filtered(model.apply, int(size)), params=model.params))


def check_pictures(name: str, x: AnyArray) -> None:
    """Raises ValueError unless the inputs are pictures [N, H, W, C]."""
    if np.ndim(x) != 4:
        raise ValueError(f"{name} is for pictures [N, H, W, C], got inputs of shape {list(np.shape(x))}")


@dataclasses.dataclass(frozen=True)
class _Filtered:
    apply: Callable[..., Array]
    size: int

    def __call__(self, params: PyTree, x: Float[Array, "B H W C"]) -> Array:
        edge, (_, height, width, _) = self.size // 2, x.shape
        padded = jnp.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
        places = range(self.size)
        around = [padded[:, row : row + height, column : column + width] for row in places for column in places]
        return self.apply(params, sum(around[1:], around[0]) / self.size**2)
