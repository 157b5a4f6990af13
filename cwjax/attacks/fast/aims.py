"""Which class a leg goes for, and how much the others count."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cwjax.attacks.fast.legs import TRIES, Leg
from cwjax.base import Goal, LabelGoal, Objective, select
from cwjax.loop import Rule
from cwjax.parts.objectives import in_play

CLASSES = 5  # that are looked at, and that have a leg of their own: the likeliest


class Aim(NamedTuple):
    """A `LabelGoal` that says over which of the other classes its slope is a mean, see `losses.softened_margin`."""

    label: Int[Array, ""]
    sign: Float[Array, ""]
    spread: Float[Array, ""]  # in margins; 0: the slope is that of the strongest other class alone


def towards(label: Int[Array, ""], goal: LabelGoal | Aim) -> Aim:
    """The goal to reach that class, by the slope of its own boundary; the goal that is given where it is -1.

    Args:
      label: a class, or -1.
      goal: of the attack.

    Example:
      >>> away = cw.LabelGoal(jnp.int32(0), jnp.float32(-1))
      >>> aim = cw.attacks.fast.aims.towards(jnp.int32(2), away)
      >>> int(aim.label), float(aim.sign)  # to class 2, and not away from 0
      (2, 1.0)
    """
    given = label < 0
    sign = jnp.where(given, goal.sign, 1)
    return Aim(jnp.where(given, goal.label, label), sign, spread=given.astype(sign.dtype))


def likeliest(logits: Float[Array, "K"], goal: Goal, most: int = CLASSES) -> Int[Array, "C"]:
    """So many classes: those with the largest logits except the goal's own, largest first.

    -1 where there are no more that can win.

    Args:
      logits: of one example.
      goal: whose class is left out.
      most: how many.

    Example:
      >>> away = cw.LabelGoal(jnp.int32(0), jnp.float32(-1))
      >>> cw.attacks.fast.aims.likeliest(jnp.array([4.0, 1.0, 3.0]), away, 3).tolist()
      [2, 1, -1]
    """
    others = jnp.where(jnp.arange(logits.size) == goal.label, -jnp.inf, jnp.where(in_play(logits), logits, -jnp.inf))
    count = min(most, logits.size - 1)
    values, classes = jax.lax.top_k(others, count)
    classes = jnp.where(values > -jnp.inf, classes.astype(jnp.int32), -1)
    return jnp.pad(classes, (0, most - count), constant_values=-1)


class AimedMemory(NamedTuple):
    """What `aimed` carries from step to step."""

    own: Int[Array, ""]  # int32: the class that the leg is for; -1: none
    rule: Any


def aimed(rule: Rule, leg: Leg, objective: Objective) -> Rule:
    """The rule, for the class that the leg is for, with a mean over as many other classes as the leg says.

    A leg for another class (`Leg.rival`) asks about its start, to know which classes are the likeliest there. Then it
    asks again, and the rule begins; for a third of the steps the slope is that of its class. An example of any class
    counts. Where legs before this one found nothing, the slope is a mean over more of the other classes (`Leg.spread`).

    Args:
      rule: it may have an `aim` of its own.
      leg: of the run.
      objective: of the attack; where it knows no logits of classes, the rule is left alone.

    Example:
      >>> from cwjax.attacks.fast import aims, legs, slide
      >>> margin = cw.losses.softened_margin()
      >>> def rule_of(leg):
      ...     return aims.aimed(slide.slide("linf", leg, margin), leg, margin)
      >>> rule = legs.in_legs(rule_of, steps=40, legs=1)
      >>> attack = cw.loop.iterated(rule, objective=margin, distance=cw.distances.linf(), steps=40)
      >>> print(np.asarray(jax.jit(cw.batched(attack))(model, keys, x, goal).distance).round(2))
      [0.1  0.15]
    """
    logits_of = objective.logits
    if logits_of is None:
        return rule

    def init(key, problem):
        start, first = rule.init(key, problem)
        return start, AimedMemory(jnp.int32(-1), first)

    def move(problem, memory, seen):
        logits, for_one = logits_of(seen.outputs), leg.rival >= 0
        if logits.size < 3:  # no class has a leg of its own
            x, after = rule.move(problem, memory.rule, seen)
            return x, memory._replace(rule=after)
        asking = for_one & (seen.taken == 0)
        own = likeliest(logits, problem.goal, CLASSES)[jnp.maximum(leg.rival, 0)]
        x, after = rule.move(problem, memory.rule, seen._replace(taken=seen.taken - for_one))
        still = jnp.where(TRIES * seen.taken < leg.steps, memory.own, -1)
        return select(asking, (seen.x.astype(x.dtype), AimedMemory(own, memory.rule)), (x, AimedMemory(still, after)))

    def aim(problem, memory):
        goal, own = rule.aim(problem, memory.rule), memory.own
        mean = jnp.where(own < 0, getattr(goal, "spread", 1) * leg.spread, 0)
        return towards(own, goal)._replace(spread=mean)

    return Rule(init=init, move=move, aim=aim)
