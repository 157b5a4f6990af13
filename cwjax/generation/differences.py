"""Models of one input that are to disagree, as objectives for the attacks. `cw.joined` makes them one model."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cwjax.arguments import check_number
from cwjax.base import Goal, Number, Objective, Outputs, shapes, wide
from cwjax.generation.requirements import Observed
from cwjax.parts.objectives.classification import comparable, positive, rounding_margin
from cwjax.parts.objectives.count import raised


class DifferentialGoal(NamedTuple):
    """What one seed is to reach; read by `disagreement`."""

    label: Int[Array, "..."]  # int32 []: the answer that all models give
    leaves: Float[Array, "..."]  # float32 [M]: 1 for the model that is to leave the label, 0 for the others
    neurons: tuple[Float[Array, "..."], ...]  # of each model, float32 [N]: weights of the neurons to raise


def answers_of(outputs: Outputs) -> tuple[Outputs, ...]:
    """What each model answers, without its neurons.

    Args:
      outputs: of `cw.joined`.

    Returns:
      The outputs of each model.

    Example:
      >>> from cwjax.generation import differences
      >>> said = requirements.Observed(jnp.array([1.0, 0.0]), jnp.zeros(4))
      >>> [each.tolist() for each in differences.answers_of((said, said.outputs))]
      [[1.0, 0.0], [1.0, 0.0]]
    """
    return tuple(each.outputs if isinstance(each, Observed) else each for each in outputs)


def models_disagree(confidence: Number = 0.0, *, hinged: bool = True) -> Objective:
    """Two of several classifiers are to give different answers:

        f = min over classes a of max(min_j l_j(a), min_k -l_k(a)) + kappa,    l_j(a) = max_{i≠a} Z_j,i - Z_j,a

    There is a class that one model says and another does not. While all say the same, f is the least lead that any
    model has. The goal is ignored: pass `cw.untargeted(labels)`.

    Args:
      confidence: kappa >= 0, the lead of either answer in logits, raised against rounding.
      hinged: whether the loss stays at 0 where they disagree; attacks such as FMN come nearer without.

    Raises:
      ValueError: a confidence out of range; at the runner, fewer than two models, or logits of different lengths.

    Example:
      >>> from cwjax.generation import differences
      >>> objective = differences.models_disagree()
      >>> said = (jnp.array([3.0, 0.0]), jnp.array([1.0, 0.0]))  # both say 0, the second by one logit
      >>> round(float(objective.loss(said, ())), 3), bool(objective.met((said[0], -said[1]), ()))
      (1.0, True)

    References:
      Pei et al. 2017, "DeepXplore: automated whitebox testing of deep learning systems",
        https://arxiv.org/abs/1705.06640
    """
    check_number("confidence", confidence, least=0)

    def lag(outputs):
        logits = [comparable(each) for each in answers_of(outputs)]
        margin = jnp.stack([rounding_margin(each) for each in logits])[:, None]
        lags = jnp.stack([_lags(each) for each in logits])
        says, leaves = jnp.min(lags + margin, 0), jnp.min(-lags + margin, 0)
        return jnp.min(jnp.maximum(says, leaves)) + confidence

    def loss(outputs: Outputs, goal: Goal) -> Array:
        del goal
        behind = lag(outputs)
        return positive(behind) if hinged else behind

    def check(outputs: Outputs, goal: Goal) -> None:
        del goal
        _check_several("models_disagree", outputs, 1)

    return _objective(loss, lambda outputs, goal: lag(outputs) <= 0, check, confidence)


def models_apart(tolerance: Number, *, hinged: bool = True) -> Objective:
    """Two of several models of one number are to differ by more than a tolerance: `f = t - (max_j y_j - min_j y_j)`.

    Args:
      tolerance: t > 0; DeepXplore has 0.2 for steering angles.
      hinged: as in `models_disagree`.

    Raises:
      ValueError: a tolerance out of range; at the runner, fewer than two models, or outputs that are no number.

    Example:
      >>> from cwjax.generation import differences
      >>> objective = differences.models_apart(0.2)
      >>> round(float(objective.loss((jnp.array([0.5]), jnp.array([0.6])), ())), 3)  # apart by half of that
      0.1

    References:
      Pei et al. 2017, "DeepXplore: automated whitebox testing of deep learning systems",
        https://arxiv.org/abs/1705.06640
    """
    check_number("tolerance", tolerance, least=0, above=True)

    def lag(outputs):
        values = jnp.stack([each.reshape(()).astype(wide(each)) for each in answers_of(outputs)])
        return tolerance - (jnp.max(values) - jnp.min(values)) + jnp.max(raised(0.0, values))

    def loss(outputs: Outputs, goal: Goal) -> Array:
        del goal
        behind = lag(outputs)
        return positive(behind) if hinged else behind

    def check(outputs: Outputs, goal: Goal) -> None:
        del goal
        _check_several("models_apart", outputs, None)

    return _objective(loss, lambda outputs, goal: lag(outputs) <= 0, check, 0.0)


def disagreement(*, leaving_weight: Number = 1.0, coverage_weight: Number = 0.1) -> Objective:
    """DeepXplore's joint objective, with its sign turned so that it falls (Pei et al. 2017, equations 2 and 3):

        f = -(Σ_{k≠j} Z_k,c - lambda1·Z_j,c + lambda2·Σ_m n_m)

    for the label c, the model j that is to leave it, and a neuron n_m of each model. The goal is met where two models
    give different answers. Outputs are those of `cw.joined`, of models from `observed`; goals are `DifferentialGoal`.

    Args:
      leaving_weight: lambda1, > 0.
      coverage_weight: lambda2, >= 0.

    Example:
      >>> from cwjax.generation import deepxplore
      >>> joint = deepxplore.disagreement(coverage_weight=0.0)
      >>> said = tuple(requirements.Observed(logits, jnp.zeros(2)) for logits in jnp.array([[3.0, 0.0], [1.0, 0.0]]))
      >>> goal = deepxplore.DifferentialGoal(jnp.int32(0), jnp.array([1.0, 0.0]), (jnp.zeros(2), jnp.zeros(2)))
      >>> float(joint.loss(said, goal)), bool(joint.met(said, goal))  # 3 - 1: the first is to leave class 0
      (2.0, False)

    References:
      Pei et al. 2017, "DeepXplore: automated whitebox testing of deep learning systems", equations 2 and 3,
        https://arxiv.org/abs/1705.06640
    """
    check_number("leaving_weight", leaving_weight, least=0, above=True)
    check_number("coverage_weight", coverage_weight, least=0)
    differ = models_disagree()

    def loss(outputs, goal):
        total = jnp.zeros((), jnp.float32)
        for place, (each, weights) in enumerate(zip(outputs, goal.neurons, strict=True)):
            leaves = goal.leaves[place]
            total = total + ((1 - leaves) - leaving_weight * leaves) * each.outputs[goal.label]
            total = total + coverage_weight * jnp.sum(weights * each.values)
        return -total

    def check(outputs: Outputs, goal: Goal) -> None:
        if not isinstance(goal, DifferentialGoal):
            raise TypeError(f"disagreement reads goals from deepxplore.goals_of, got {shapes(goal)}")
        differ.check(outputs, goal)
        if not all(isinstance(each, Observed) for each in outputs) or len(outputs) != len(goal.neurons):
            raise ValueError(
                f"disagreement reads {len(goal.neurons)} models from requirements.observed, got {shapes(outputs)}"
            )

    return differ._replace(loss=loss, check=check)


def _lags(logits: Float[Array, "K"]) -> Float[Array, "K"]:
    """By how much each class is behind the largest other one."""
    own = jnp.eye(logits.shape[0], dtype=bool)
    return jnp.max(jnp.where(own, -jnp.inf, logits[None]), 1) - logits


def _objective(loss, met, check, confidence) -> Objective:
    return Objective(
        loss=loss, met=met, confidence=confidence, check=check, reaches=lambda goal: jnp.array(False), logits=None
    )


def _check_several(name: str, outputs: Outputs, rank: int | None) -> None:
    several = isinstance(outputs, tuple) and not isinstance(outputs, Observed) and len(outputs) > 1
    found: Any = answers_of(outputs) if several else ()
    alike = all(hasattr(each, "shape") for each in found) and len({each.shape for each in found}) == 1
    if not alike or (rank is None and found[0].shape not in ((), (1,))) or (rank and len(found[0].shape) != rank):
        what = "logits [K] of equal length" if rank else "one number each"
        raise ValueError(
            f"{name} reads the outputs of two or more models from cwjax.joined, {what}, got {shapes(outputs)}"
        )
