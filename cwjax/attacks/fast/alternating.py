"""An attack in legs of two kinds: within a radius that is turned at every step, and deep.

A radius gets to the boundary in the fewest steps, and a leg that goes far beyond the boundary and shrinks comes back
to other minima. A leg of either kind asks the model the same question, so that both are moves of one rule, and a look
at the model serves whichever it is the turn of: the number of the leg says.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_part
from cwjax.attacks.fast.legs import Course, in_legs, legs_of
from cwjax.attacks.fast.scout import Scout, Scouting, scout
from cwjax.attacks.fast.shrink import proximal_descent
from cwjax.attacks.fast.slide import radius, slid
from cwjax.base import Attack, Count, Objective, found, select, wide
from cwjax.loop import Rule, iterated, steered
from cwjax.parts import distances
from cwjax.parts.losses import negative_margin
from cwjax.parts.norms import TINY, length
from cwjax.parts.schedules import annealed

_LARGEST_C = 1e12  # where the slope is next to none
_LONGER = 3  # towards a label: the steps of a deep leg over those of another,
_ENOUGH = 100  # which has at least these


def alternating_l2(
    *,
    steps: Count = 300,
    objective: Objective = negative_margin(),
    optimizer: optax.GradientTransformation = optax.adam(1.0),
) -> Attack:
    """The smallest L2 norm at a fixed price: legs that keep to the boundary, and deep ones, by turns.

    The first leg, the only one of a short run (see `legs_of`), is within a radius as in `fast_linf`. Away from a
    label a probe tells first whether slopes are to be believed. Where they are, they tell which class is nearest
    (`scout`); where they are not, the leg is a deep one. The next leg is a deep one, see `deep`. Towards a label
    these two start at the clean input; other legs start across it from the best example. None is told how near that
    is (benchmarks/FINDINGS.md).

    Args:
      steps: gradients to spend on an example; may be traced.
      objective: one whose loss keeps falling after the goal is met, such as `negative_margin`. That of f6 is 0
        from there on, and the attack ends slightly farther away.
      optimizer: of the end of deep legs: any Optax transformation of learning rate 1.
    """
    check_part("optimizer", optimizer, optax.GradientTransformation)

    legs = legs_of(steps)

    def attack_of(leg):
        within = steered(
            slid("l2", leg.steps, objective), radius(norm="l2", steps=leg.steps, objective=objective, afar=leg.lost)
        )
        scouts = scout("l2", leg.steps, always=True, objective=objective)
        rule = _either(leg.number % 2 == 1, within, deep(optimizer, leg.steps), scouts, objective)
        return iterated(rule, objective=objective, distance=distances.l2(), steps=leg.steps)

    def plan(goal, number, left):
        reaching = objective.reaches(goal)
        return Course(
            steps=jnp.where(number + 1 >= legs, left, _length(number, legs, steps, reaching)),
            across=~reaching | (number > 1),
        )

    return in_legs(attack_of, plan, steps=steps, informed=False)


def _length(number: Count, legs: Count, steps: Count, reaching: Bool[Array, ""]) -> Int[Array, ""]:
    """The steps of one leg, given its number, where `legs` legs share all steps."""
    each, deep = jnp.asarray(steps) // legs, legs // 2
    short = jnp.maximum(steps // (legs + (_LONGER - 1) * deep), jnp.minimum(each, _ENOUGH))
    long = (steps - (legs - deep) * short) // jnp.maximum(deep, 1)
    return jnp.where(reaching, jnp.where(number % 2 == 1, long, short), each)


def weighed(optimizer: optax.GradientTransformation) -> Rule:
    """Down `|delta|₂² + c·max(loss, 0)`, for a loss that is below 0 where the goal is met: what `descend` does with
    `projected`, in widths of the box too. The optimiser's updates are multiplied by `problem.scale`, and it is not told
    of a step of scale 0.
    """

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        return start, optimizer.init(start / problem.span)

    def move(problem, memory, seen):
        width = problem.span
        gradient = 2 * seen.delta / width + jnp.where(seen.met, 0, problem.c * width * seen.slope)
        updates, after = optimizer.update(gradient, memory, seen.x / width)
        return seen.x + problem.scale * width * jnp.asarray(updates), select(problem.scale == 0, memory, after)

    return Rule(init=init, move=move)


class DeepMemory(NamedTuple):
    far: Any  # of the proximal descent
    near: Any  # of the descent along the boundary
    c: Float[Array, ""]
    since: Int[Array, ""]  # int32: steps along the boundary


def deep(optimizer: optax.GradientTransformation, steps: Count) -> Rule:
    """Three fifths of the steps as `proximal_descent` goes, far beyond the boundary and back; then from the best
    example along the boundary as `weighed` goes.

    c is then at first the weight at which the two slopes are of one length, as they are at a minimum, and is turned as
    `multiplier` turns it.
    """
    going = 0.6 * steps
    far, near = proximal_descent("l2", going), weighed(optimizer)

    def init(key, problem):
        start, first = far.init(key, problem)
        zero = jnp.zeros((), jnp.int32)
        return start, DeepMemory(far=first, near=near.init(key, problem)[1], c=jnp.ones_like(problem.c), since=zero)

    def move(problem, memory, seen):
        far_x, far_memory = far.move(problem, memory.far, seen)

        width, elements = problem.span, jnp.maximum(problem.mask.sum(), 1)
        pulls = 2 * length(seen.delta / width), length(width * seen.slope)
        stationary = jnp.minimum(pulls[0] / jnp.maximum(pulls[1], TINY), _LARGEST_C)
        c = jnp.where(memory.since == 1, stationary, memory.c).astype(memory.c.dtype)
        left = jnp.maximum(steps - going, 1)
        size = 0.5 * seen.best.distance / width / jnp.sqrt(elements) * annealed(1.0, 0.01, memory.since, left)
        back = memory.since == 0  # to the best example
        scale = jnp.where(back | ~found(seen.best), 0, size).astype(problem.scale.dtype)
        near_x, near_memory = near.move(problem._replace(c=c, scale=scale), memory.near, seen)
        near_x = jnp.where(back, seen.best.x.astype(near_x.dtype), near_x)
        r = annealed(0.1, 0.01, memory.since, left)
        turned = c * jnp.exp(jnp.where(seen.met, -r, r))

        late = (seen.taken >= going) & found(seen.best)
        return select(
            late,
            (near_x, memory._replace(near=near_memory, c=turned, since=memory.since + 1)),
            (far_x, memory._replace(far=far_memory)),
        )

    return Rule(init=init, move=move)


class KindsMemory(NamedTuple):
    known: Scouting
    within: Any
    deep: Any


def _either(deeply: Bool[Array, ""], within: Rule, deep: Rule, scouts: Scout, objective: Objective) -> Rule:
    """The deep rule, or that within a radius. Within a radius, away from a label, it goes for the class that the scout
    has chosen; and where the scout does not believe slopes it is the deep one.
    """

    def init(key, problem):
        start, first = within.init(key, problem)
        return start, KindsMemory(scouts.init(problem), first, deep.init(key, problem)[1])

    def move(problem, memory, seen):
        scouted = ~deeply & ~objective.reaches(problem.goal)
        known, told, x = scouts.look(problem, memory.known, seen, scouted)
        inside, after = within.move(problem, memory.within, told)
        shrunk, later = deep.move(problem, memory.deep, told)
        there = jnp.where(deeply | known.doubted, shrunk, inside)
        begun = known.begun >= 0
        after, later = select(begun, (after, later), (memory.within, memory.deep))
        return jnp.where(begun, there, x), KindsMemory(known, after, later)

    return Rule(init=init, move=move, aim=lambda problem, memory: scouts.aim(problem, memory.known))
