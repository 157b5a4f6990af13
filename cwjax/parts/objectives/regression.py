"""Outputs that are numbers: to bring them to a value, or away from one."""

import jax.numpy as jnp

from cwjax.base import Goal, Number, Objective, Outputs, shapes, wide
from cwjax.goals import ValueGoal
from cwjax.parts.objectives.count import Standing, counting, raised


def tolerance(confidence: Number = 0.0, *, hinged: bool = True) -> Objective:
    """Outputs y, a number or an array of them, are to come within a tolerance t of the value v, or to leave it.

        to reach:  f = mean over i of max(|y_i - v_i| - t_i + kappa, 0)
        to leave:  f = min over i of max(t_i + kappa - |y_i - v_i|, 0)

    With a side, `y_i - v_i` or `v_i - y_i` stands for |y_i - v_i|.

    0 exactly where the goal is met. At `y = v` the slope of |y - v| is that of y - v, so that an attack that starts at
    the value itself knows where to go. Goals come from `goals.value_reached` and `goals.value_left`.

    Args:
      confidence: kappa >= 0, in the unit of the outputs, raised against rounding; may be traced.
      hinged: whether the loss stays at 0 where the goal is met. Attacks that want a loss that goes on falling come
        nearer without: the fast family, FMN, PGD. Then say False.

    Raises:
      ValueError: a confidence out of range; at the runner, outputs or a goal of another shape.

    Example:
      >>> goal = jax.tree.map(lambda leaf: leaf[0], cw.goals.value_left(jnp.zeros(1), 0.5))
      >>> round(float(cw.objectives.tolerance().loss(jnp.float32(0.2), goal)), 3)  # 0.3 to go
      0.3

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A: f6, for a number,
        https://arxiv.org/abs/1608.04644
    """

    def standing(outputs, goal):
        y = outputs.astype(wide(outputs))
        off = y - goal.value.astype(y.dtype)
        side = goal.side.astype(y.dtype)
        distance = jnp.where(side == 0, jnp.where(off >= 0, off, -off), side * off)
        beyond = goal.sign.astype(y.dtype) * (distance - goal.tolerance.astype(y.dtype))
        least = jnp.where(goal.sign > 0, y.size, 1)
        return Standing(raised(confidence, outputs) + beyond, jnp.ones(y.shape, bool), least)

    def check(outputs: Outputs, goal: Goal) -> None:
        if not isinstance(goal, ValueGoal):
            raise TypeError(f"tolerance reads a goal of goals.value_reached or goals.value_left, got {shapes(goal)}")
        if not hasattr(outputs, "shape") or outputs.shape != goal.value.shape:
            raise ValueError(
                f"tolerance reads outputs of the shape of the goal's values, {list(goal.value.shape)}, from one input, "
                f"got {shapes(outputs)}"
            )

    return counting(standing, confidence=confidence, hinged=hinged, check=check, reaches=lambda goal: goal.sign > 0)
