"""The fast attacks in L1 and L0: down the loss and the norm by turns, under a weight that is turned at every step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cwjax.answers import Seen
from cwjax.arguments import check_count, check_number
from cwjax.attacks.fast.legs import Course, Leg, equal, in_legs, legs_of
from cwjax.attacks.fast.shrink import DescentMemory, proximal_descent
from cwjax.attacks.fast.threshold import thresholded_descent
from cwjax.base import Attack, Count, Distance, Number, Objective, Problem, found, select
from cwjax.loop import Rule, iterated
from cwjax.parts import distances
from cwjax.parts.losses import negative_margin
from cwjax.problems import clip

_TRIES = 2  # a first example takes longer here than in other norms
_UNIT = 50  # n² times as many steps make n legs
_LONG = 400  # steps: from there on a thresholded leg comes to something


def fast_l1(*, steps: Count = 300, objective: Objective = negative_margin()) -> Attack:
    """The smallest L1 norm at a fixed price: minimise `|x' - x|₁ + c·softplus(m(x'))` with c turned at every step; see
    `proximal_descent` for a step and for c, and `in_legs` for what is done with the steps of a long run. Every
    second leg away from a label, and every third towards one, is bold: steps stay long, and it comes to other minima.

    Args:
      steps: gradients to spend on an example; may be traced. A hundred suffice. A longer run has several legs:
        see `legs_of`.
      objective: m: one whose loss keeps falling after the goal is met, such as `negative_margin`. That of f6 is
        0 from there on, and the attack ends slightly farther away.
    """

    def attack_of(leg):
        rule = proximal_descent("l1", leg.steps, bold=_bold_in_l1(leg, objective))
        return iterated(rule, objective=objective, distance=distances.l1(), steps=leg.steps)

    return in_legs(attack_of, equal(legs_of(steps, _UNIT)), steps=steps, tries=_TRIES, jitter=0.0)


def _bold_in_l1(leg: Leg, objective: Objective) -> Callable[[Problem], Bool[Array, ""]]:
    def bold(problem):
        every = jnp.where(objective.reaches(problem.goal), 3, 2)
        return leg.number % every == every - 1

    return bold


def fast_l0(
    *,
    steps: Count = 300,
    objective: Objective = negative_margin(),
    distance: Distance = distances.l0(),
    removing: Number = 0.1,
) -> Attack:
    """The fewest changed pixels at a fixed price: as `fast_l1`, with the L2/3 norm for a smooth count; every second
    leg is bold, away from a label the first. From 400 steps on half of them are one more leg, as `sigma_zero` goes:
    it finds other elements.

    In the last steps of a leg, as the paper's L0 attack has it (section VI-B): of the best example the element
    is undone whose slope times change promises to cost least, while the others go on down the slope; where that is no
    example, the element stays for good. Not in the leg that goes as `sigma_zero` does.

    Args:
      steps: gradients to spend on an example; may be traced.
      objective: one whose loss keeps falling after the goal is met, such as `negative_margin`. That of f6 is 0
        from there on, and the attack ends slightly farther away.
      distance: what is reported and by which the closest example is chosen. `distances.l0()` counts pixels, as the
        paper does; `distances.l0(per_pixel=False)` counts elements.
      removing: the share of a leg's steps that goes to removal, in [0, 1).
    """
    check_number("removing", removing, least=0, most=1 - 1e-6)
    check_count("steps", steps)
    thresholded = jnp.where(jnp.asarray(steps) >= _LONG, steps // 2, 0)  # of the steps
    legs = legs_of(steps - thresholded, _UNIT)
    last = thresholded_descent(jnp.maximum(thresholded, 1))

    def attack_of(leg):
        going = (1 - removing) * leg.steps
        shrinking = proximal_descent("l0", going, bold=lambda problem: (leg.number % 2 == 0) == ~reaching(problem))
        rule = _either((thresholded > 0) & (steps - leg.begun <= thresholded), last, _then_removed(shrinking, going))
        return iterated(rule, objective=objective, distance=distance, steps=leg.steps)

    def reaching(problem):
        return objective.reaches(problem.goal)

    def plan(goal, number, left):
        del goal
        is_last = (thresholded > 0) & ((number >= legs) | (left <= thresholded))
        shared = (left - thresholded) // jnp.maximum(legs - number, 1)
        return Course(steps=jnp.where(is_last, left, shared), across=~is_last)

    return in_legs(attack_of, plan, steps=steps, tries=_TRIES, jitter=0.0)


class TwoMemories(NamedTuple):
    thresholded: Any
    shrinking: Any


def _either(thresholded: Bool[Array, ""], one: Rule, other: Rule) -> Rule:
    """The thresholded rule, or the other one."""

    def init(key, problem):
        start, first = other.init(key, problem)
        return start, TwoMemories(one.init(key, problem)[1], first)

    def move(problem, memory, seen):
        floored = seen._replace(slope=jnp.where(seen.met, 0, seen.slope))
        x, later = one.move(problem, memory.thresholded, floored)
        shrunk, after = other.move(problem, memory.shrinking, seen)
        return jnp.where(thresholded, x, shrunk), TwoMemories(later, after)

    return Rule(init=init, move=move)


class Undoing(NamedTuple):
    descent: DescentMemory
    needed: Bool[Array, "*S"]  # elements that could not be removed from the best example
    tried: Bool[Array, "*S"]  # the element that was removed last


def _then_removed(rule: Rule, going: Number) -> Rule:
    """The rule for `going` steps; afterwards, if there is an example, each step undoes one of its elements."""

    def init(key, problem):
        start, memory = rule.init(key, problem)
        nothing = jnp.zeros(start.shape, bool)
        return start, Undoing(descent=memory, needed=nothing, tried=nothing)

    def move(problem, memory, seen):
        x, descent = rule.move(problem, memory.descent, seen)
        late = (seen.taken >= going) & found(seen.best)
        return select(late, _removed(problem, memory, seen), (x, memory._replace(descent=descent)))

    return Rule(init=init, move=move)


def _removed(problem: Problem, memory: Undoing, seen: Seen) -> tuple[Float[Array, "*S"], Undoing]:
    """The best example less one element, and the memory."""
    clean = seen.x - seen.delta
    best = seen.best.x.astype(clean.dtype) - clean
    improved = (best == seen.delta).all()
    needed = memory.needed | jnp.where(improved, False, memory.tried)
    open_ = (best != 0) & ~needed
    cost = jnp.where(open_, -seen.slope * best, jnp.inf)
    tried = (jnp.arange(cost.size).reshape(cost.shape) == jnp.argmin(cost)) & open_
    farther = clip(problem, clean + best - jnp.sign(seen.slope) * problem.widths)
    return jnp.where((best != 0) & ~tried, farther, clean), memory._replace(needed=needed, tried=tried)
