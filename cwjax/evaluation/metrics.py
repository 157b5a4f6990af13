"""What is reported about a batch of adversarial examples: norms, margins, success, and the curve of success against
distance.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from cwjax.base import AnyArray, Goal, Objective, answered, wide
from cwjax.models import Model
from cwjax.parts.distances import DISTANCES, named
from cwjax.parts.objectives import margin


class Summary(NamedTuple):
    """One row of a results table. Distances are over the successes alone, as in the paper; nan if there are none."""

    examples: int  # attacked
    success_rate: float  # in [0, 1]
    mean: dict[str, float]  # norm -> mean distance
    median: dict[str, float]  # norm -> median distance


def norms(
    x: Float[AnyArray, "B *S"],
    adversarial: Float[AnyArray, "B *S"],
    *,
    per_pixel: bool = True,
    channel_axis: int | None = None,
) -> dict[str, Float[Array, "B"]]:
    """The size of each perturbation in every norm: "l0" (pixels), "l1", "l2" (not squared) and "linf".

    Args:
      x: clean inputs.
      adversarial: the perturbed ones.
      per_pixel: of L0; as in `distances.l0`.
      channel_axis: of L0; as in `distances.l0`: an axis of one input, without the batch.

    Returns:
      By the name of the norm, of each example.

    Raises:
      ValueError: where `distances.channels` does.

    Example:
      >>> {norm: size.tolist() for norm, size in cw.metrics.norms(jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])).items()}
      {'l0': [2.0], 'l1': [7.0], 'l2': [5.0], 'linf': [4.0]}
    """
    changed, clean = jnp.asarray(adversarial), jnp.asarray(x)
    delta = changed.astype(wide(changed)) - clean.astype(wide(clean))
    pixels = {"per_pixel": per_pixel, "channel_axis": channel_axis}
    return {norm: jax.vmap(named(norm, **pixels).measure)(delta) for norm in DISTANCES}


def margins(model: Model, x: Float[AnyArray, "B *S"], goal: Goal) -> Float[Array, "B"]:
    """By how many logits each goal is met (negative: not met), evaluated on x as it is; see `objectives.margin`.

    Args:
      model: from `bind`.
      x: inputs.
      goal: of labels, of each.

    Example:
      >>> print(np.asarray(cw.metrics.margins(model, x, goal)).round(2))  # how far behind the next class is
      [-0.2 -0.3]
    """
    return jax.vmap(lambda x, goal: margin(model(x), goal))(jnp.asarray(x), goal)


def successes(
    model: Model,
    x: Float[AnyArray, "B *S"],
    goal: Goal,
    *,
    confidence: float = 0.0,
    objective: Objective | None = None,
    context: PyTree = None,
) -> Bool[Array, "B"]:
    """Which inputs meet their goal.

    Of a classifier: with a margin of at least `confidence` logits, and more than nothing. This is the test for a saved
    array: no slack for rounding is asked here, because attacks that report success left it.

    Args:
      model: from `bind`.
      x: inputs, as they are.
      goal: of each.
      confidence: in logits; of a classifier alone.
      objective: of another task; its own `met` decides, with its own confidence.
      context: what the model is told besides, as the runner was.

    Example:
      >>> print(cw.metrics.successes(model, x, goal), cw.metrics.successes(model, result.x, goal))
      [False False] [ True  True]
    """

    def met(x, goal, context):
        outputs = model(x, context)
        if objective is not None:
            return objective.met(outputs, goal) & answered(outputs)
        lead = margin(outputs, goal)
        return (lead > 0) & (lead >= confidence)

    return jax.vmap(met)(jnp.asarray(x), goal, context)


def summarise(
    success: Bool[AnyArray, "B"],
    distances: Mapping[str, Float[AnyArray, "B"]],
    *,
    among: Bool[AnyArray, "B"] | None = None,
) -> Summary:
    """Success rate, and mean and median distance over the successes.

    Args:
      success: from a result or from `successes`.
      distances: norm -> distance of each example, from `norms`.
      among: the examples that count; all of them by default.

    Example:
      >>> row = cw.metrics.summarise(np.array([True, True, False]), {"l2": np.array([1.0, 3.0, np.inf])})
      >>> row.examples, round(row.success_rate, 2), row.mean, row.median
      (3, 0.67, {'l2': 2.0}, {'l2': 2.0})
    """
    keep = np.ones(len(success), bool) if among is None else np.asarray(among)
    hit = np.asarray(success) & keep
    values = {name: np.asarray(value)[hit] for name, value in distances.items()}
    return Summary(
        examples=int(keep.sum()),
        success_rate=float(hit.sum() / max(keep.sum(), 1)),
        mean={name: float(value.mean()) if hit.any() else float("nan") for name, value in values.items()},
        median={name: float(np.median(value)) if hit.any() else float("nan") for name, value in values.items()},
    )


def success_curve(
    distance: Float[AnyArray, "B"], thresholds: Float[AnyArray, "T"], *, success: Bool[AnyArray, "B"] | None = None
) -> Float[Array, "T"]:
    """The security evaluation curve: the fraction of examples fooled within each distance. It never falls.

    Args:
      distance: of each example; inf where the attack failed.
      thresholds: distances to read the curve at.
      success: if given, failures count as never fooled whatever their distance.

    Example:
      >>> print(np.asarray(cw.metrics.success_curve(np.array([0.1, 0.3, np.inf]), np.array([0.2, 0.4]))).round(2))
      [0.33 0.67]
    """
    distance, thresholds = jnp.asarray(distance), jnp.asarray(thresholds)
    fooled = jnp.isfinite(distance) if success is None else success & jnp.isfinite(distance)
    return jnp.mean(fooled[None, :] & (distance[None, :] <= thresholds[:, None]), axis=1)
