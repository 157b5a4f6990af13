"""What several objectives share: at least a number of several margins has to be reached."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_number
from cwjax.base import Goal, Number, Objective, Outputs, wide


def outputs_margin(outputs: Float[Array, "..."]) -> Float[Array, "..."]:
    """The margin that rounding cannot overturn, of each output by itself: 64 units in its last place.

    The same image gives outputs that differ by a few units in the last place in another batch or program; see
    `objectives.rounding_margin`, which is that of logits that are compared.
    """
    info = jnp.finfo(outputs.dtype)
    return 64 * info.eps * jnp.abs(outputs.astype(wide(outputs))) + info.tiny / info.eps


class Standing(NamedTuple):
    """How far an example is from several things, some of which it is to reach."""

    lags: Float[Array, "..."]  # by how much each is behind, with the confidence in it; at most 0 where it is reached
    counted: Bool[Array, "..."]  # which of them count
    least: Int[Array, ""]  # int32: how many of those have to be reached


def counting(
    standing: Callable[[Outputs, Any], Standing],
    *,
    confidence: Number,
    hinged: bool,
    check: Callable[[Outputs, Goal], None],
    reaches: Callable[[Any], Bool[Array, ""]],
    check_goals: Callable[[Outputs, Any], None] = lambda outputs, goal: None,
) -> Objective:
    """The objective that at least a number of several lags is at most 0; see `lacking`."""
    check_number("confidence", confidence, least=0)
    return Objective(
        loss=lambda outputs, goal: lacking(*standing(outputs, goal), hinged=hinged)[0],
        met=lambda outputs, goal: lacking(*standing(outputs, goal), hinged=hinged)[1],
        confidence=confidence,
        check=check,
        reaches=reaches,
        logits=None,
        check_goals=check_goals,
    )


def lacking(
    lags: Float[Array, "..."], counted: Bool[Array, "..."], least: Int[Array, ""], *, hinged: bool = True
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """What is lacking until `least` of several lags are at most 0, and whether nothing is.

    The loss is the mean of `max(lag, 0)` over the `least` smallest lags, 0 exactly where the goal is met; the others
    have no slope. Without the hinge it goes on falling there: it is then the largest of these lags.

    Args:
      lags: by how much each is behind; at most 0 where it is reached.
      counted: which of them count.
      least: how many of them have to be reached; at most as many as are counted.
      hinged: whether the loss stays at 0 where the goal is met.

    Returns:
      The loss, NaN where a lag that counts is, or where more have to be reached than are counted; and whether the goal
      is met.
    """
    sizes = jnp.where(counted, lags, jnp.inf).ravel()
    order = jnp.argsort(sizes)
    rank = jnp.zeros(sizes.size, jnp.int32).at[order].set(jnp.arange(sizes.size, dtype=jnp.int32))
    among = (rank < least) & counted.ravel()
    lack = jnp.where(among & (lags.ravel() > 0), lags.ravel(), 0)
    broken = (jnp.isnan(lags) & counted).any() | (least > counted.sum()) | (least < 1)
    met = (jnp.sum((lags <= 0) & counted) >= least) & ~broken
    loss = jnp.sum(lack) / jnp.maximum(least, 1)
    if not hinged:
        loss = jnp.where(met, jnp.max(jnp.where(among, lags.ravel(), -jnp.inf)), loss)
    return jnp.where(broken, jnp.nan, loss), met


def raised(confidence: Number, outputs: Float[Array, "..."]) -> Float[Array, "..."]:
    """The confidence, and what rounding may take from it."""
    return jnp.asarray(confidence, wide(outputs)) + outputs_margin(outputs)
