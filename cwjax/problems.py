"""Where the input of a problem may go: what a user allows, and the problem of one example that comes of it."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from cwjax.base import AnyArray, Bound, Goal, Problem, wide


class Allowed(NamedTuple):
    """Where attacks may look for examples, and what they may not change.

    Each of the first four broadcasts to one input, or has the batch in front: [B, *S].
    """

    low: Bound = 0.0  # the least value of each element
    high: Bound = 1.0  # the largest
    mask: Bool[AnyArray, "..."] | None = None  # False: this element keeps its clean value; None: all may change
    start: Float[AnyArray, "..."] | None = None  # where the search starts; None: at the clean input
    context: PyTree = None  # inputs of the model that are not attacked: a pytree of arrays [B, ...]


ANYWHERE = Allowed()


def problem(x: Float[Array, "*S"], goal: Goal, allowed: Allowed = ANYWHERE) -> Problem:
    """The plain problem of input x: weight 1, and every element moves that has room.

    Args:
      x: the clean input.
      goal: what to reach.
      allowed: where to look, in shapes that broadcast to one input.

    Example:
      >>> problem = cw.problems.problem(x[0], goal, cw.problems.Allowed(low=0.1, mask=jnp.array([True, True, False])))
      >>> problem.mask.tolist(), float(problem.c)
      ([True, True, False], 1.0)
    """
    one = jnp.ones((), wide(x))
    low, high = ends(allowed, x)
    if allowed.mask is not None:
        mask = jnp.broadcast_to(allowed.mask, x.shape)
        low, high = (jnp.where(mask, bound, x.astype(one.dtype)) for bound in (low, high))
    room = high - low
    span = geometric_mean(room)
    widths = jnp.where(room > 0, room, span)  # they are divided by
    start = x if allowed.start is None else jnp.clip(jnp.broadcast_to(allowed.start, x.shape), low, high)
    return Problem(
        x=x,
        goal=goal,
        start=start.astype(x.dtype),
        low=low,
        high=high,
        mask=room > 0,
        tau=jnp.zeros_like(one),
        c=one,
        scale=one,
        widths=widths,
        span=span,
        live=jnp.zeros(x.shape, bool),
        context=allowed.context,
    )


def ends(allowed: Allowed, x: Float[Array, "*S"]) -> tuple[Float[Array, "*S"], Float[Array, "*S"]]:
    """The least and the largest value of each element of x, whatever the mask; at least float32.

    Args:
      allowed: bounds that broadcast to one input.
      x: the clean input.

    Returns:
      The least values and the largest.

    Example:
      >>> low, high = cw.problems.ends(cw.problems.Allowed(low=-1.0), x[0])
      >>> print(low, high)
      [-1. -1. -1.] [1. 1. 1.]
    """
    low, high = (jnp.broadcast_to(jnp.asarray(bound, wide(x)), x.shape) for bound in (allowed.low, allowed.high))
    return low, high


def clip(problem: Problem, x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """The point with every element between its bounds.

    Args:
      problem: whose bounds.
      x: a point.

    Example:
      >>> print(cw.problems.clip(cw.problems.problem(x[0], goal), jnp.array([-1.0, 0.5, 2.0])))
      [0.  0.5 1. ]
    """
    return jnp.clip(x, problem.low, problem.high)


def geometric_mean(widths: Float[Array, "..."]) -> Float[Array, ""]:
    """Of those that are not 0; exactly the width, where all are alike.

    Args:
      widths: >= 0.

    Example:
      >>> print(np.asarray(cw.problems.geometric_mean(jnp.array([1.0, 4.0, 0.0]))).round(2))
      2.0
    """
    widest = jnp.max(widths)
    some = jnp.where(widths > 0, widths / widest, 1)
    mean = jnp.exp(jnp.sum(jnp.log(some)) / jnp.maximum(jnp.sum(widths > 0), 1))
    return jnp.where(widest > 0, widest * mean, 1)
