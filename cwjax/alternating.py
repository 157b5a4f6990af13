"""An attack in rounds of two kinds: within a radius that is turned at every step, and under a weight that is.

A radius gets to where the goal is, a weight follows the boundary once there, and the two end in different minima. A
round of either kind asks the model the same question, so that both are moves of one rule, and a look at the model
serves whichever it is the turn of. A problem whose tau is infinite is one for the weight.
"""

from typing import NamedTuple

import jax.numpy as jnp
import optax

from cwjax import distances
from cwjax.base import Attack, Objective, Search, select, wide
from cwjax.boxes import Bound
from cwjax.checks import check_part
from cwjax.fast import in_rounds, mirrored
from cwjax.iterated import Rule, iterated
from cwjax.losses import negative_margin
from cwjax.multipliers import Multiplier, multiplier
from cwjax.radii import Radius, Steps, radius, slid
from cwjax.searches import tracked


def alternating_l2(
    *,
    steps: Steps = 300,
    objective: Objective = negative_margin(),
    optimizer: optax.GradientTransformation = optax.adam(1.0),
    lower: Bound = 0.0,
    upper: Bound = 1.0,
) -> Attack:
    """The smallest L2 norm at a fixed price: rounds under a weight as in `fast_l2`, and within a radius as in
    `fast_linf`, by turns.

    The first round, which is the only one below 170 steps, is under a weight away from a label, and within a radius
    towards one, where the way is longer. Two rounds start at the clean input, and those that follow across it from the
    best example, none of them told how near that is (benchmarks/fast_log.md).

    Args:
      steps: gradients to spend on an example; may be traced.
      objective: one without a floor where the goal is met.
      optimizer: of the rounds under a weight: any Optax transformation of learning rate 1.
      lower: the box's lower bound.
      upper: the box's upper bound.
    """
    check_part("optimizer", optimizer, optax.GradientTransformation)

    def one_round(steps):
        rule = _either(slid("l2", steps), weighed(optimizer))
        attack = iterated(rule, objective=objective, distance=distances.l2(), lower=lower, upper=upper, steps=steps)
        return _afresh(tracked(attack, _both(radius(norm="l2", steps=steps), multiplier(steps=steps))))

    return in_rounds(one_round, steps, _in_turn)


def weighed(optimizer: optax.GradientTransformation) -> Rule:
    """Down `|delta|₂² + c·max(loss, 0)`, for a loss that is below 0 where the goal is met: what `descend` does with
    `projected`. The optimiser's updates are multiplied by `problem.scale`, and it is not told of a step of scale 0.
    """

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        return start, optimizer.init(start)

    def move(problem, memory, seen):
        gradient = 2 * seen.delta + jnp.where(seen.met, 0, problem.c * seen.slope)
        updates, after = optimizer.update(gradient, memory, seen.x)
        return seen.x + problem.scale * jnp.asarray(updates), select(problem.scale == 0, memory, after)

    return Rule(init=init, move=move)


def _either(within: Rule, under: Rule) -> Rule:
    """The rule for problems with a radius, or the one for those with none."""

    def init(key, problem):
        start, first = within.init(key, problem)
        return start, (first, under.init(key, problem)[1])

    def move(problem, memory, seen):
        moved = within.move(problem, memory[0], seen), under.move(problem, memory[1], seen)
        x = jnp.where(jnp.isfinite(problem.tau), moved[0][0], moved[1][0])
        return x, (moved[0][1], moved[1][1])

    return Rule(init=init, move=move)


class Knobs(NamedTuple):
    radius: Radius
    weight: Multiplier


def _both(within: Search, under: Search) -> Search:
    """For `tracked`: both knobs, of which a problem is given the one that it is for."""

    def init(problem):
        return Knobs(within.init(problem), under.init(problem))

    def ask(problem, knob):
        return select(jnp.isfinite(problem.tau), within.ask(problem, knob.radius), under.ask(problem, knob.weight))

    def tell(problem, knob, outcome):
        # `multiplier` looks at loss and slope of the first step only, at which the weight that they are to have is 1
        return Knobs(within.tell(problem, knob.radius, outcome), under.tell(problem, knob.weight, outcome))

    return Search(init=init, ask=ask, tell=tell, done=lambda knob: within.done(knob.radius))


def _afresh(attack: Attack) -> Attack:
    """The attack on the problem as if nothing were known of it but where to start."""

    def forgotten(problem):
        return problem._replace(scale=jnp.zeros_like(problem.scale), c=jnp.ones_like(problem.c))

    return Attack(
        init=lambda key, problem: attack.init(key, forgotten(problem)),
        step=lambda model, problem, state: attack.step(model, forgotten(problem), state),
    )


def _in_turn(rounds: Steps) -> Search:
    """`mirrored` with rounds of either kind, the first under a weight where a label is to be left, else within a
    radius; and one of each before any is mirrored.
    """
    search = mirrored(rounds)

    def ask(problem, knob):
        plain = problem._replace(scale=jnp.zeros_like(problem.scale))
        asked = select(knob.rounds < 2, plain, search.ask(problem, knob))
        under = (knob.rounds + (problem.goal.sign > 0)) % 2 == 0
        return asked._replace(tau=jnp.where(under, jnp.inf, 0).astype(asked.tau.dtype))

    return search._replace(ask=ask)
