"""Which class to go for, where any but one will do: the one whose boundary the slopes say is nearest.

Away from a label the loss is that of the likeliest other class, and the class that is likeliest at the clean input is
often not the nearest. DeepFool (Moosavi-Dezfooli et al. 2016) compares the slopes of all classes at every step; here
those of a few are compared once, at the clean input, before a round begins.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cwjax.base import Goal, Knob, Problem, Search, select
from cwjax.checks import check_count, check_part
from cwjax.geometry import TINY, check_norm
from cwjax.iterated import Rule
from cwjax.radii import METRICS, Steps

_CLASSES = 5  # that are looked at: the likeliest
_LEAST = 50  # steps of a round; a shorter one has none to spare


class Preference(NamedTuple):
    """When another class is preferred to the likeliest."""

    clearly: float  # its distance is to be less than this share of the likeliest's, for slopes only promise it
    until: float  # the share of the steps after which the loss is that of whichever class is likeliest


PREFERENCES: Mapping[str, Preference] = {
    "l2": Preference(clearly=0.95, until=1.0),
    "linf": Preference(clearly=0.9, until=0.3),
}
"""By norm. The numbers were found by trial on the networks of the zoo (benchmarks/fast_log.md)."""


class AimMemory(NamedTuple):
    likely: Int[Array, "C"]  # int32: the wrong classes at the clean input, likeliest first; -1: there are no more
    near: Float[Array, ""]  # the distance that a class has to be below
    chosen: Int[Array, ""]  # int32: the class to go for; -1: whichever is likeliest
    aim: Int[Array, ""]  # int32: likewise, at the next point
    rule: Any


def aimed(rule: Rule, norm: str, steps: Steps) -> Rule:
    """The rule; and away from a label, for the class whose boundary would be nearest if the model were linear, where
    that is clearly not the likeliest.

    A round that begins at the clean input spends its first five steps there, on the slopes of the five likeliest
    classes. An example of any class counts.

    Args:
      rule: of an attack whose objective is a margin of logits; an `aim` of its own is not asked for.
      norm: to be small: "l2" or "linf".
      steps: of the round; with less than 50 there is no look at classes.

    Raises:
      ValueError: an unknown norm.
    """
    check_part("rule", rule, Rule)
    check_norm(norm, tuple(PREFERENCES))
    check_count("steps", steps)
    clearly, until = PREFERENCES[norm]
    dual = METRICS[norm].dual

    def init(key, problem):
        start, first = rule.init(key, problem)
        none, likely = jnp.int32(-1), jnp.full(_CLASSES, -1, jnp.int32)
        near = jnp.zeros_like(start, shape=())
        return start, AimMemory(likely=likely, near=near, chosen=none, aim=none, rule=first)

    def aim(problem, memory):
        towards = Goal(label=memory.aim, sign=jnp.ones_like(problem.goal.sign))
        return select(memory.aim < 0, problem.goal, towards)

    def move(problem, memory, seen):
        spent = looks(problem, steps)
        first = seen.taken == 0
        likely = jnp.where(first, _likeliest(seen.logits, problem.goal), memory.likely)
        far = seen.loss / jnp.maximum(dual(seen.slope), TINY)
        nearer = ~first & (memory.aim >= 0) & (far < memory.near)
        near = jnp.where(first, clearly * far, jnp.where(nearer, far, memory.near)).astype(memory.near.dtype)
        chosen = jnp.where(nearer, memory.aim, memory.chosen)
        following = jnp.where(seen.taken + 1 < spent, likely[jnp.minimum(seen.taken + 1, _CLASSES - 1)], chosen)
        looked = AimMemory(likely=likely, near=near, chosen=chosen, aim=following, rule=memory.rule)

        x, moved = rule.move(problem, memory.rule, seen._replace(taken=jnp.maximum(seen.taken - spent, 0)))
        still = jnp.where(seen.taken <= until * steps, memory.chosen, -1)
        gone = memory._replace(aim=still, rule=moved)
        return select(seen.taken < spent, (problem.start.astype(x.dtype), looked), (x, gone))

    return Rule(init=init, move=move, aim=aim)


def looks(problem: Problem, steps: Steps) -> Int[Array, ""]:
    """How many steps of a round go to choosing a class."""
    choice = (problem.goal.sign < 0) & (problem.start == problem.x).all()
    return jnp.where(choice & (jnp.asarray(steps) >= _LEAST), _CLASSES, 0).astype(jnp.int32)


def _likeliest(logits: Float[Array, "K"], goal: Goal) -> Int[Array, "C"]:
    """The classes with the largest logits but for the goal's own, largest first; -1 where there are no more."""
    others = jnp.where(jnp.arange(logits.size) == goal.label, -jnp.inf, logits)
    count = min(_CLASSES, logits.size - 1)
    classes = jax.lax.top_k(others, count)[1].astype(jnp.int32)
    return jnp.pad(classes, (0, _CLASSES - count), constant_values=-1)


class Waiting(NamedTuple):
    taken: Int[Array, ""]  # int32: steps
    knob: Knob


def waiting(search: Search, steps: Callable[[Problem], Int[Array, ""]]) -> Search:
    """For `tracked`: the search, told nothing of the first so many steps of a problem."""

    def tell(problem, knob, outcome):
        told = search.tell(problem, knob.knob, outcome)
        return Waiting(taken=knob.taken + 1, knob=select(knob.taken >= steps(problem), told, knob.knob))

    return Search(
        init=lambda problem: Waiting(jnp.zeros((), jnp.int32), search.init(problem)),
        ask=lambda problem, knob: search.ask(problem, knob.knob),
        tell=tell,
        done=lambda knob: search.done(knob.knob),
    )
