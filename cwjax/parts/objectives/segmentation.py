"""Outputs that are logits of every pixel."""

import jax
import jax.numpy as jnp

from cwjax.base import Goal, LabelGoal, Number, Objective, Outputs, shapes
from cwjax.goals import PixelsGoal
from cwjax.parts.objectives.classification import comparable, margin, rounding_margin
from cwjax.parts.objectives.count import Standing, counting


def pixels(confidence: Number = 0.0, *, hinged: bool = True) -> Objective:
    """A share of the pixels is to be labelled as the goal says, or otherwise than it says.

    With m_p the margin of pixel p, as in `objectives.margin`, and n the number of pixels that have to,

        f = 1/n · Σ max(kappa - m_p, 0)          over the n counted pixels with the largest m_p

    0 exactly where n of them are met by kappa. Outputs are logits [..., K]. Goals come from `goals.pixels_reached` and
    `goals.pixels_left`, which say which pixels count and what share of them is asked for.

    Args:
      confidence: kappa >= 0, in logits, raised against rounding; may be traced.
      hinged: whether the loss stays at 0 where the goal is met. Attacks that want a loss that goes on falling come
        nearer without: the fast family, FMN, PGD. Then say False.

    Raises:
      ValueError: a confidence out of range; at the runner, outputs or a goal of another shape.

    Example:
      >>> goal = jax.tree.map(lambda leaf: leaf[0], cw.goals.pixels_reached([[[1, 1]]], share=0.5))
      >>> logits = jnp.array([[[3.0, 0.0], [2.0, 1.0]]])  # two pixels say 0, by 3 logits and by 1
      >>> round(float(cw.objectives.pixels().loss(logits, goal)), 3)  # one of them has to turn, so the nearer
      1.0

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A: f6, at each pixel,
        https://arxiv.org/abs/1608.04644
    """

    def standing(outputs, goal):
        logits = comparable(outputs.reshape(-1, outputs.shape[-1]))

        def lag(logits, label):
            one = LabelGoal(label=label, sign=goal.sign)
            return confidence + rounding_margin(logits) - margin(logits, one)

        behind, counted = jax.vmap(lag)(logits, goal.label.ravel()), goal.counted.ravel()
        return Standing(behind, counted, least_of(goal.share, counted.sum()))

    def check(outputs: Outputs, goal: Goal) -> None:
        if not isinstance(goal, PixelsGoal):
            raise TypeError(f"pixels reads a goal of goals.pixels_reached or goals.pixels_left, got {shapes(goal)}")
        fits = hasattr(outputs, "shape") and outputs.shape[:-1] == goal.label.shape and outputs.shape[-1:] >= (2,)
        if not fits:
            wanted = ", ".join(map(str, (*goal.label.shape, "K")))
            raise ValueError(f"pixels reads logits [{wanted}] with K >= 2 from one input, got {shapes(outputs)}")

    return counting(
        standing,
        confidence=confidence,
        hinged=hinged,
        check=check,
        reaches=lambda goal: goal.sign > 0,
        check_goals=_check_goals,
    )


def _check_goals(outputs: Outputs, goal: PixelsGoal) -> None:
    classes, label = outputs.shape[-1], goal.label[goal.counted]
    if label.min() < 0 or label.max() >= classes:
        raise ValueError(
            f"labels of pixels that count span {label.min()}…{label.max()}, but the model has classes 0…{classes - 1}"
        )


def least_of(share, count):
    """How many of `count` make that share of them: rounded up, and at least one."""
    exact = share * count
    return jnp.maximum(jnp.ceil(exact - 1e-6 * jnp.maximum(exact, 1)), 1).astype(jnp.int32)
