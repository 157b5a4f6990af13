"""A run in legs: each begins where those before it say, and while nothing is found each begins elsewhere.

A leg that begins where the last one ended finds the same example again. One that begins at `x - delta`, on the other
side of the clean input from the best example, comes to the boundary elsewhere.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from cwjax.arguments import check_count, check_number
from cwjax.base import (
    Attack,
    Candidate,
    Count,
    Goal,
    Problem,
    Progress,
    State,
    closer,
    continued,
    found,
    select,
    untouched,
)
from cwjax.parts.norms import TINY

_MOST_POWERS = 12  # of ten that the weight of a leg is raised by
_LEAST = 25  # steps of a leg that is to find a first example, at the least


class Course(NamedTuple):
    """Of the next leg, by a plan."""

    steps: Count  # that it has
    across: bool | Bool[Array, ""]  # whether it begins across from the best example, or where the problem says


Plan = Callable[[Goal, Int[Array, ""], Int[Array, ""]], Course]
"""(goal, legs so far that ended with an example known, steps left) -> the course of the next leg."""


class Leg(NamedTuple):
    """One part of a run."""

    number: Int[Array, ""]  # int32: legs before it that ended with an example known
    failed: Int[Array, ""]  # int32: and of those that did not
    begun: Int[Array, ""]  # int32: steps of the run before it
    steps: Int[Array, ""]  # int32: that it may take
    lost: Bool[Array, ""]  # whether it begins elsewhere, because none before it found an example
    start: Float[Array, "*S"]
    scale: Float[Array, ""]  # the distance of the example that it begins across from; 0: of none
    c: Float[Array, ""]  # the weight under which that was found; else 1, and ten times more after each leg that failed


class LegsState(NamedTuple):
    key: PRNGKeyArray  # []: of this leg
    leg: Leg
    inner: State  # of its attack
    progress: Progress  # of all legs together


def in_legs(
    attack_of: Callable[[Leg], Attack],
    plan: Plan,
    *,
    steps: Count,
    tries: int = 3,
    informed: bool = True,
    jitter: float = 1.0,
) -> Attack:
    """The attacks of several legs, one after the other, as one attack.

    Where the plan says so, a leg begins on the other side of the clean input from the best example, moved at random. A
    leg that has to find a first example, and has none after its share of all steps (25 at the least), is given up. The
    next begins between the clean input and a random point of the box: with three tries a third of the way out, and
    then two thirds. On some networks a run from the clean input never finds an example, and one from elsewhere does.

    A step is one step of a leg's attack, which asks the model once.

    Args:
      attack_of: the attack of a leg; what it says of the leg may be traced.
      plan: how long legs are, and where they begin.
      steps: of all legs together; may be traced.
      tries: the share of all steps that a leg has for a first example is one over this.
      informed: whether a leg is told what is known, by `problem.scale` and `problem.c`. If not they are 0 and 1.
      jitter: how far a start across is moved, in L2, in distances of the best example. L1 and L0 take 0, because their
        distances are larger than L2's.

    Raises:
      ValueError: a count or a number out of range.
    """
    check_count("steps", steps)
    check_count("tries", tries)
    check_number("jitter", jitter, least=0)
    patience = jnp.maximum(jnp.asarray(steps) // tries, _LEAST)

    def leg_of(problem, key, best, number, failed, begun) -> Leg:
        left = jnp.maximum(jnp.asarray(steps, jnp.int32) - begun, 1)
        course, known = plan(problem.goal, number, left), found(best)
        across = known & course.across
        start, clean, low, high = (
            each.astype(problem.c.dtype) for each in (problem.start, problem.x, problem.low, problem.high)
        )
        drawn = jax.random.uniform(jax.random.fold_in(key, 1), clean.shape, clean.dtype)
        way = jnp.where(problem.mask, drawn - 0.5, 0)
        moved = jitter * best.distance * way / jnp.maximum(jnp.sqrt(jnp.sum(way**2)), TINY)
        other = 2 * clean - best.x.astype(clean.dtype) + jnp.where(known, moved, 0)
        lost = ~known & (failed > 0)
        length = jnp.where(lost, jnp.maximum(course.steps, patience), course.steps)
        share = (jnp.minimum(failed, tries - 1) / tries).astype(clean.dtype)
        elsewhere = start + share * (low + drawn * (high - low) - start)
        return Leg(
            number=number,
            failed=failed,
            begun=begun,
            steps=jnp.clip(length, 1, left).astype(jnp.int32),
            lost=lost,
            start=jnp.where(across, other, jnp.where(known | (failed == 0), start, elsewhere)).astype(problem.x.dtype),
            scale=jnp.where(across, best.distance, 0).astype(problem.scale.dtype),
            c=jnp.where(across, best.c, 10.0 ** jnp.minimum(failed, _MOST_POWERS)).astype(problem.c.dtype),
        )

    def asked(problem: Problem, leg: Leg) -> Problem:
        scale, c = (leg.scale, leg.c) if informed else (jnp.zeros_like(leg.scale), jnp.ones_like(leg.c))
        return problem._replace(start=leg.start, scale=scale, c=c)

    def init(key, problem):
        zero = jnp.zeros((), jnp.int32)
        leg = leg_of(problem, key, untouched(problem).best, zero, zero, zero)
        return LegsState(key, leg, attack_of(leg).init(key, asked(problem, leg)), untouched(problem))

    def step(model, problem, state):
        leg = state.leg
        inner = attack_of(leg).step(model, asked(problem, leg), state.inner)
        before, after = state.inner.progress, inner.progress
        best: Candidate = closer(state.progress.best, after.best)
        known, spent = found(best), state.progress.forwards + 1
        ends = after.done | (~known & (spent - leg.begun >= patience))

        key = jnp.where(ends, jax.random.fold_in(state.key, 0), state.key)
        following = leg_of(problem, key, best, leg.number + known, leg.failed + ~known, spent)
        fresh = attack_of(following).init(key, asked(problem._replace(live=after.live), following))
        over = (spent >= steps) | (best.distance == 0)
        return LegsState(
            key=key,
            leg=select(ends, following, leg),
            inner=select(ends, fresh, inner),
            progress=continued(state.progress, before, after, best=best, over=over),
        )

    count, number = jnp.ones((), jnp.int32), jnp.ones(())
    one = Leg(
        number=count,
        failed=count,
        begun=count,
        steps=count,
        lost=jnp.array(False),
        start=number,
        scale=number,
        c=number,
    )
    return Attack(init=init, step=step, terms=attack_of(one).terms)


def legs_of(steps: Count, unit: int = 75) -> Int[Array, ""]:
    """How many legs the steps of a fast attack make: √(steps/unit), rounded. So 1 of 100, 2 of 170, 4 of 1,000."""
    check_count("steps", steps)
    return jnp.maximum(jnp.round(jnp.sqrt(jnp.asarray(steps) / unit)), 1).astype(jnp.int32)


def equal(legs: Count) -> Plan:
    """So many legs of one length, each across from the best example. Legs that find nothing do not count."""

    def plan(goal, number, left):
        del goal
        return Course(steps=left // jnp.maximum(legs - number, 1), across=True)

    return plan
