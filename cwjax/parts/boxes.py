"""Three ways to stay within the bounds of a valid input (Carlini & Wagner 2017, section V-B).

Bounds are finite; a scalar, or an array that broadcasts to one input, such as one number a channel. They may be
traced.
"""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cwjax.arguments import misfit
from cwjax.base import Attack, Bound, Box, Decoded, Goal, Problem, geometric_mean, problem, wide

_SHRINK = 1 - 1e-6  # of the released code: keeps arctanh finite at pixels exactly on a bound


def change_of_variables(lower: Bound = 0.0, upper: Bound = 1.0) -> Box:
    """`x' = middle + half·tanh(w)`: every w is a valid image, and the optimiser never meets an edge (the paper's
    choice).

    A pixel exactly on a bound starts a millionth of `half` inside it, so the first iterate is not quite x.
    """
    check_bounds(lower, upper)

    def encode(x):
        low, high = _bounds(x, lower, upper)
        middle, half = (low + high) / 2, (high - low) / 2
        return jnp.arctanh(jnp.clip((x.astype(low.dtype) - middle) / half, -1, 1) * _SHRINK)

    def decode(w):
        low, high = _bounds(w, lower, upper)
        inside = jnp.clip((low + high) / 2 + (high - low) / 2 * jnp.tanh(w), low, high)
        return Decoded(inside=inside, penalised=inside)

    def in_variable(lengths):
        low, high = _bounds(lengths, lower, upper)
        return lengths / (high - low)

    return Box(encode=encode, decode=decode, project=lambda w: w, in_variable=in_variable, lower=lower, upper=upper)


def projected(lower: Bound = 0.0, upper: Bound = 1.0) -> Box:
    """Projected gradient descent: w is the image, clipped to the box after every update.

    The paper warns (section V-B) that an optimiser with momentum then carries a state that knows nothing of the
    clipping.
    """
    check_bounds(lower, upper)
    return Box(
        encode=lambda x: jnp.clip(x.astype(wide(x)), *_bounds(x, lower, upper)),
        decode=lambda w: Decoded(inside=w, penalised=w),
        project=lambda w: jnp.clip(w, *_bounds(w, lower, upper)),
        in_variable=lambda lengths: lengths,
        lower=lower,
        upper=upper,
    )


def clipped(lower: Bound = 0.0, upper: Bound = 1.0) -> Box:
    """Clipped gradient descent: w roams freely, f sees `clip(w)`, D sees w itself; `f(min(max(x + delta, 0), 1))` in
    the paper.

    Outside the box f has no slope. Under a penalty that has none there either, as L-infinity's below tau, a pixel that
    has left the box stays out, and the attack may fail for it.
    """
    check_bounds(lower, upper)
    return Box(
        encode=lambda x: x.astype(wide(x)),
        decode=lambda w: Decoded(inside=jnp.clip(w, *_bounds(w, lower, upper)), penalised=w),
        project=lambda w: w,
        in_variable=lambda lengths: lengths,
        lower=lower,
        upper=upper,
    )


def check_bounds(lower: Bound, upper: Bound) -> None:
    """Raises ValueError unless both bounds are finite and lower < upper everywhere. Traced bounds pass."""
    if isinstance(lower, jax.core.Tracer) or isinstance(upper, jax.core.Tracer):
        return
    low, high = np.asarray(lower), np.asarray(upper)
    if not all(np.issubdtype(bound.dtype, np.number) or bound.dtype == jnp.bfloat16 for bound in (low, high)):
        raise TypeError(f"a box's bounds must be numbers, got lower={lower!r} and upper={upper!r}")
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ValueError(f"a box needs finite bounds with lower < upper, got lower={lower} and upper={upper}")


def posed(attack: Attack, x: Float[Array, "*S"], goal: Goal) -> Problem:
    """The attack's problem of input x: its lengths are in widths of the attack's box."""
    return problem(x, goal, widths(attack.terms.box, x))


def widths(box: Box, x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """How wide the box is for each element of an input: `upper - lower`, at least float32. An element that has no room
    gets the width of the others, because it is divided by.
    """
    low, high = _bounds(x, box.lower, box.upper)
    return jnp.where(high > low, high - low, geometric_mean(high - low))


def _bounds(x, lower, upper):
    try:
        return tuple(jnp.broadcast_to(jnp.asarray(bound, wide(x)), x.shape) for bound in (lower, upper))
    except ValueError as error:
        raise ValueError(misfit(lower, upper, x.shape)) from error


BOXES = {"change_of_variables": change_of_variables, "projected": projected, "clipped": clipped}
"""By name. Each takes the bounds."""
