"""A small translator between two sets of images without pairs, after UNIT (Liu et al. 2017), written from the paper.

Two encoders lead to one code, two decoders lead back, and the last layer of the encoders and the first of the decoders
are one. Each domain has a discriminator. The loss is that of the paper with the weights of its released settings: least
squares of the discriminators 1, reconstruction 10, the code's size 0.01, and both again after there and back.

Three things differ from the paper, because its settings gave black images here. The output is linear and is clipped
when it is used: behind a sigmoid the slope of the absolute error vanishes at 0, where most pixels of a digit are, and
an image that has become black stays black. The noise on the code has a standard deviation of 0.1 and not 1, which
drowns the code of fresh weights for far more updates than these. Both domains may begin with the same weights, so that
the first translation is the image itself; else the code of one may be the negative of the other's, and stays so.

    trained   = translators.train(sunny, foggy, updates=1500)
    translate = translators.Translator(trained, "first")     # sunny to foggy
    foggy     = translate(x)                                 # [B, H, W, C]
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.defences.networks import convolved, doubled, layer
from experiments.small_nets import Params
from experiments.small_nets import train as trained_by

Side = Literal["first", "second"]

_OTHER: dict[Side, Side] = {"first": "second", "second": "first"}
RECONSTRUCTION, CODE = 10.0, 0.01  # UNIT's weights; a discriminator's is 1
NOISE = 0.1  # on the code; UNIT has 1


class Translator(NamedTuple):
    """Trained networks, and the domain of the images that are given."""

    params: Params
    side: Side

    def __call__(self, x: np.ndarray, *, at_once: int = 100) -> np.ndarray:
        """The images [B, H, W, C] of one domain in the other, in [0, 1]."""
        parts = [_translated(self.params, self.side, x[i : i + at_once]) for i in range(0, len(x), at_once)]
        return np.clip(np.concatenate([np.asarray(part) for part in parts]), 0, 1)


def train(
    first: np.ndarray,
    second: np.ndarray,
    *,
    updates: int = 1500,
    batch: int = 16,
    channels: int = 16,
    alike: bool = True,
    seed: int = 0,
) -> Params:
    """The networks after so many updates.

    Args:
      first: images [M, H, W, C] in [0, 1] of one domain, H and W multiples of 4.
      second: of the other, no pairs of the first.
      updates: of all networks at once.
      batch: images of each domain in one.
      channels: of the first layers; the code has twice as many.
      alike: whether both domains begin with the same weights.
      seed: of the weights, the batches and the noise.
    """
    if first.shape[1:] != second.shape[1:] or first.shape[1] % 4 or first.shape[2] % 4:
        raise ValueError(
            f"both domains have images of one size, of multiples of 4, got {list(first.shape[1:])} and "
            f"{list(second.shape[1:])}"
        )
    count = min(len(first), len(second))  # batches are drawn of both at once, and each domain in its own order
    shuffled = np.random.default_rng(seed).permutation(count)
    return trained_by(
        "the translator",
        _loss,
        _fresh(seed, first.shape[-1], channels, alike),
        (first[:count], second[:count][shuffled]),
        updates=updates,
        batch=batch,
        rate=5e-4,
        momentum=0.5,
        seed=seed,
    )


def _fresh(seed: int, colours: int, n: int, alike: bool) -> Params:
    deep = 2 * n
    own = {
        "enter": (3, 3, colours, n),
        "down": (3, 3, n, deep),
        "up": (3, 3, deep, n),
        "leave": (3, 3, n, colours),
        "look": (3, 3, colours, n),
        "look_closer": (3, 3, n, deep),
        "judge": (3, 3, deep, 1),
    }
    keys = iter(jax.random.split(jax.random.key(seed), 2 * len(own) + 2))
    first = {name: layer(next(keys), size) for name, size in own.items()}
    shared = {name: layer(next(keys), (3, 3, deep, deep)) for name in ("into_code", "out_of_code")}
    second = first if alike else {name: layer(next(keys), size) for name, size in own.items()}
    return {"first": first, "second": second} | shared


def _encoded(params: Params, side: Side, x: Any) -> jax.Array:
    own = params[side]
    x = jax.nn.leaky_relu(convolved(own["enter"], x))
    x = jax.nn.leaky_relu(convolved(own["down"], x, stride=2))
    return x + convolved(params["into_code"], jax.nn.leaky_relu(x))


def _decoded(params: Params, side: Side, code: jax.Array) -> jax.Array:
    own = params[side]
    code = code + jax.nn.leaky_relu(convolved(params["out_of_code"], code))
    code = jax.nn.leaky_relu(convolved(own["up"], doubled(code)))
    return 0.5 + convolved(own["leave"], code)


def _judged(params: Params, side: Side, x: jax.Array) -> jax.Array:
    """What the side's discriminator says of each patch: 1 for its own images, 0 for translated ones."""
    own = params[side]
    x = jax.nn.leaky_relu(convolved(own["look"], x, stride=2))
    x = jax.nn.leaky_relu(convolved(own["look_closer"], x, stride=2))
    return convolved(own["judge"], x)


def _loss(params: Params, key: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """Of all networks in one number: what judges is held fixed for the translators, and the other way round."""
    fixed = jax.lax.stop_gradient(params)
    given: dict[Side, jax.Array] = {"first": first, "second": second}
    keys = iter(jax.random.split(key, 4))
    total = jnp.zeros(())
    for side, x in given.items():
        there = _OTHER[side]
        code = _encoded(params, side, x)
        noisy = code + NOISE * jax.random.normal(next(keys), code.shape)
        made = _decoded(params, there, noisy)
        again = _encoded(params, there, made)
        back = _decoded(params, side, again + NOISE * jax.random.normal(next(keys), again.shape))
        same = _decoded(params, side, noisy)
        total += RECONSTRUCTION * (jnp.abs(same - x).mean() + jnp.abs(back - x).mean())
        total += CODE * (jnp.square(code).mean() + jnp.square(again).mean())
        total += jnp.square(_judged(fixed, there, made) - 1).mean()
        unmoved = jax.lax.stop_gradient(made)
        total += jnp.square(_judged(params, there, unmoved)).mean()
        total += jnp.square(_judged(params, side, x) - 1).mean()
    return total


@functools.partial(jax.jit, static_argnums=1)
def _translated(params: Params, side: Side, x: Any) -> jax.Array:
    return _decoded(params, _OTHER[side], _encoded(params, side, x))
