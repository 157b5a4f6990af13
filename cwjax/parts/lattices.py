"""Which values an input may have at all: features that are there or not, counts, or any levels; and what follows from
what.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from cwjax.arguments import broadcasts
from cwjax.base import wide
from cwjax.values import known

_NEAR = 1e-6  # of the span of an element's levels: what rounding makes of a value that is meant to lie on a level
_ULPS = 4 * float(np.finfo(np.float32).eps)  # likewise, of the value itself


Levels: TypeAlias = np.ndarray | Sequence[float | int]


class Lattice(NamedTuple):
    """The values that elements may have. `lattice` makes one.

    Example:
      >>> grid = cw.lattices.lattice([0.0, 0.5, 1.0])
      >>> print(grid.below(x[0]), grid.above(x[0]), grid.holds(jnp.array([0.5, 0.6])))
      [0.5 0.  0. ] [1.  0.5 0.5] [ True False]
    """

    levels: Float[np.ndarray, "L ..."]  # ascending; filled up with the last of an element. Or [L, 1], for all elements
    steps: Float[np.ndarray, "..."]  # where above 0, the multiples of this step are the levels instead. Or []
    implies: Bool[np.ndarray, "N N"] | None = None  # [i, j]: where element i is above 0, j is too; closed, or None

    def below(self, x: Float[Array, "*S"]) -> Float[Array, "*S"]:
        """The largest level that is at most x, of each element; the first one where there is none."""
        levels, steps, near = self._of(x)
        reached = jnp.where(levels <= (x + near)[None], levels, jnp.min(levels, 0, keepdims=True))
        return jnp.where(steps > 0, _counted(x, steps, jnp.floor), jnp.max(reached, 0))

    def above(self, x: Float[Array, "*S"]) -> Float[Array, "*S"]:
        """The smallest level that is at least x, of each element; the last one where there is none."""
        levels, steps, near = self._of(x)
        reached = jnp.where(levels >= (x - near)[None], levels, jnp.max(levels, 0, keepdims=True))
        return jnp.where(steps > 0, _counted(x, steps, jnp.ceil), jnp.min(reached, 0))

    def next(self, x: Float[Array, "*S"], up: Bool[Array, "*S"]) -> Float[Array, "*S"]:
        """From levels x, the next one upwards or downwards; x itself at an end."""
        levels, steps, near = self._of(x)
        higher = jnp.min(jnp.where(levels > (x + near)[None], levels, jnp.inf), 0)
        lower = jnp.max(jnp.where(levels < (x - near)[None], levels, -jnp.inf), 0)
        moved = jnp.where(up, higher, lower)
        counted = _counted(x, steps, jnp.round) + jnp.where(up, 1, -1) * steps
        return jnp.where(steps > 0, counted, jnp.where(jnp.isfinite(moved), moved, x))

    def holds(self, x: Float[Array, "*S"]) -> Bool[Array, "*S"]:
        """Which elements are on a level; NaN is on none."""
        _, steps, near = self._of(x)
        near = jnp.where(steps > 0, _NEAR * steps + _ULPS * jnp.abs(x), near)
        return (jnp.abs(self.below(x) - x) <= near) | (jnp.abs(self.above(x) - x) <= near)

    def _of(self, x):
        """The levels [L, *S], the steps, and how near to a level a value is on it."""
        levels, steps = jnp.asarray(self.levels, wide(x)), jnp.asarray(self.steps, wide(x))
        levels = levels.reshape(len(levels), *(1,) * (x.ndim + 1 - levels.ndim), *levels.shape[1:])
        levels, steps = jnp.broadcast_to(levels, (len(levels), *x.shape)), jnp.broadcast_to(steps, x.shape)
        return levels, steps, _NEAR * (jnp.max(levels, 0) - jnp.min(levels, 0)) + _ULPS * jnp.abs(x)


def _counted(x, steps, rounded):
    """The multiple of the step that x is, up to rounding, or else the one that `rounded` says."""
    count = x / jnp.where(steps > 0, steps, 1)
    nearest = jnp.round(count)
    same = jnp.abs(count - nearest) <= jnp.maximum(_NEAR, _ULPS * jnp.abs(count))
    return jnp.where(same, nearest, rounded(count)) * steps


def lattice(
    levels: Levels | Sequence[Levels] = (0.0, 1.0),
    *,
    steps: float | int | Levels = 0.0,
    implies: Sequence[tuple[int, int]] | np.ndarray = (),
    shape: tuple[int, ...] | None = None,
) -> Lattice:
    """The values that elements may have, and which follow from others.

    Args:
      levels: ascending numbers, for all elements alike; or a sequence of them for each element of a vector [F].
      steps: a number, or one for each element: where it is above 0, an element may be any multiple of it, and `levels`
        does not count. 1 for whole counts.
      implies: pairs (i, j) of places in the flattened input: where element i is above 0, j has to be too. What follows
        from what follows is included.
      shape: of one input [*S]. It is needed with `implies`.

    Returns:
      The lattice, for `cwjax.runners.snapped`.

    Raises:
      ValueError: levels that do not ascend, or are not finite; steps below 0; pairs that name no two elements.

    Example:
      >>> import jax.numpy as jnp, cwjax as cw
      >>> features = cw.lattices.lattice([[0, 1], [0, 2, 5]])
      >>> features.below(jnp.array([0.7, 4.9])).tolist(), features.above(jnp.array([0.7, 4.9])).tolist()
      ([0.0, 2.0], [1.0, 5.0])
    """
    alike = np.ndim(levels[0]) == 0 if len(levels) else True
    rows = [_ascending(levels, "")] if alike else [_ascending(row, f"of element {i}") for i, row in enumerate(levels)]
    most = max(map(len, rows))
    table = np.stack([np.concatenate([row, np.full(most - len(row), row[-1])]) for row in rows], 1)
    spacing = np.asarray(steps, np.float64)
    if not (np.isfinite(spacing).all() and (spacing >= 0).all()):
        raise ValueError(f"steps between levels must be finite and at least 0, got {_first_bad(spacing)}")
    found = Lattice(table, spacing, _closed(np.asarray(implies), shape) if len(implies) else None)
    if shape is not None:
        check_fits(found, shape)
    return found


def check_fits(found: Lattice, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the lattice is one for inputs [*S] of that shape.

    Args:
      found: the lattice.
      shape: of one input.

    Example:
      >>> cw.lattices.check_fits(cw.lattices.lattice(), (28, 28, 1)) is None  # levels for all elements fit any shape
      True
    """
    for name, given in (("levels", found.levels.shape[1:]), ("steps", found.steps.shape)):
        if not broadcasts(given, shape):
            raise ValueError(
                f"a lattice with {name} for {given[0] if given else 1} elements does not fit one input {list(shape)}"
            )
    if found.implies is not None and len(found.implies) != int(np.prod(shape)):
        raise ValueError(f"a lattice that relates {len(found.implies)} elements does not fit one input {list(shape)}")


def check_on(found: Lattice, x: ArrayLike, mask: ArrayLike | None = None) -> None:
    """Raises ValueError where inputs x [B, *S] are on no level.

    Elements that a mask lets not move may be anywhere. Traced values pass.

    Args:
      found: the lattice.
      x: inputs.
      mask: boolean, which elements may move; None: all.

    Example:
      >>> cw.lattices.check_on(cw.lattices.lattice(steps=0.1), x) is None  # x has tenths alone
      True
    """
    if not known(x, mask):
        return
    values = jnp.asarray(x)
    check_fits(found, values.shape[1:])
    off = np.asarray(~jax.vmap(found.holds)(values)) & (True if mask is None else np.asarray(mask, bool))
    if off.any():
        place = tuple(map(int, np.argwhere(off)[0]))
        below, above = (float(side(values[place[0]])[place[1:]]) for side in (found.below, found.above))
        raise ValueError(
            f"{off.sum()} of {off.size} elements of x are on none of their levels, first x{list(place)}, which is "
            f"{float(values[place]):g} and not {below:g} or {above:g}"
        )


def _ascending(row: Any, whose: str) -> np.ndarray:
    values = np.asarray(row, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"levels {whose} must be at least one finite number in a row, got {row}".replace("  ", " "))
    if (np.diff(values) <= 0).any():
        place = int(np.argmax(np.diff(values) <= 0))
        came = f"{values[place]:g} before {values[place + 1]:g}"
        raise ValueError(f"levels {whose} must ascend, got {came}: sort them".replace("  ", " "))
    return values


def _first_bad(values: np.ndarray) -> float:
    return values[~(np.isfinite(values) & (values >= 0))].ravel()[0]


def _closed(pairs: np.ndarray, shape: tuple[int, ...] | None) -> Bool[np.ndarray, "N N"]:
    """Which elements follow from which, also by way of others."""
    if shape is None:
        raise ValueError("pairs of elements need the shape of one input: lattice(…, implies=…, shape=x.shape[1:])")
    count = int(np.prod(shape))
    wrong = pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer)
    if wrong or pairs.min() < 0 or pairs.max() >= count or (pairs[:, 0] == pairs[:, 1]).any():
        raise ValueError(f"implies must be pairs of two different places from 0 to {count - 1}, got {pairs.tolist()}")
    reached = np.zeros((count, count), bool)
    reached[pairs[:, 0], pairs[:, 1]] = True
    for middle in range(count):
        reached |= reached[:, middle, None] & reached[middle]
    np.fill_diagonal(reached, False)
    return reached
