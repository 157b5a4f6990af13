"""How lengths change over a run: along a cosine, or longer until an example is known."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.base import Number

_GROWTH = 1.1  # of a length at a step, while no example is known
DOUBT = 3.0  # times what is believed: how far off it may be


def annealed(first: Number, last: Number, taken: Int[Array, ""], steps: Number) -> Float[Array, ""]:
    """From `first`, at the first of `steps` steps, to nearly `last`, along half a cosine (Loshchilov & Hutter 2017)."""
    return last + (first - last) * (1 + jnp.cos(jnp.pi * taken / steps)) / 2


def lengthened(
    length: Float[Array, ""], promised: Float[Array, ""], taken: Int[Array, ""], steps: Number
) -> Float[Array, ""]:
    """A tenth more, for as long as no example is known: up to three times the distance that the first slope promised,
    and to nine times at the end. Who goes on without a bound ends far from everything, where slopes say nothing.
    """
    return jnp.minimum(_GROWTH * length, promised * DOUBT ** jnp.maximum(1, 2 * taken / steps))


def turned(
    knob: Float[Array, ""], met: Bool[Array, ""], turn: tuple[float, float], taken: Int[Array, ""], steps: Number
) -> Float[Array, ""]:
    """A radius or a weight, times exp(-r) where the goal is met and exp(r) where it is not, so that the point stays
    about the boundary; r falls along a cosine (`annealed`) from the first of `turn` to the second.
    """
    r = annealed(*turn, taken, steps)
    return knob * jnp.exp(jnp.where(met, -r, r))
