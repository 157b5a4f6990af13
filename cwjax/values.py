"""Checks of what only values tell, where there are values: outside jit. What is traced passes."""

import warnings
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from cwjax.base import Goal, LabelGoal, Objective, Outputs
from cwjax.problems import Allowed


def known(*trees: Any) -> bool:
    """Whether the values of these arrays are known: none is traced."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def check_values(x: jax.Array | np.ndarray, allowed: Allowed) -> None:
    """Raises ValueError unless x [B, *S] and the start are finite, the bounds leave some element room, and x is inside
    them. Warns of examples that have no room.
    """
    check_finite("x", x)
    if allowed.start is not None:
        check_finite("start", allowed.start)
    low, high, mask = allowed.low, allowed.high, allowed.mask
    if known(low, high):
        least, most = np.asarray(low), np.asarray(high)
        if not (
            np.isfinite(least).all() and np.isfinite(most).all() and (least <= most).all() and (least < most).any()
        ):
            raise ValueError(f"bounds must be finite, with low <= high, and somewhere below it: got {span(low, high)}")
    if mask is not None and known(mask) and not np.any(mask):
        raise ValueError("mask is False everywhere: no element may change")
    check_room(x.shape, allowed)
    check_inside(x, low, high)


def check_finite(name: str, values: ArrayLike) -> None:
    """Raises ValueError where a value is NaN or infinite."""
    if not known(values):
        return
    bad = ~np.isfinite(np.asarray(values))
    if bad.any():
        place = np.argwhere(bad)[0].tolist()
        raise ValueError(
            f"{bad.sum()} of {bad.size} elements of {name} are NaN or infinite, first {name}{place}: leave such "
            "examples out"
        )


def check_room(shape: tuple[int, ...], allowed: Allowed) -> None:
    """Raises ValueError where bounds and mask together leave nothing that may change in any example [*S] of the batch.
    Where that is so of some, they are failures, as they are under `jit`, and a warning counts them.
    """
    low, high, mask = allowed.low, allowed.high, allowed.mask
    if not known(low, high, mask):
        return
    free = np.asarray(low) < np.asarray(high)
    free = np.broadcast_to(free if mask is None else free & np.asarray(mask), shape)
    stuck = np.flatnonzero(~free.reshape(len(free), -1).any(1))
    if stuck.size == len(free):
        raise ValueError(f"low, high and mask leave no element that may change in any of {len(free)} examples")
    if stuck.size:
        warnings.warn(
            f"low, high and mask leave {stuck.size} of {len(free)} examples no element that may change, first example "
            f"{stuck[0]}: they are failures, unless they meet the goal as they are",
            stacklevel=2,
        )


def check_goals(objective: Objective, outputs: Outputs, goal: Goal) -> None:
    """Raises ValueError where a goal names what the model does not say, such as a class that it does not have.

    Args:
      objective: that reads both.
      outputs: of one example, as shapes and dtypes.
      goal: of a batch.
    """
    if not known(goal):
        return
    if isinstance(goal, LabelGoal) and objective.logits is not None:
        classes, labels = jax.eval_shape(objective.logits, outputs).shape[-1], np.asarray(goal.label)
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"labels span {labels.min()}…{labels.max()}, but the model has classes 0…{classes - 1}")
    objective.check_goals(outputs, jax.tree.map(np.asarray, goal))


def check_inside(
    x: jax.Array | np.ndarray,
    low: ArrayLike,
    high: ArrayLike,
    advice: str = "clip x, or give the runner the bounds that x has (low=, high=)",
) -> None:
    """Raises ValueError where clean inputs leave their bounds by more than rounding: one unit in the last place of the
    larger bound, in the dtype of x. Traced values pass.

    Args:
      x: [B, *S], floating-point.
      low: broadcasts to x.
      high: likewise.
      advice: what to do, unless x is of 8-bit images.
    """
    if not known(x, low, high):
        return
    x, given = np.asarray(x), (low, high)
    low, high = (np.broadcast_to(np.asarray(bound, np.float64), x.shape) for bound in given)
    rows = np.flatnonzero(~((x >= low) & (x <= high)).reshape(len(x), -1).all(1))
    low, high, values = low[rows], high[rows], x[rows].astype(np.float64)
    largest = np.maximum(np.abs(low), np.abs(high))
    ulp = np.ldexp(float(jnp.finfo(x.dtype).eps), np.frexp(largest)[1] - 1)
    excess = np.maximum(low - values, values - high)
    out = excess > ulp
    if not out.any():
        return
    place = np.unravel_index(np.argmax(np.where(out, excess, 0)), out.shape)
    index = [int(rows[place[0]]), *map(int, place[1:])]
    if values.max() > 2 and high.max(initial=0) <= 2:
        advice = "8-bit images must be divided by 255"
    raise ValueError(
        f"{out.sum()} of {x.size} elements of x, in {out.reshape(len(out), -1).any(1).sum()} of {len(x)} examples, are "
        f"outside the box {span(*given)}, by up to {excess[place]:.3g} where x{index} is "
        f"{x[tuple(index)]!s}: {advice}"
    )


def span(low: ArrayLike, high: ArrayLike) -> str:
    """For an error: from where to where."""
    return f"[{_bound(low)}, {_bound(high)}]"


def _bound(bound: ArrayLike) -> str:
    """For an error: the number, or the span of several."""
    least, most = np.min(bound), np.max(bound)
    return str(bound) if not np.ndim(bound) else f"{least:g}" if least == most else f"{least:g}…{most:g}"
