"""The worst case of a transform: the least change of its parameters that breaks a relation, by draws and by slopes.

draws, attack = deeptest.by_slopes(20); run = jax.jit(cw.batched(attack))
start   = deeptest.best_drawn(model, TRANSFORMS["rotation"], keys, x, relation, draws)
worst   = deeptest.worst(run, model, TRANSFORMS["rotation"], keys, x, relation.goal, start=start)
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cwjax.arguments import check_count
from cwjax.attacks.pgd import pgd
from cwjax.base import AnyArray, Attack, Goal, Objective, Result, Runner
from cwjax.generation.metamorphic import Relation
from cwjax.generation.transforms import Transform, in_shares, of_shares, parametrised, shares_of
from cwjax.models import Model
from cwjax.parts.losses import label_cross_entropy

_STEP = 0.1  # of a parameter's range; docs/generation_images.md has the evidence


class Worst(NamedTuple):
    """The least change of parameters that breaks a relation."""

    x: Float[np.ndarray, "B H W C"]  # the changed images; where nothing was found, the images as they were
    parameters: Float[np.ndarray, "B P"]
    found: Bool[np.ndarray, "B"]
    result: Result  # of the attack on the parameters


def worst(
    runner: Runner | Callable[..., Any],
    model: Model,
    transform: Transform,
    keys: Array,
    x: Float[AnyArray, "B H W C"],
    goal: Goal,
    *,
    start: Float[AnyArray, "B P"] | None = None,
) -> Worst:
    """The parameters of a transform that an attack finds for each image, between the transform's limits.

    The attack sees each parameter as a share of its range, so that degrees and pixels weigh alike. What it makes small
    is the distance, in shares, from the parameters that change nothing.

    Slopes there can be 0 or mislead: an image that is not blurred is flat in the blur, and one that is moved by no
    pixel is sharper than any near it. So begin elsewhere, such as at `best_drawn`.

    Args:
      runner: of an attack whose objective reads the relation, such as `jax.jit(cw.batched(cw.attacks.ddn()))`.
        Many parameters change nothing at a limit: take an attack that does not change variables.
      model: of images.
      transform: whose parameters are looked for.
      keys: [B], from `jax.random.split`.
      x: images in [0, 1].
      goal: of a violation; from `metamorphic`.
      start: parameters to begin at; None: those that change nothing.

    Example:
      >>> from cwjax.generation import deeptest, metamorphic
      >>> from cwjax.generation.transforms import TRANSFORMS
      >>> mean = cw.bind(lambda weights, x: jnp.stack([x.mean((1, 2, 3)), jnp.full(len(x), 0.45)], 1))
      >>> relation, images = metamorphic.label_kept([0]), jnp.full((1, 2, 2, 1), 0.5)
      >>> ddn = jax.jit(cw.batched(cw.attacks.ddn(steps=40)))
      >>> worst = deeptest.worst(ddn, mean, TRANSFORMS["brightness"], keys[:1], images, relation.goal)
      >>> print(worst.parameters.round(2), worst.found)  # darker
      [[-0.05]] [ True]

    References:
      Tian et al. 2018, "DeepTest: automated testing of deep-neural-network-driven autonomous cars",
        https://arxiv.org/abs/1708.08559
    """
    shares = in_shares(transform)
    result = runner(
        parametrised(model, shares),
        keys,
        jnp.asarray(shares.start(len(x))),
        goal,
        low=np.asarray(shares.low, np.float32),
        high=np.asarray(shares.high, np.float32),
        context=jnp.asarray(x),
        **({} if start is None else {"start": jnp.asarray(shares_of(transform, start))}),
    )
    found = np.asarray(result.success)
    parameters = np.where(found[:, None], of_shares(transform, np.asarray(result.x)), transform.start(len(x)))
    images = np.asarray(transform.changed(x, parameters))
    return Worst(np.where(found[:, None, None, None], images, np.asarray(x)), parameters, found, result)


def by_slopes(steps: int, objective: Objective = label_cross_entropy()) -> tuple[int, Attack]:
    """How many draws for `best_drawn`, and an attack for `worst` that spends the rest of the steps: half each.

    Args:
      steps: in all; of one step there are a draw and a step.
      objective: of the attack; it reads the relation.

    Returns:
      The number of draws, and PGD within all of the range, in steps of a tenth of it.

    Example:
      >>> from cwjax.generation import deeptest
      >>> draws, attack = deeptest.by_slopes(steps=12)
      >>> draws
      6
    """
    check_count("steps", steps)
    left = steps - steps // 2
    attack = pgd(epsilon=1.0, relative_step=_STEP, steps=left, random_start=False, objective=objective)
    return max(steps // 2, 1), attack


def best_drawn(
    model: Model, transform: Transform, keys: Array, x: Float[AnyArray, "B H W C"], relation: Relation, count: int
) -> Float[np.ndarray, "B P"]:
    """Of random parameters for each image, those that come nearest to breaking the relation.

    A start for `worst`. It costs one forward pass for each.

    Args:
      model: of images.
      transform: of them.
      keys: [B], from `jax.random.split`.
      x: images in [0, 1].
      relation: of the images, from `metamorphic`; its loss says what is nearest.
      count: of draws for each image.

    Example:
      >>> from cwjax.generation import deeptest, metamorphic
      >>> from cwjax.generation.transforms import TRANSFORMS
      >>> mean = cw.bind(lambda weights, x: jnp.stack([x.mean((1, 2, 3)), jnp.full(len(x), 0.45)], 1))
      >>> relation, images = metamorphic.label_kept([0]), jnp.full((1, 2, 2, 1), 0.5)
      >>> start = deeptest.best_drawn(mean, TRANSFORMS["brightness"], keys[:1], images, relation, 20)
      >>> bool(start[0, 0] < 0)  # darker
      True
    """
    check_count("count", count)
    draws = jnp.stack([transform.drawn(each, count) for each in keys])  # [B, N, P]
    losses = _losses(parametrised(model, transform), relation.objective, jnp.asarray(x), draws, relation.goal)
    return np.asarray(draws)[np.arange(len(x)), np.asarray(losses).argmin(1)]


@functools.partial(jax.jit, static_argnums=1)
def _losses(model: Model, objective: Objective, x: Array, draws: Array, goal: Goal) -> Array:
    """The loss of every image [B] under each of its settings [B, N]."""

    def of_setting(some: Array) -> Array:
        return jax.vmap(objective.loss)(model.apply(model.params, some, x), goal)

    return jnp.swapaxes(jax.lax.map(of_setting, jnp.swapaxes(draws, 0, 1)), 0, 1)
