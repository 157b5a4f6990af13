"""How an attack that knows of no confidence is given one: by a model that is as hard to fool as if it asked for it."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cwjax.arguments import check_number, check_part
from cwjax.base import Attack, LabelGoal, Number, check_labels_read
from cwjax.models import Model


def confident(attack: Attack, confidence: Number) -> Attack:
    """The attack at a confidence kappa: what it finds meets the goal with a margin of kappa logits.

    It is given a model whose logits are `handicapped`, so that this works whatever the attack goes by: a cross-entropy,
    a ratio of logits, the distances to other classes. With a margin of logits it is the same as a confidence given to
    the objective. Within a transform that chooses targets (`best_target`) each target leads by kappa; around one, it
    leads the label by that.

    Args:
      attack: at confidence 0, or the two add up.
      confidence: kappa >= 0, in logits; may be traced.

    Raises:
      ValueError: a confidence that is negative or not finite.

    Example:
      >>> attack = cw.confident(cw.attacks.fgsm(epsilon=0.2), 0.15)
      >>> result = cw.batched(attack)(model, keys, x, goal)
      >>> result.success.tolist(), cw.metrics.margins(model, x - jnp.sign(x - 0.5) * 0.2, goal).round(2).tolist()
      ([True, False], [0.19999998807907104, -0.09999999403953552])
    """
    check_part("attack", attack, Attack)
    check_number("confidence", confidence, least=0)

    def step(model, problem, state):
        handicap = (model.params, problem.goal, jnp.asarray(confidence))
        return attack.step(Model(_Handicapped(model.apply), handicap), problem, state)

    inner = attack.terms.objective

    def check(outputs, goal):
        check_labels_read(outputs, goal)  # a handicap is of logits
        inner.check(outputs, goal)

    def harder(function):
        return lambda logits, goal: function(handicapped(logits, goal, confidence), goal)

    objective = inner._replace(
        loss=harder(inner.loss), met=harder(inner.met), confidence=inner.confidence + confidence, check=check
    )
    return attack._replace(step=step, terms=attack.terms._replace(objective=objective))


def handicapped(logits: Float[Array, "*B K"], goal: LabelGoal, confidence: Number) -> Float[Array, "*B K"]:
    """The logits with kappa taken from the target's, or added to that of the label that is to be left: they meet the
    goal exactly where the given ones do with a margin of kappa.
    """
    taken = (goal.sign * confidence).astype(logits.dtype)
    return logits - taken[..., None] * jax.nn.one_hot(goal.label, logits.shape[-1], dtype=logits.dtype)


@dataclasses.dataclass(frozen=True)
class _Handicapped:  # a class and not a closure: equal when the inner function is, so that it compiles once
    apply: Callable[..., Array]

    def __call__(self, params, x, *context):
        inner, goal, confidence = params
        logits = self.apply(inner, x, *context)
        return handicapped(logits, goal._replace(label=goal.label[None], sign=goal.sign[None]), confidence)
