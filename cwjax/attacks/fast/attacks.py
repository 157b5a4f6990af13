"""The fast family: the smallest change in a norm, for a given number of gradients.

A run is a few legs (`in_legs`). In a leg a rule moves the point, and one knob, a radius or a weight, is multiplied by
exp(-r) where the goal is met and by exp(r) where it is not (`turned`). Lengths are measured in the distance to the
boundary that the first slope promises, and then in the best distance found; so no step length has to be chosen for a
network. Norms differ by a row of `FAMILY`. benchmarks/FINDINGS.md has the evidence for each number.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from cwjax.arguments import check_count
from cwjax.attacks.fast.aims import CLASSES, aimed
from cwjax.attacks.fast.legs import Leg, in_legs, legs_of
from cwjax.attacks.fast.scout import scouted
from cwjax.attacks.fast.shrink import remove, shrink, then
from cwjax.attacks.fast.slide import follow, slide
from cwjax.base import Attack, Count, Distance, Objective
from cwjax.loop import Rule, iterated
from cwjax.parts import distances
from cwjax.parts.losses import softened_margin
from cwjax.parts.norms import check_norm

_DEEP = 0.6  # the share of a deep leg's steps that goes far beyond the boundary and back
_REMOVING = 0.1  # the share of a leg's steps in L0 that goes to removal


class Member(NamedTuple):
    """A row of the family.

    Example:
      >>> from cwjax.attacks.fast.attacks import FAMILY
      >>> sorted(FAMILY), FAMILY["l2"].distance().norm
      (['l0', 'l1', 'l2', 'linf'], 'l2')
    """

    distance: Callable[[], Distance]
    rule: Callable[[Leg, Objective, Distance], Rule]  # of a leg; the distance tells what elements cost
    clean: int = 1  # legs that begin at the clean input, before others begin across from the best example
    hurried: bool = False  # whether the likeliest classes have one each, away from a label, in a short run too


def _linf(leg: Leg, objective: Objective, distance: Distance) -> Rule:
    """Within a radius, for the class that a look around says is nearest."""
    return scouted("linf", leg, objective, slide("linf", leg, objective))


def _l2(leg: Leg, objective: Objective, distance: Distance) -> Rule:
    """Within a radius and deep, by turns. A radius gets to the boundary in the fewest steps. A deep leg goes far beyond
    the boundary and comes back to other minima. Where slopes are not to be believed, the first two legs change places.
    A leg that has to find an example where others did not is deep, and one for a class.
    """
    going = _DEEP * leg.steps
    deep = then(shrink("l2", going, lost=leg.lost), follow("l2", leg.steps - going), going)
    second = (leg.number == 1) & ~leg.lost
    instead = (leg.number % 2 == 1) & ~second | leg.lost | (leg.rival >= 0)
    return scouted("l2", leg, objective, slide("l2", leg, objective), deep, instead=instead, swapped=second)


def _l1(leg: Leg, objective: Objective, distance: Distance) -> Rule:
    """Deep; in every second leg with steps that stay long, which come to other minima."""
    bold = (leg.number % 2 == 1) & (leg.rival < 0)
    return shrink("l1", leg.steps, bold=lambda problem: bold, cost=distance.cost, lost=leg.lost)


def _l0(leg: Leg, objective: Objective, distance: Distance) -> Rule:
    """Deep, with the L2/3 norm for a smooth count, and then one pixel undone at a step. Every second leg has steps that
    stay long; away from a label the first.
    """

    def bold(problem):
        return (leg.number % 2 == 0) == ~objective.reaches(problem.goal)

    going, counted = (1 - _REMOVING) * leg.steps, {"cost": distance.cost, "channels": distance.channels}
    return then(shrink("l0", going, bold=bold, lost=leg.lost, **counted), remove(**counted), going)


FAMILY = {
    "l2": Member(distances.l2, _l2, clean=2),
    "linf": Member(distances.linf, _linf, hurried=True),
    "l1": Member(distances.l1, _l1),
    "l0": Member(distances.l0, _l0),
}


def fast(
    norm: str, *, steps: Count = 300, objective: Objective = softened_margin(), distance: Distance | None = None
) -> Attack:
    """The smallest change in L2, L-infinity, L1 or L0 for a given number of gradients.

    The paper's own problem (Carlini & Wagner 2017, sections V and VI), with its knobs turned at every step instead of
    by rounds.

    A hundred gradients suffice. A longer run has several legs (`legs_of`): 2 of 150, 4 of 1,000. Each is of one of the
    norm's rules, and from the second or third on begins across the clean input from the best example. Away from a
    label each of the five likeliest classes has a short leg of its own before those: from 900 gradients on, in
    L-infinity from 135 on. A leg that finds no example is given up after a third of all steps, 60 at the most. The next
    begins elsewhere, with a mean over more classes for a slope; and except in L-infinity with bold steps that the norm
    does not hold back until there is an example.

    Args:
      norm: "l2", "linf", "l1" or "l0".
      steps: gradients to spend on an example; may be traced.
      objective: one whose loss keeps falling after the goal is met, such as `losses.softened_margin`. That of f6 is 0
        from there on, and the attack ends farther away.
      distance: what is reported, and by which the closest example is chosen; by default that of the norm.
        `distances.l0()` counts pixels, as the paper does; `distances.l0(per_pixel=False)` counts elements. What it
        counts is what the attack keeps small, and in L0 and L1 its costs of elements.

    Returns:
      The attack. An example costs exactly `steps` forward and backward passes, or fewer if its distance is 0.

    Raises:
      ValueError, TypeError: arguments that are not that.

    Example:
      >>> result = jax.jit(cw.batched(cw.fast("l2", steps=50)))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(2))  # the least is 0.14 and 0.21
      [0.14 0.21]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", sections V and VI,
        https://arxiv.org/abs/1608.04644
    """
    check_norm(norm, tuple(FAMILY))
    check_count("steps", steps)
    row = FAMILY[norm]
    distance = distance or row.distance()

    def rule_of(leg):
        return aimed(row.rule(leg, objective, distance), leg, objective)

    def rivals(problem, seen):
        others = 0 if objective.logits is None else objective.logits(seen.outputs).size - 1
        return jnp.where(objective.reaches(problem.goal) | (others < 2), 0, min(CLASSES, others))

    rule = in_legs(rule_of, steps=steps, legs=legs_of(steps), clean=row.clean, rivals=rivals, hurried=row.hurried)
    return iterated(rule, objective=objective, distance=distance, steps=steps)
