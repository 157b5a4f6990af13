"""Objectives put together: all of several, any of several, and what a detector may say."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cwjax.arguments import check_number, check_part
from cwjax.base import Goal, Number, Objective, Outputs, shapes, wide
from cwjax.parts.objectives.classification import positive
from cwjax.parts.objectives.count import raised
from cwjax.values import check_goals


def all_of(objectives: Sequence[Objective], weights: Sequence[Number] | None = None) -> Objective:
    """Every one of several objectives is to be met, each by its own of several outputs:

        f = Σ w_i · max(f_i, 0)

    So one input fools several models (`cwjax.joined`), or a model and its detector (`below`). The outputs are a tuple,
    one for each objective. The goal is a tuple likewise, or one that all of them read. Where all are met, the loss is
    the largest f_i, which is 0 if they are hinged.

    Args:
      objectives: at least one; of each the loss is one number, at most 0 where it is met.
      weights: w_i > 0; 1 if left out. They may be traced.

    Raises:
      ValueError: no objective, or not as many weights; a weight out of range.

    Example:
      >>> both = cw.objectives.all_of([cw.objectives.logit_margin(), cw.objectives.below(0.5)])
      >>> target = cw.LabelGoal(jnp.int32(0), jnp.float32(1))
      >>> round(float(both.loss((jnp.array([1.0, 3.0]), jnp.float32(0.9)), target)), 3)  # 2 logits and 0.4 of the score
      2.4
    """
    several, weighs = _several("all_of", objectives), (1.0,) * len(objectives) if weights is None else tuple(weights)
    if len(weighs) != len(several):
        raise ValueError(f"all_of takes a weight for each of {len(several)} objectives, got {len(weighs)}")
    for weight in weighs:
        check_number("a weight of all_of", weight, least=0, above=True)

    def loss(outputs, goal):
        losses = _each(several, "loss", outputs, goal)
        hinged = [weight * jnp.where(loss <= 0, 0, loss) for weight, loss in zip(weighs, losses, strict=True)]
        largest = functools.reduce(jnp.maximum, losses)
        return jnp.where(largest <= 0, largest, functools.reduce(jnp.add, hinged))

    def met(outputs, goal):
        return functools.reduce(jnp.logical_and, _each(several, "met", outputs, goal))

    return _combined("all_of", several, loss, met)


def any_of(objectives: Sequence[Objective]) -> Objective:
    """At least one of several objectives is to be met, each by its own of several outputs: `f = min f_i`.

    Outputs and goal as for `all_of`.

    Args:
      objectives: at least one.

    Raises:
      ValueError: no objective.

    Example:
      >>> either = cw.objectives.any_of([cw.objectives.logit_margin(), cw.objectives.below(0.5)])
      >>> target = cw.LabelGoal(jnp.int32(0), jnp.float32(1))
      >>> round(float(either.loss((jnp.array([1.0, 3.0]), jnp.float32(0.9)), target)), 3)
      0.4
    """
    several = _several("any_of", objectives)

    def loss(outputs, goal):
        return functools.reduce(jnp.minimum, _each(several, "loss", outputs, goal))

    def met(outputs, goal):
        return functools.reduce(jnp.logical_or, _each(several, "met", outputs, goal))

    return _combined("any_of", several, loss, met)


def below(
    threshold: Number,
    *,
    score: Callable[[Outputs], Float[Array, ""]] = jnp.asarray,
    confidence: Number = 0.0,
    hinged: bool = True,
) -> Objective:
    """A score of the outputs is to be below a threshold, whatever the goal: a detector is not to see the example.

        f = max(score - threshold + kappa, 0)

    Args:
      threshold: the detector's; may be traced.
      score: from the outputs of one example to one number, differentiable; by default the output itself.
      confidence: kappa >= 0, in the unit of the score, raised against rounding; may be traced.
      hinged: whether the loss stays at 0 below the threshold; attacks that go by a loss alone want it to fall on.

    Raises:
      ValueError: a confidence out of range, a threshold that is not finite; at the runner, a score that is not one
        number.

    Example:
      >>> detector = cw.objectives.below(0.5)
      >>> round(float(detector.loss(jnp.float32(0.9), ())), 3), bool(detector.met(jnp.float32(0.4), ()))
      (0.4, True)

    References:
      Carlini & Wagner 2017, "Adversarial examples are not easily detected: bypassing ten detection methods",
        https://arxiv.org/abs/1705.07263
    """
    check_number("threshold", threshold, least=-float("inf"))
    check_number("confidence", confidence, least=0)

    def lag(outputs, goal):
        del goal
        value = jnp.reshape(score(outputs), ())
        return value.astype(wide(value)) - threshold + raised(confidence, value)

    def loss(outputs, goal):
        behind = lag(outputs, goal)
        return positive(behind) if hinged else behind

    def check(outputs: Outputs, goal: Goal) -> None:
        del goal
        value = jax.eval_shape(score, outputs)
        if not hasattr(value, "shape") or value.shape not in ((), (1,)):
            raise ValueError(f"the score of below must be one number, [] or [1], got {shapes(value)}")

    return Objective(
        loss=loss,
        met=lambda outputs, goal: lag(outputs, goal) <= 0,
        confidence=confidence,
        check=check,
        reaches=lambda goal: jnp.array(True),
        logits=None,
    )


def _several(name: str, objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    several = tuple(objectives)
    if not several:
        raise ValueError(f"{name} takes at least one objective, got none")
    for objective in several:
        check_part(f"each objective of {name}", objective, Objective)
    return several


def _goals(several: tuple[Objective, ...], goal: Goal) -> tuple[Goal, ...]:
    """The goal of each: a plain tuple of as many, or the one that all read."""
    return goal if type(goal) is tuple and len(goal) == len(several) else (goal,) * len(several)


def _each(several, what, outputs, goal):
    goals = _goals(several, goal)
    return [getattr(one, what)(out, aim) for one, out, aim in zip(several, outputs, goals, strict=True)]


def _combined(name, several, loss, met) -> Objective:
    def check(outputs: Outputs, goal: Goal) -> None:
        if not isinstance(outputs, tuple | list) or len(outputs) != len(several):
            raise ValueError(
                f"{name} of {len(several)} objectives reads a tuple of {len(several)} outputs, as cwjax.joined returns "
                f"them, got {shapes(outputs)}"
            )
        for one, out, aim in zip(several, outputs, _goals(several, goal), strict=True):
            one.check(out, aim)

    def check_each(outputs: Outputs, goal: Goal) -> None:
        for one, out, aim in zip(several, outputs, _goals(several, goal), strict=True):
            check_goals(one, out, aim)

    return Objective(
        loss=loss,
        met=met,
        confidence=several[0].confidence,
        check=check,
        reaches=lambda goal: functools.reduce(
            jnp.logical_and, [one.reaches(aim) for one, aim in zip(several, _goals(several, goal), strict=True)]
        ),
        logits=None,
        check_goals=check_each,
    )
