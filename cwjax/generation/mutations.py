"""How inputs change in `fuzzing.fuzzed`: mutants by transforms, and by noise."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cwjax.arguments import check_number
from cwjax.base import Number
from cwjax.generation.transforms import Transform


class Mutants(NamedTuple):
    """What a mutation makes of one parent."""

    x: Float[Array, "B *S"]
    affine: Bool[Array, "B"]  # whether it moved pixels, after which differences by pixel mean nothing


def transformed(transforms: Sequence[Transform]) -> Callable[[Array, Array], Mutants]:
    """Mutants by one transform each, drawn at random with its parameters.

    Args:
      transforms: at least one.

    Returns:
      `(keys [B], x [B, *S]) -> Mutants`.

    Example:
      >>> from cwjax.generation import fuzzing
      >>> from cwjax.generation.transforms import TRANSFORMS
      >>> mutate = fuzzing.transformed([TRANSFORMS["brightness"], TRANSFORMS["translation"]])
      >>> mutants = mutate(keys, jnp.ones((2, 4, 4, 1)))
      >>> mutants.x.shape, mutants.affine.shape
      ((2, 4, 4, 1), (2,))
    """
    several = tuple(transforms)
    if not several:
        raise ValueError("mutants need at least one transform, got none")
    moves = np.array([each.name in ("translation", "scale", "shear", "rotation") for each in several])

    def one(key, x):
        which, own = jax.random.split(key)
        place = jax.random.randint(which, (), 0, len(several))
        branches = [functools.partial(_by, each) for each in several]
        return jnp.clip(jax.lax.switch(place, branches, own, x), 0, 1), jnp.asarray(moves)[place]

    return lambda keys, x: Mutants(*jax.vmap(one)(keys, x))


def noisy(sigma: Number = 0.2) -> Callable[[Array, Array], Mutants]:
    """Mutants by white noise, clipped to [0, 1]: TensorFuzz's.

    Args:
      sigma: of the noise, > 0.

    Returns:
      `(keys [B], x [B, *S]) -> Mutants`.

    Example:
      >>> from cwjax.generation import fuzzing
      >>> mutants = fuzzing.noisy(sigma=0.2)(keys, x)
      >>> mutants.x.shape, bool((mutants.x >= 0).all() & (mutants.x <= 1).all())
      ((2, 2), True)

    References:
      Odena et al. 2019, "TensorFuzz: debugging neural networks with coverage-guided fuzzing",
        https://arxiv.org/abs/1807.10875
    """
    check_number("sigma", sigma, least=0, above=True)

    def one(key, x):
        return jnp.clip(x + sigma * jax.random.normal(key, x.shape, x.dtype), 0, 1)

    return lambda keys, x: Mutants(jax.vmap(one)(keys, x), jnp.zeros(len(x), bool))


def _by(transform: Transform, key: Array, x: Array) -> Array:
    return transform.apply(x, transform.drawn(key, 1)[0])
