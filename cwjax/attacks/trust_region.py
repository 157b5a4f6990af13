"""Trust Region (Yao et al. 2019): steps onto the boundary of the nearest class, never longer than a radius."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_count, check_number, check_part
from cwjax.attacks.fast.aims import likeliest, towards
from cwjax.base import Attack, Count, Number, Objective, select, wide
from cwjax.loop import Rule, iterated
from cwjax.parts.losses import negative_margin
from cwjax.parts.norms import TINY, ball, check_norm

_NUDGE, _BEYOND = 1e-4, 1.02  # of the original code: a step is that much longer, in widths of the box and as a share
_GOOD, _BAD = 0.9, 0.5  # of the original code: gains, in logits a width, above which the radius grows or shrinks
_TURN = 1.2  # of the original code: by how much it does
_RADII = {"l2": (0.0005, 0.05), "linf": (0.0001, 0.01)}  # of the original code: the least and the largest


class Way(NamedTuple):
    """Towards a class, from the start."""

    loss: Float[Array, ""]
    slope: Float[Array, "*S"]


class TrustRegionMemory(NamedTuple):
    likely: Int[Array, "C"]  # int32: the classes to choose from, likeliest first; -1: there are no more
    aim: Int[Array, ""]  # int32: the class of the loss at the next point; -1: the likeliest
    chosen: Int[Array, ""]  # int32: the nearest class so far; -1: the likeliest
    way: Way  # to that class
    choosing: Bool[Array, ""]  # whether the next point is still a look at another class
    radius: Float[Array, ""]  # of the next step, at the most
    step: Float[Array, ""]  # how long the last one was, by the model made affine and the radius
    standing: Float[Array, ""]  # the label's logit before it, by the sign of the goal


def trust_region(
    *,
    norm: str = "l2",
    radius: Number = 0.001,
    adaptive: bool = True,
    candidates: int = 9,
    steps: Count = 1000,
    objective: Objective = negative_margin(),
) -> Attack:
    """Trust Region, L2 or L-infinity: steps to the boundary of the model made affine, but never beyond a radius.

    Section 3 of Yao et al. 2019, "Trust region based adversarial attack on neural networks". Away from a label y a
    class t is chosen at the start, once, among the likeliest others:

        t = argmin_k m_k / |∇m_k|_*          m_k = Z_y - Z_k,          |·|_* the dual norm

    Then x moves along the steepest way down m_t, by the distance to the boundary of the model made affine, but by no
    more than a radius:

        x <- x - 1.02·(min(m_t / |∇m_t|_*, radius) + 1e-4)·u(∇m_t)

    until it meets the goal. With `adaptive`, the next radius is the last step's length times 1.2 where the label's
    logit has fallen by more than 0.9 for each width of the box that x moved, that length over 1.2 where it has fallen
    by less than 0.5, and that length otherwise. It stays between 0.0005 and 0.05 in L2, and 0.0001 and 0.01 in
    L-infinity. These numbers are the authors' code's. The paper compares the fall to what the model of the loss
    foretells; their code, as written here and in adv-lib, to the length alone.

    Two differences from the code. A class is chosen by one look at the start for each, all of which count as points.
    A step's effect is read off the next point, so that it costs no pass of its own. Towards a target there is no class
    to choose, and the radius goes by what the target's logit has risen by.

    Args:
      norm: "l2" or "linf".
      radius: of the first step, at the most, > 0, in widths of the box, as all lengths here are.
      adaptive: whether the radius follows the steps. adv-lib's default is not to.
      candidates: classes to choose from, >= 1; nine are the authors' choice.
      steps: points to ask about, at the most, >= 1. It ends at the first that meets the goal. At the default radii a
        way of 1 takes at least 20 steps in L2 and 100 in L-infinity. The authors' example has 2,000, adv-lib 100.
      objective: a margin of logits.

    Raises:
      ValueError: a number out of its range, an unknown norm, or an objective that reads no logits.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.trust_region(radius=0.01)))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(2))  # in steps of 0.01
      [0.14 0.21]

    References:
      Yao et al. 2019, "Trust region based adversarial attack on neural networks", section 3,
        https://arxiv.org/abs/1812.06371
    """
    check_norm(norm, tuple(_RADII))
    check_number("radius", radius, least=0, above=True)
    check_count("candidates", candidates)
    check_part("objective", objective, Objective)
    logits_of = objective.logits
    if logits_of is None:
        raise ValueError("trust_region chooses a class by its logit, and the objective reads no logits: take another")
    space = ball(norm)

    def standing(problem, seen):
        logits = logits_of(seen.outputs)
        return problem.goal.sign * logits[jnp.clip(problem.goal.label, 0, logits.size - 1)]

    def reach(way):
        return way.loss / jnp.maximum(space.dual(way.slope), TINY)

    def init(key, problem):
        start = problem.start.astype(wide(problem.x))
        none, zero = jnp.full((), -1, jnp.int32), jnp.zeros_like(start, shape=())
        memory = TrustRegionMemory(
            likely=jnp.full(candidates, -1, jnp.int32),
            aim=none,
            chosen=none,
            way=Way(zero, jnp.zeros_like(start)),
            choosing=jnp.array(True),
            radius=radius * problem.span.astype(start.dtype),
            step=zero,
            standing=zero,
        )
        return start, memory

    def move(problem, memory, seen):
        first, here = seen.taken == 0, Way(seen.loss, seen.slope)

        # The class: the likeliest is looked at first, and each of the others in its turn.
        likely = jnp.where(first, likeliest(logits_of(seen.outputs), problem.goal, candidates), memory.likely)
        looks = jnp.where(objective.reaches(problem.goal), 1, jnp.sum(likely >= 0))
        nearer = first | (memory.choosing & (reach(here) < reach(memory.way)))
        label = jnp.where(first & ~objective.reaches(problem.goal), likely[0], memory.aim)
        chosen, way = select(nearer, (label, here), (memory.chosen, memory.way))
        more = memory.choosing & (seen.taken + 1 < looks)
        way = select(memory.choosing, way, here)

        # The radius, by what the last step has brought.
        now = standing(problem, seen)
        gained = (now - memory.standing) / jnp.maximum(memory.step, TINY) * problem.span
        turned = jnp.where(gained > _GOOD, _TURN, jnp.where(gained < _BAD, 1 / _TURN, 1)) * memory.step
        least, largest = (bound * problem.span for bound in _RADII[norm])
        follows = adaptive & ~memory.choosing
        allowed = jnp.where(follows, jnp.clip(turned, least, largest), memory.radius)

        step = jnp.minimum(reach(way), allowed)
        # From the point before it was rounded to the input's dtype, in which a step may be less than the last bit.
        x = seen.w - _BEYOND * (step + _NUDGE * problem.span) * space.unit(way.slope)
        after = TrustRegionMemory(
            likely=likely,
            aim=jnp.where(more, likely[jnp.minimum(seen.taken + 1, candidates - 1)], chosen),
            chosen=chosen,
            way=way,
            choosing=more,
            radius=allowed,
            step=step,
            standing=now,
        )
        return jnp.where(more, seen.w, x), after

    return iterated(
        Rule(
            init,
            move,
            over=lambda problem, memory, seen: seen.met,
            aim=lambda problem, memory: towards(memory.aim, problem.goal),
        ),
        objective=objective,
        distance=space.distance,
        steps=steps,
    )
