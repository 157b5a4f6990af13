"""Small networks in plain JAX that train in under a minute, for tasks that the zoo has no network for."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cwjax.defences.networks import convolved, dense, doubled, halved, layer
from cwjax.lab.console.progress import progress

Params = dict[str, Any]


def train(
    what: str,
    loss: Callable[..., Any],
    params: Params,
    arrays: Sequence[np.ndarray],
    *,
    updates: int,
    batch: int = 64,
    rate: float = 2e-3,
    momentum: float = 0.9,
    seed: int = 0,
) -> Params:
    """The weights after so many steps of Adam, whose rate falls to nothing along a cosine.

    Args:
      what: is trained, for the line of progress.
      loss: `(params, key, *batches)` to one number.
      params: to begin with.
      arrays: of equal length, of which batches are drawn at random.
      updates: steps to make.
      batch: examples in one.
      rate: Adam's, at the beginning.
      momentum: Adam's, b1.
      seed: of the batches, and of what the loss draws.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, updates), b1=momentum)
    whole = tuple(map(jnp.asarray, arrays))

    @jax.jit
    def update(params, state, number, whole):
        key, pick = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
        chosen = jax.random.randint(pick, (batch,), 0, len(whole[0]))
        value, slope = jax.value_and_grad(loss)(params, key, *(array[chosen] for array in whole))
        change, state = optimizer.update(slope, state, params)
        return optax.apply_updates(params, change), state, value

    state = optimizer.init(params)
    with progress(f"training {what}", updates, first="compiling") as advance:
        for number in range(updates):
            params, state, value = update(params, state, number, whole)
            if (number + 1) % 20 == 0 or number + 1 == updates:
                advance((number % 20) + 1, f"loss {float(value):.3f}")
    return params


def convolutional(
    seed: int, shape: Sequence[int], outputs: int, *, channels: Sequence[int] = (16, 32), units: int = 64
) -> Params:
    """Fresh weights of `answered`: convolutions of 3×3, each before a max-pool of 2×2, and two dense layers."""
    keys = iter(jax.random.split(jax.random.key(seed), len(channels) + 2))
    height, width, before = shape
    convolutions = []
    for after in channels:
        convolutions.append(layer(next(keys), (3, 3, before, after)))
        height, width, before = height // 2, width // 2, after
    return {
        "convolutions": convolutions,
        "hidden": layer(next(keys), (height * width * before, units)),
        "last": layer(next(keys), (units, outputs)),
    }


def answered(params: Params, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Its outputs [B, K]. With a mask [units] or [B, units], hidden units are multiplied by it: dropout, its draw
    given.
    """
    for each in params["convolutions"]:
        x = halved(jax.nn.relu(convolved(each, x)))
    x = jax.nn.relu(dense(params["hidden"], x.reshape(len(x), -1)))
    return dense(params["last"], x if mask is None else x * mask.reshape(-1, x.shape[-1]))


def u_shaped(seed: int, shape: Sequence[int], classes: int, *, channels: int = 12, units: int = 48) -> Params:
    """Fresh weights of `labelled`."""
    height, width, first = shape
    n, deep = channels, 2 * channels
    plan = {
        "down": (3, 3, first, n),
        "deeper": (3, 3, n, deep),
        "deepest": (3, 3, deep, deep),
        "whole": (height // 4 * (width // 4) * deep, units),
        "spread": (units, deep),
        "up": (3, 3, 3 * deep, deep),
        "higher": (3, 3, deep + n, n),
        "last": (n, classes),
    }
    keys = jax.random.split(jax.random.key(seed), len(plan))
    return {name: layer(key, size) for key, (name, size) in zip(keys, plan.items(), strict=True)}


def labelled(params: Params, x: jax.Array) -> jax.Array:
    """Logits [B, H, W, K] of a small U: down by two halvings, a look at the whole image, and up again, where each level
    is given what the one across saw (Ronneberger et al. 2015, "U-Net"). Height and width are multiples of 4.
    """
    fine = jax.nn.relu(convolved(params["down"], x))
    middle = jax.nn.relu(convolved(params["deeper"], halved(fine)))
    coarse = jax.nn.relu(convolved(params["deepest"], halved(middle)))
    whole = jax.nn.relu(dense(params["whole"], coarse.reshape(len(x), -1)))
    spread = jnp.broadcast_to(dense(params["spread"], whole)[:, None, None], coarse.shape)
    up = jnp.concatenate([doubled(jnp.concatenate([coarse, spread], -1)), middle], -1)
    up = jax.nn.relu(convolved(params["up"], up))
    up = jax.nn.relu(convolved(params["higher"], jnp.concatenate([doubled(up), fine], -1)))
    return dense(params["last"], up)
