"""Three ways to stay within the bounds of a valid input (Carlini & Wagner 2017, section V-B).

Each is a few functions of a point and of the bounds, `low` and `high`, which the problem says (`Problem`). Where both
bounds of an element are the same there is no room, and what a box says of it does not count.
"""

import jax.numpy as jnp

from cwjax.base import Box, Decoded, wide

_SHRINK = 1 - 1e-6  # of the released code: keeps arctanh finite at pixels exactly on a bound


def change_of_variables() -> Box:
    """`x' = middle + half·tanh(w)`: every w is a valid image, and the optimiser never meets an edge (the paper's
    choice).

    A pixel exactly on a bound starts a millionth of `half` inside it, so the first iterate is not quite x.
    """

    def encode(x, low, high):
        middle, width = (low + high) / 2, _width(low, high)
        return jnp.arctanh(jnp.clip(2 * (x.astype(low.dtype) - middle) / width, -1, 1) * _SHRINK)

    def decode(w, low, high):
        inside = jnp.clip((low + high) / 2 + (high - low) / 2 * jnp.tanh(w), low, high)
        return Decoded(inside=inside, penalised=inside)

    return Box(
        encode=encode,
        decode=decode,
        project=lambda w, low, high: w,
        in_variable=lambda lengths, low, high: lengths / _width(low, high),
    )


def projected() -> Box:
    """Projected gradient descent: w is the image, clipped to the box after every update.

    The paper warns (section V-B) that an optimiser with momentum then carries a state that knows nothing of the
    clipping.
    """
    return Box(
        encode=lambda x, low, high: jnp.clip(x.astype(wide(x)), low, high),
        decode=lambda w, low, high: Decoded(inside=w, penalised=w),
        project=lambda w, low, high: jnp.clip(w, low, high),
        in_variable=lambda lengths, low, high: lengths,
    )


def clipped() -> Box:
    """Clipped gradient descent: w roams freely, f sees `clip(w)`, D sees w itself; `f(min(max(x + delta, 0), 1))` in
    the paper.

    Outside the box f has no slope. Under a penalty that has none there either, as L-infinity's below tau, a pixel that
    has left the box stays out, and the attack may fail for it.
    """
    return Box(
        encode=lambda x, low, high: x.astype(wide(x)),
        decode=lambda w, low, high: Decoded(inside=jnp.clip(w, low, high), penalised=w),
        project=lambda w, low, high: w,
        in_variable=lambda lengths, low, high: lengths,
    )


def _width(low, high):
    return jnp.where(high > low, high - low, 1)


BOXES = {"change_of_variables": change_of_variables, "projected": projected, "clipped": clipped}
"""By name."""
