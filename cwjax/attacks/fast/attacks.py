"""The fast family: the paper's own problem, with its knobs turned at every step, for a given number of gradients.

Lengths are measured in the distance to the boundary that the first gradient promises, and then in the best distance
found; weights in those of the linearised problem. So no step length has to be chosen for a network. The constants that
are left were found by trial on the networks of the zoo (benchmarks/FINDINGS.md).
"""

import optax

from cwjax.attacks.fast.legs import equal, in_legs, legs_of
from cwjax.attacks.fast.scout import aimed
from cwjax.attacks.fast.slide import radius, slid
from cwjax.base import Attack, Box, Count, Objective
from cwjax.descent import descend
from cwjax.loop import iterated, steered
from cwjax.parts import distances
from cwjax.parts.aborts import never
from cwjax.parts.boxes import projected
from cwjax.parts.losses import negative_margin
from cwjax.parts.objectives import logit_margin
from cwjax.search.rounds import tracked
from cwjax.search.weight import multiplier


def fast_l2(
    *,
    steps: Count = 300,
    objective: Objective = logit_margin(),
    box: Box = projected(),
    optimizer: optax.GradientTransformation = optax.adam(1.0),
) -> Attack:
    """The L2 attack at a fixed price: minimise `|x' - x|₂² + c·f(x')` with c and the length of a step turned at every
    step.

    Carlini & Wagner's problem (section VI-A), with f6 and projected descent by Adam; see `multiplier` for the knobs and
    `in_legs` for what it does with the steps of a long run. Towards a target, and with a network trained to be robust,
    `alternating_l2` comes nearer.

    Args:
      steps: gradients to spend on an example; may be traced. A hundred suffice. A longer run has several legs:
        see `legs_of`.
      objective: f. One whose loss is 0 as soon as the goal is met, such as f6.
      box: how the iterate stays valid. One whose variable is the image, such as `projected`: steps are lengths in it,
        and with the change of variables a hundred end three times as far away.
      optimizer: any Optax transformation of learning rate 1; the search turns the length of its steps.
    """
    parts = {"objective": objective, "distance": distances.l2(), "box": box, "optimizer": optimizer}

    def attack_of(leg):
        return tracked(descend(steps=leg.steps, abort=never(), **parts), multiplier(steps=leg.steps))

    return in_legs(attack_of, equal(legs_of(steps)), steps=steps)


def fast_linf(*, steps: Count = 300, objective: Objective = negative_margin()) -> Attack:
    """The smallest L-infinity radius at a fixed price: steps along signs within a radius tau that is turned at every
    step, as the paper's L-infinity attack turns it round by round (section VI-C); see `radius` and `in_legs`, and
    `aimed` for the class to go for away from a label.

    Args:
      steps: gradients to spend on an example; may be traced.
      objective: one whose loss keeps falling after the goal is met, such as `negative_margin`. That of f6 is 0
        from there on, and the attack ends slightly farther away.
    """

    def attack_of(leg):
        turned = radius(norm="linf", steps=leg.steps, objective=objective, afar=leg.lost)
        rule = aimed(steered(slid("linf", leg.steps, objective), turned), "linf", leg.steps, objective)
        return iterated(rule, objective=objective, distance=distances.linf(), steps=leg.steps)

    return in_legs(attack_of, equal(legs_of(steps)), steps=steps)
