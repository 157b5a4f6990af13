"""The slopes of a model against an original that has no gradients: along straight lines, by its differences."""

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.adapters.checking import NotConvertible, Original
from cwjax.models import Model

# Half the length of a line, in widths of the box. The mean slope along a line is the difference of its ends however
# often the slope changes on it, so that ReLUs need no short lines, on which rounding would be most of a difference.
_HALF = 1e-2
_POINTS = (8, 128)  # on a line, at which slopes are asked for; the second where the first are too few
_LINES = 2  # through each input
_TOLERANCE = 0.1  # eight points on a line with kinks leave 1 % to 4 %; a rule without its gradient is off by more


def check_slopes(model: Model, original: Original, x: np.ndarray, *, width: float, name: str) -> None:
    """Compares the mean slopes of logits along random lines.

    Args:
      model: that was made of the original.
      original: x [B, *S] -> logits [B, K].
      x: inputs [B, *S] in the box.
      width: of the box.
      name: of the original, for an error.

    Raises:
      NotConvertible: slopes differ from the differences of the original by more than 10 %, as a share of their norm.
    """
    half = np.float32(_HALF * width)
    directions = np.random.default_rng(1).choice(np.asarray([-1, 1], np.float32), (_LINES, *x.shape))
    ends = [[np.asarray(original(x + sign * half * line), np.float64) for sign in (1, -1)] for line in directions]
    theirs = np.stack([(there - back) / (2 * float(half)) for there, back in ends])
    size = float(np.linalg.norm(theirs))
    rounding = float(np.finfo(np.float32).eps * np.abs(ends).max() / half) * np.sqrt(theirs.size)  # of the differences
    apart = np.inf
    for points in _POINTS:
        ours = np.stack([_mean_slope(model, x, line, half, points) for line in directions])
        apart = float(np.linalg.norm(ours - theirs))
        if apart <= _TOLERANCE * size + rounding:
            return
    raise NotConvertible(
        f"the slopes of the model made of {name} differ from the original's differences by {apart:.1e}, and those are "
        f"{size:.1e}: an operation is converted with another gradient, or the slope has no bound"
    )


def _mean_slope(model: Model, x: np.ndarray, direction: np.ndarray, half: np.float32, points: int) -> np.ndarray:
    """Over the line from `x - half * direction` to `x + half * direction`."""
    places = half * ((2 * np.arange(points) + 1) / points - 1).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        slopes = [_along(model, jnp.asarray(x + place * direction), jnp.asarray(direction)) for place in places]
    return np.mean(np.asarray(slopes, np.float64), 0)


@jax.jit
def _along(model: Model, x: jax.Array, direction: jax.Array) -> jax.Array:
    return jax.jvp(model.of_batch, (x,), (direction,))[1]
