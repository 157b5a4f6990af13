"""Outputs that are yes or no, each by itself: one sigmoid output, or several labels at once.

An output z says yes where it is above 0, which is where its sigmoid is above 1/2.
"""

import jax
import jax.numpy as jnp

from cwjax.arguments import check_part
from cwjax.base import Goal, LabelGoal, Number, Objective, Outputs, shapes, wide
from cwjax.goals import LabelsGoal
from cwjax.parts.objectives.classification import logit_margin
from cwjax.parts.objectives.count import Standing, counting, raised


def one_output(objective: Objective = logit_margin()) -> Objective:
    """An objective of two classes, for a model with one sigmoid output z, [] or [1]: that of the logits (0, z).

    `softmax((0, z))` is `(1 - sigmoid(z), sigmoid(z))`, so that class 1 is yes; f1 … f7 and the losses of other attacks
    are then what their formulas say of these two probabilities. Goals are `targeted` and `untargeted` of 0 and 1.

    Args:
      objective: of two logits.

    Raises:
      ValueError: at the runner, outputs that are not one number.

    Example:
      >>> yes = cw.LabelGoal(jnp.int32(1), jnp.float32(1))
      >>> round(float(cw.objectives.one_output().loss(jnp.float32(-2.0), yes)), 3)
      2.0

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A,
        https://arxiv.org/abs/1608.04644
    """
    check_part("objective", objective, Objective)

    def both(output):
        z = jnp.reshape(output, ())
        return jnp.stack([jnp.zeros_like(z), z])

    def check(outputs: Outputs, goal: Goal) -> None:
        if not isinstance(goal, LabelGoal):
            raise TypeError(f"one_output reads a goal of cwjax.targeted or cwjax.untargeted, got {shapes(goal)}")
        if not hasattr(outputs, "shape") or tuple(outputs.shape) not in ((), (1,)):
            raise ValueError(f"one_output reads one number from one input, [] or [1], got {shapes(outputs)}")

    return objective._replace(
        loss=lambda outputs, goal: objective.loss(both(outputs), goal),
        met=lambda outputs, goal: objective.met(both(outputs), goal),
        check=check,
        logits=both,
        check_goals=lambda outputs, goal: objective.check_goals(jax.eval_shape(both, outputs), goal),
    )


def several_labels(confidence: Number = 0.0, *, hinged: bool = True) -> Objective:
    """Some of K labels, each with an output z of its own, are to become what the goal says: f6 for several labels.

    With `m_i = wanted_i·z_i`, by how much label i is what is wanted, and n the number that have to be,

        f = 1/n · Σ max(kappa - m_i, 0)          over the n labels with the largest m_i

    which is 0 exactly where n of them are at least kappa. To reach a set is to have all of them; to leave one is to
    have any one other than it is. Goals come from `goals.labels_reached` and `goals.labels_flipped`.

    Args:
      confidence: kappa >= 0, in logits, raised against rounding; may be traced.
      hinged: whether the loss stays at 0 where the goal is met. Attacks that want a loss that goes on falling come
        nearer without: the fast family, FMN, PGD. Then say False.

    Raises:
      ValueError: a confidence out of range; at the runner, outputs or a goal of another shape.

    Example:
      >>> goal = jax.tree.map(lambda leaf: leaf[0], cw.goals.labels_reached([[True, False]]))
      >>> round(float(cw.objectives.several_labels().loss(jnp.array([-2.0, 1.0]), goal)), 3)  # (2 + 1) / 2
      1.5

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A: f6, for each label,
        https://arxiv.org/abs/1608.04644
    """

    def standing(outputs, goal):
        z = outputs.astype(wide(outputs))
        lags = raised(confidence, outputs) - goal.wanted.astype(z.dtype) * z
        return Standing(lags, goal.wanted != 0, goal.least)

    def check(outputs: Outputs, goal: Goal) -> None:
        if not isinstance(goal, LabelsGoal):
            raise TypeError(
                f"several_labels reads a goal of goals.labels_reached or goals.labels_flipped, got {shapes(goal)}"
            )
        if not hasattr(outputs, "shape") or len(outputs.shape) != 1 or outputs.shape != goal.wanted.shape:
            raise ValueError(
                f"several_labels reads an output for each label of the goal, [{goal.wanted.shape[0]}], from one input, "
                f"got {shapes(outputs)}"
            )

    return counting(
        standing,
        confidence=confidence,
        hinged=hinged,
        check=check,
        reaches=lambda goal: goal.least == jnp.sum(goal.wanted != 0),
    )
