"""Attacks that may change only some elements of an input: a region of an image, some features of a row."""

import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from cwjax.base import Attack
from cwjax.checks import check_part


def masked(attack: Attack, mask: ArrayLike) -> Attack:
    """The attack on the elements where the mask is True; the others keep their clean value to the last bit.

    For instance, the upper half of 28 × 28 images:

        attack = cw.masked(cw.alternating_l2(steps=200), np.arange(28)[:, None, None] < 14)

    Args:
      attack: any.
      mask: boolean; broadcasts to one input [*S], and is the same for all examples. May be traced.

    Raises:
      TypeError: a mask that is not boolean.
      ValueError: a mask under which nothing may move; when an attack begins, one that does not broadcast to the input.
    """
    check_part("attack", attack, Attack)
    traced = isinstance(mask, jax.core.Tracer)
    allowed = jnp.asarray(mask) if traced else np.asarray(mask)
    if not jnp.issubdtype(allowed.dtype, bool):
        raise TypeError(f"mask must be boolean, True where an element may change, got {allowed.dtype}")
    if not traced and not np.any(allowed):
        raise ValueError("mask is False everywhere: no element may change")

    def restricted(problem):
        shape, given = problem.x.shape, allowed.shape
        try:
            fits = np.broadcast_shapes(given, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"mask of shape {list(given)} does not broadcast to one input {list(shape)}")
        return problem._replace(mask=problem.mask & jnp.broadcast_to(allowed, shape))

    def init(key, problem):
        return attack.init(key, restricted(problem))

    def step(model, problem, state):
        return attack.step(model, restricted(problem), state)

    terms = attack.terms._replace(mask=allowed & jnp.asarray(attack.terms.mask))
    return attack._replace(init=init, step=step, terms=terms)
