"""A run in legs: each begins where those before it say, and while nothing is found each begins elsewhere.

A leg that begins where the last one ended finds the same example again. One that begins at `x - delta`, on the other
side of the clean input from the best example, comes to the boundary elsewhere. And one for another class comes to
another boundary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from cwjax.answers import Seen
from cwjax.arguments import check_count
from cwjax.base import Candidate, Count, Problem, closer, found, seldom, wide
from cwjax.loop import Rule
from cwjax.parts.schedules import DOUBT

UNIT = 60  # n² times as many steps make n legs
TRIES = 3  # a leg that is to find a first example has one over this of all steps, at least of a unit, at most a unit
_MOST_POWERS = 12  # of these, so that float32 holds them
_RIVAL = 8  # a hurried leg for another class has one over this of a leg's steps, to find an example
_NEARER = 0.98  # times the best distance, or nearer


class Leg(NamedTuple):
    """One part of a run."""

    number: Int[Array, ""]  # int32: legs before it that ended with an example known
    begun: Int[Array, ""]  # int32: steps of the run before it
    steps: Int[Array, ""]  # int32: that it may take
    start: Float[Array, "*S"]
    farther: Float[Array, ""]  # how much farther it may look: nine times for each leg that found nothing
    lost: Bool[Array, ""]  # whether it begins elsewhere, because none before it found an example
    spread: Float[Array, ""]  # of its `Aim`: three times wider for each leg that found nothing
    rival: Int[Array, ""]  # int32: the place among the likeliest classes of the one that it is for; -1: for any
    within: Float[Array, ""]  # this distance; inf: any


class LegsMemory(NamedTuple):
    """What a run in legs carries from step to step."""

    key: PRNGKeyArray  # []: of this leg
    failed: Int[Array, ""]  # int32: legs that ended without an example
    rivals: Int[Array, ""]  # int32: classes that had a leg of their own
    leg: Leg
    best: Candidate  # of this leg
    rule: Any  # the memory of its rule


def legs_of(steps: Count) -> Int[Array, ""]:
    """How many legs the steps of a run make: √(steps/60), rounded. So 1 of 100, 2 of 150, 4 of 1,000.

    Args:
      steps: of the run.

    Example:
      >>> [int(cw.attacks.fast.legs.legs_of(steps)) for steps in (100, 150, 1000)]
      [1, 2, 4]
    """
    check_count("steps", steps)
    return jnp.maximum(jnp.round(jnp.sqrt(jnp.asarray(steps) / UNIT)), 1).astype(jnp.int32)


def in_legs(
    rule_of: Callable[[Leg], Rule],
    *,
    steps: Count,
    legs: Count,
    clean: int = 1,
    rivals: Callable[[Problem, Seen], Count] = lambda problem, seen: 0,
    hurried: bool = False,
) -> Rule:
    """The rules of several legs of one length, one after the other, as one rule.

    The first legs begin where the problem says; the others on the other side of the clean input from the best example.
    A leg that has to find a first example, and has none after a third of all steps (at least 20, at most 60), is given
    up and does not count. The next begins between the clean input and a random point of the box: a third of the way
    out, and then two thirds. On some networks a run from the clean input never finds an example, and one from elsewhere
    does. The rules go otherwise too in such a leg: see `Leg.spread`, `shrink` and `attacks.FAMILY`.

    After these some classes have one each that begins at the clean input, the likeliest there first. Each has 60 steps,
    if all of them together take no more than a third of the run. In a shorter run there are none, or they are hurried:
    each is to find an example within 0.98 times the best distance, and is given up if it has none after an eighth of a
    leg's steps. One that finds it goes on as a leg like any other; the others do not count.

    A rule is told of the points, the steps and the best example of its own leg alone.

    Args:
      rule_of: the rule of a leg; what it says of the leg may be traced.
      steps: of all legs together; may be traced.
      legs: how many; may be traced.
      clean: how many of them begin where the problem says.
      rivals: how many classes have a leg of their own; a leg's rule has to go for the class (`Leg.rival`), and stay
        within the distance (`Leg.within`).
      hurried: whether they have one in a shorter run too.

    Raises:
      ValueError: a count out of range.

    Example:
      >>> from cwjax.attacks.fast import legs, slide
      >>> margin = cw.losses.softened_margin()
      >>> rule = legs.in_legs(lambda leg: slide.slide("linf", leg, margin), steps=40, legs=2)
      >>> attack = cw.loop.iterated(rule, objective=margin, distance=cw.distances.linf(), steps=40)
      >>> print(np.asarray(jax.jit(cw.batched(attack))(model, keys, x, goal).distance).round(2))
      [0.1  0.15]
    """
    check_count("steps", steps)
    check_count("legs", legs)
    patience = jnp.clip(jnp.asarray(steps) // TRIES, UNIT // TRIES, UNIT)
    of_a_rival = jnp.asarray(steps) // legs // _RIVAL

    def at_ease(most: Count) -> Bool[Array, ""]:
        return UNIT * TRIES * jnp.asarray(most) <= jnp.asarray(steps)

    def asked(problem: Problem, leg: Leg) -> Problem:
        return problem._replace(start=leg.start.astype(problem.x.dtype))

    def begun(key, problem, best, number, failed, rival, most, spent) -> tuple[Float[Array, "*S"], LegsMemory]:
        known, left = found(best), jnp.maximum(jnp.asarray(steps, jnp.int32) - spent, 1)
        challenges = known & (number >= clean) & (number < legs) & (rival < most) & (hurried | at_ease(most))
        across, lost = known & (number >= clean) & ~challenges, ~known & (failed > 0)
        share = left // jnp.maximum(legs - number, 1)
        length = jnp.where(lost, jnp.maximum(share, patience), jnp.where(challenges & at_ease(most), UNIT, share))
        dtype = wide(problem.x)
        start, x, low, high = (each.astype(dtype) for each in (problem.start, problem.x, problem.low, problem.high))
        drawn = low + (high - low) * jax.random.uniform(jax.random.fold_in(key, 1), x.shape, dtype)
        elsewhere = start + jnp.minimum(failed, TRIES - 1) / TRIES * (drawn - start)
        leg = Leg(
            number=number,
            begun=spent,
            steps=jnp.clip(length, 1, left).astype(jnp.int32),
            start=jnp.where(across, 2 * x - best.x.astype(dtype), jnp.where(lost, elsewhere, start)),
            farther=DOUBT ** (2 * jnp.minimum(failed, _MOST_POWERS)).astype(dtype),
            lost=lost,
            spread=jnp.where(lost, DOUBT ** jnp.minimum(failed, _MOST_POWERS), 1).astype(dtype),
            rival=jnp.where(challenges, rival, -1),
            within=jnp.where(challenges, _NEARER * best.distance, jnp.inf).astype(dtype),
        )
        first, memory = rule_of(leg).init(key, asked(problem, leg))
        nothing = Candidate(x=x, distance=jnp.full_like(best.distance, jnp.inf), c=best.c)
        return first, LegsMemory(key, failed, rival + challenges, leg, nothing, memory)

    def init(key, problem):
        zero, none = jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, wide(problem.x))
        return begun(key, problem, Candidate(x=problem.x, distance=none, c=none), zero, zero, zero, zero, zero)

    def move(problem, memory, seen):
        leg, taken = memory.leg, seen.taken - memory.leg.begun
        here = Candidate(x=seen.x, distance=jnp.where(seen.met, seen.distance, jnp.inf), c=memory.best.c)
        best = closer(memory.best, here)
        x, after = rule_of(leg).move(asked(problem, leg), memory.rule, seen._replace(taken=taken, best=best))
        going = memory._replace(best=best, rule=after)

        known = found(seen.best)
        most = rivals(problem, seen)
        over = jnp.where(at_ease(most), taken + 1 >= UNIT, ~found(best) & (taken + 1 >= of_a_rival))
        aside = (leg.rival >= 0) & over
        ends = (taken + 1 >= leg.steps) | (~known & (taken + 1 >= patience)) | aside
        key = jax.random.fold_in(memory.key, 0)
        counts = leg.number + (known & ~aside), memory.failed + ~known, memory.rivals, most
        fresh = key, problem, seen.best, *counts, seen.taken + 1
        return seldom(ends, begun, fresh, (x.astype(wide(problem.x)), going))

    def aim(problem, memory):
        return rule_of(memory.leg).aim(asked(problem, memory.leg), memory.rule)

    return Rule(init=init, move=move, aim=aim)
