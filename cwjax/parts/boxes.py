"""Three ways to stay within the bounds of a valid input (Carlini & Wagner 2017, section V-B).

Each is a few functions of a point and of the bounds, `low` and `high`, which the problem says (`Problem`). Where both
bounds of an element are the same there is no room, and what a box says of it does not count.
"""

import jax.numpy as jnp

from cwjax.base import Box, Decoded, wide

_SHRINK = 1 - 1e-6  # of the released code: keeps arctanh finite at pixels exactly on a bound


def change_of_variables() -> Box:
    """`x' = middle + half·tanh(w)`, the paper's choice: every w is a valid image.

    The optimiser never meets an edge.

    A pixel exactly on a bound starts a millionth of `half` inside it, so the first iterate is not quite x.

    Example:
      >>> box, low, high = cw.boxes.change_of_variables(), jnp.zeros(3), jnp.ones(3)
      >>> print(np.asarray(box.decode(jnp.array([-9.0, 0.0, 0.5]), low, high).inside).round(2))
      [0.   0.5  0.73]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-B,
        https://arxiv.org/abs/1608.04644
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

    Example:
      >>> box, low, high = cw.boxes.projected(), jnp.zeros(3), jnp.ones(3)
      >>> print(box.project(jnp.array([-0.5, 0.5, 1.5]), low, high))  # after every update
      [0.  0.5 1. ]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-B,
        https://arxiv.org/abs/1608.04644
    """
    return Box(
        encode=lambda x, low, high: jnp.clip(x.astype(wide(x)), low, high),
        decode=lambda w, low, high: Decoded(inside=w, penalised=w),
        project=lambda w, low, high: jnp.clip(w, low, high),
        in_variable=lambda lengths, low, high: lengths,
    )


def clipped() -> Box:
    """Clipped gradient descent: w roams freely, f sees `clip(w)`, D sees w itself.

    In the paper f sees `min(max(x + delta, 0), 1)`.

    Outside the box f has no slope. Under a penalty that has none there either, as L-infinity's below tau, a pixel that
    has left the box stays out, and the attack may fail for it.

    Example:
      >>> box, low, high = cw.boxes.clipped(), jnp.zeros(3), jnp.ones(3)
      >>> both = box.decode(jnp.array([-0.5, 0.5, 1.5]), low, high)
      >>> both.inside.tolist(), both.penalised.tolist()
      ([0.0, 0.5, 1.0], [-0.5, 0.5, 1.5])

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-B,
        https://arxiv.org/abs/1608.04644
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
