"""The slopes of a model against an original that has no gradients: along straight lines, by its differences."""

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.adapters.checking import NotConvertible, Original
from cwjax.models import Model

# Half the length of a line, in widths of the box. The mean slope along a line is the difference of its ends however
# often the slope changes on it, so that ReLUs need no short lines, on which rounding would be most of a difference.
_HALF = 1e-2
_POINTS = 8  # on a line, at which the slope is asked for
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
    rng = np.random.default_rng(1)
    half = np.float32(_HALF * width)
    apart, size, largest, numbers = 0.0, 0.0, 0.0, 0
    for _ in range(_LINES):
        direction = rng.choice([-1.0, 1.0], x.shape).astype(np.float32)
        there, back = (np.asarray(original(x + sign * half * direction), np.float64) for sign in (1, -1))
        theirs = (there - back) / (2 * float(half))
        places = half * ((2 * np.arange(_POINTS) + 1) / _POINTS - 1).astype(np.float32)
        with jax.default_matmul_precision("highest"):
            several = [_along(model, jnp.asarray(x + place * direction), jnp.asarray(direction)) for place in places]
        largest, numbers = max(largest, float(np.abs(there).max())), numbers + there.size
        ours = np.mean(np.asarray(several, np.float64), 0)
        apart, size = apart + float(np.square(ours - theirs).sum()), size + float(np.square(theirs).sum())
    rounding = float(np.finfo(np.float32).eps * largest / half * np.sqrt(numbers))  # of the differences
    if not np.sqrt(apart) <= _TOLERANCE * np.sqrt(size) + rounding:
        raise NotConvertible(
            f"the slopes of the model made of {name} differ from the original's differences by {np.sqrt(apart):.1e}, "
            f"and those are {np.sqrt(size):.1e}: an operation is converted with another gradient"
        )


@jax.jit
def _along(model: Model, x: jax.Array, direction: jax.Array) -> jax.Array:
    return jax.jvp(model.of_batch, (x,), (direction,))[1]
