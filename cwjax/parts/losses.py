"""Losses of other attacks, as objectives: to be minimised. They go on falling once the goal is met.

For all of them `met` is that of the paper's objectives: the goal is met with the given margin of logits.
"""

import jax
import jax.numpy as jnp

from cwjax.base import Number, Objective
from cwjax.parts.objectives import comparable, in_play, logit_margin, margin, rounding_margin


def label_cross_entropy(confidence: Number = 0.0) -> Objective:
    """The cross-entropy of the label, in nats: towards a target minimised, away from a label maximised.

    Away from a label its negative is the loss.

    f1 (`cross_entropy`) differs away from a label, where it minimises the cross-entropy of the strongest other class.

    Args:
      confidence: kappa >= 0, by how many logits the goal has to be met; may be traced.

    Example:
      >>> loss, target = cw.losses.label_cross_entropy().loss, cw.LabelGoal(jnp.int32(0), jnp.float32(1))
      >>> round(float(loss(jnp.zeros(2), target)), 3)  # log 2
      0.693

    References:
      Szegedy et al. 2014, "Intriguing properties of neural networks", section 4.1, https://arxiv.org/abs/1312.6199
    """

    def loss(logits, goal):
        logits = comparable(logits)
        own = jnp.arange(logits.shape[-1]) == goal.label
        chosen = jnp.where(own.any(), jnp.sum(jnp.where(own, jax.nn.log_softmax(logits), 0)), jnp.nan)
        return -goal.sign.astype(logits.dtype) * chosen

    return logit_margin(confidence)._replace(loss=loss)


def negative_margin(confidence: Number = 0.0) -> Objective:
    """`Z_o - Z_w + kappa`, the logit difference: f6 without its `max(…, 0)`.

    At most zero exactly where the goal is met.

    Args:
      confidence: kappa >= 0, in logits; may be traced.

    Example:
      >>> loss, target = cw.losses.negative_margin().loss, cw.LabelGoal(jnp.int32(0), jnp.float32(1))
      >>> round(float(loss(jnp.array([1.0, 3.0]), target)), 3), round(float(loss(jnp.array([3.0, 1.0]), target)), 3)
      (2.0, -2.0)

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A, f6,
        https://arxiv.org/abs/1608.04644
    """
    return logit_margin(confidence)._replace(loss=lambda logits, goal: _lag(logits, goal, confidence))


def softened_margin(confidence: Number = 0.0) -> Objective:
    """`negative_margin`, but towards a label with a slope that is a mean over the other classes.

    So it is not that of the strongest class alone.

    With the margin m, `Z_o - Z_t + kappa`, and the other classes i in play, the slope is that of

        sum_i w_i Z_i - Z_t        w = softmax(Z / m) over these i, held fixed

    Which class is strongest changes from step to step, and so the slope of the margin jumps, and steps go to and fro
    between the classes. The mean does not jump; the nearer the boundary, the more it is that of the strongest alone.
    Away from a label the slope is that of the margin. A goal may have a field `spread`: the mean is over softmax(Z /
    (spread m)), and where the spread is 0 the slope is that of the margin towards a label too.

    Args:
      confidence: kappa >= 0, in logits; may be traced.

    Example:
      >>> loss, target = cw.losses.softened_margin().loss, cw.LabelGoal(jnp.int32(0), jnp.float32(1))
      >>> print(np.asarray(jax.grad(loss)(jnp.array([1.0, 3.0, 3.0]), target)).round(2))  # both other classes
      [-1.   0.5  0.5]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A, f6,
        https://arxiv.org/abs/1608.04644
    """

    def loss(logits, goal):
        logits = comparable(logits)
        lag = _lag(logits, goal, confidence)
        width = lag * getattr(goal, "spread", 1)
        softened = (goal.sign > 0) & (width > 0)
        target = jnp.arange(logits.shape[-1]) == goal.label
        others = jnp.where(in_play(logits) & ~target, logits, -jnp.inf)
        weights = jax.nn.softmax((others - jnp.max(others)) / jnp.where(softened, width, 1)) - target
        mean = jnp.sum(jax.lax.stop_gradient(weights) * logits)
        return jnp.where(softened, jax.lax.stop_gradient(lag) + mean - jax.lax.stop_gradient(mean), lag)

    return logit_margin(confidence)._replace(loss=loss)


def logits_ratio(confidence: Number = 0.0) -> Objective:
    """The difference-of-logits ratio of Croce & Hein (2020), which does not change when logits are scaled or shifted.

    With the logits sorted, Z_(1) >= Z_(2) >= …, the loss is, away from a label y (their equation 6) and towards t, y
    being the class that stands first among the others (equation 7),

        (Z_y - max_{i≠y} Z_i) / (Z_(1) - Z_(3))          (Z_y - Z_t) / (Z_(1) - (Z_(3) + Z_(4))/2)

    In the targeted form they take the true label for y. A goal holds no true label when it is targeted, so that the
    strongest other class stands for it. At a confidence kappa the numerator is that plus kappa, so that the loss is at
    most zero exactly where the goal is met.

    The formula needs the classes that it sorts, three away from a label and four towards one. With fewer of them, those
    that are switched off not counted (`objectives.in_play`), it is constant and so blind. The loss is then
    `negative_margin`, the numerator alone.

    Args:
      confidence: kappa >= 0, in logits; may be traced.

    Example:
      >>> loss, away = cw.losses.logits_ratio().loss, cw.LabelGoal(jnp.int32(0), jnp.float32(-1))
      >>> logits = jnp.array([5.0, 3.0, 1.0])
      >>> round(float(loss(logits, away)), 3), round(float(loss(10 * logits + 7, away)), 3)  # (5 - 3) / (5 - 1)
      (0.5, 0.5)

    References:
      Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks", equations 6 and 7, https://arxiv.org/abs/2003.01690
    """

    def loss(logits, goal):
        logits = comparable(logits)
        first, _, third, fourth = jnp.pad(jax.lax.top_k(logits, min(4, logits.size))[0], (0, max(4 - logits.size, 0)))
        towards = goal.sign > 0
        spread = jnp.where(towards, first - (third + fourth) / 2, first - third) + jnp.asarray(1e-12, logits.dtype)
        enough = jnp.sum(in_play(logits)) >= jnp.where(towards, 4, 3)
        return _lag(logits, goal, confidence) / jnp.where(enough, spread, 1)

    return logit_margin(confidence)._replace(loss=loss)


def _lag(logits, goal, confidence):
    """By how much the wanted class lags behind, with the goal made harder by the confidence, as in the objectives."""
    logits = comparable(logits)
    return confidence + rounding_margin(logits) - margin(logits, goal)
