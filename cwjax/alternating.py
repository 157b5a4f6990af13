"""An attack in rounds of three kinds: within a radius that is turned at every step, under a weight that is, and deep.

A radius gets to where the goal is, a weight follows the boundary once there, and a round that goes far beyond the
boundary and shrinks comes back to other minima than either. A round of any kind asks the model the same question, so
that all are moves of one rule, and a look at the model serves whichever it is the turn of: a problem says by its tau.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from cwjax import distances
from cwjax.aiming import Waiting, aimed, looks, waiting
from cwjax.base import Attack, Objective, Search, found, select, wide
from cwjax.boxes import Bound
from cwjax.checks import check_part
from cwjax.fast import in_rounds, jittered, mirrored
from cwjax.geometry import TINY, annealed, length, unit
from cwjax.iterated import Rule, iterated
from cwjax.losses import negative_margin
from cwjax.multipliers import multiplier
from cwjax.proximal import proximal_descent
from cwjax.radii import Radius, Steps, radius, slid
from cwjax.searches import tracked

_LARGEST_C = 1e12  # where the slope is next to none
_RADIUS, _WEIGHT, _DEEP = 0.0, 1.0, 2.0  # the tau of a problem for a round of that kind
_PROBE, _LEFT = 1.5, 0.5  # how many linearised distances a probe goes, and the largest share of the loss left there
_PROBING = 2  # points that it takes: at the start, and at the probe


def alternating_l2(
    *,
    steps: Steps = 300,
    objective: Objective = negative_margin(),
    optimizer: optax.GradientTransformation = optax.adam(1.0),
    lower: Bound = 0.0,
    upper: Bound = 1.0,
) -> Attack:
    """The smallest L2 norm at a fixed price: rounds that keep to the boundary, and deep ones, by turns.

    The first round, which is the only one below 170 steps, is within a radius as in `fast_linf` towards a label, where
    the way is long, and under a weight as in `fast_l2` away from one; a probe then tells first whether slopes are to be
    believed: where they are, they tell which class is nearest (`aimed`), and where they are not it is a deep round
    (`_any_of`). The next is a deep one, see `deep`. Towards a label these two start at the clean input; other rounds
    start across it from the best example. None is told how near that is (benchmarks/fast_log.md).

    Args:
      steps: gradients to spend on an example; may be traced.
      objective: one without a floor where the goal is met.
      optimizer: of what is under a weight: any Optax transformation of learning rate 1.
      lower: the box's lower bound.
      upper: the box's upper bound.
    """
    check_part("optimizer", optimizer, optax.GradientTransformation)

    def one_round(steps):
        under = aimed(weighed(optimizer), "l2", steps)
        rule = _any_of(slid("l2", steps), under, deep(optimizer, steps, lower, upper))
        attack = iterated(rule, objective=objective, distance=distances.l2(), lower=lower, upper=upper, steps=steps)
        weight = waiting(multiplier(steps=steps), lambda problem: _PROBING + looks(problem, steps))
        return jittered(_afresh(tracked(attack, _knobs(radius(norm="l2", steps=steps), weight))))

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


class DeepMemory(NamedTuple):
    far: Any  # of the proximal descent
    near: Any  # of the descent along the boundary
    c: Float[Array, ""]
    since: Int[Array, ""]  # int32: steps along the boundary


def deep(optimizer: optax.GradientTransformation, steps: Steps, lower: Bound = 0.0, upper: Bound = 1.0) -> Rule:
    """Three fifths of the steps as `proximal_descent` goes, far beyond the boundary and back; then from the best
    example along the boundary as `weighed` goes.

    c is then at first the weight at which the two slopes are of one length, as they are at a minimum, and is turned as
    `multiplier` turns it.
    """
    going = 0.6 * steps
    far, near = proximal_descent("l2", going, lower, upper), weighed(optimizer)

    def init(key, problem):
        start, first = far.init(key, problem)
        zero = jnp.zeros((), jnp.int32)
        return start, DeepMemory(far=first, near=near.init(key, problem)[1], c=jnp.ones_like(problem.c), since=zero)

    def move(problem, memory, seen):
        far_x, far_memory = far.move(problem, memory.far, seen)

        stationary = jnp.minimum(2 * length(seen.delta) / jnp.maximum(length(seen.slope), TINY), _LARGEST_C)
        c = jnp.where(memory.since == 1, stationary, memory.c).astype(memory.c.dtype)
        left = jnp.maximum(steps - going, 1)
        size = 0.5 * seen.best.distance / jnp.sqrt(seen.x.size) * annealed(1.0, 0.01, memory.since, left)
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
    allowed: Float[Array, ""]  # the largest loss at the probe for which the slope is believed
    doubted: Bool[Array, ""]  # whether it was larger
    rules: tuple[Any, Any, Any]  # within a radius, under a weight, deep


def _any_of(within: Rule, under: Rule, deep: Rule) -> Rule:
    """The rule that the problem's tau names; its aim is that of the rule under a weight, where it is the turn of that.

    A round under a weight asks first about a probe, which is farther down the slope than the boundary would be if the
    model were linear. Where half of the loss is left there, as on most digits of a network that was trained to be
    robust and next to none of others, slopes say little of where the boundary is, and the round is a deep one. Either
    then begins at the start.
    """
    rules = (within, under, deep)

    def init(key, problem):
        start, first = within.init(key, problem)
        memories = (first, under.init(key, problem)[1], deep.init(key, problem)[1])
        return start, KindsMemory(allowed=jnp.zeros_like(start, shape=()), doubted=jnp.array(False), rules=memories)

    def move(problem, memory, seen):
        probing = problem.tau == _WEIGHT
        allowed = jnp.where(seen.taken == 0, _LEFT * seen.loss, memory.allowed)
        doubted = jnp.where(seen.taken == 1, seen.loss > allowed, memory.doubted)
        asked = KindsMemory(allowed=allowed, doubted=doubted, rules=memory.rules)
        probe = seen.x - _PROBE * seen.loss / jnp.maximum(length(seen.slope), TINY) * unit(seen.slope)
        there = jnp.where(seen.taken == 0, probe, problem.start.astype(probe.dtype))

        later = seen._replace(taken=jnp.maximum(seen.taken - _PROBING * probing, 0))
        moved = [rule.move(problem, each, later) for rule, each in zip(rules, memory.rules, strict=True)]
        (inside, _), (weighted, _), (shrunk, _) = moved
        kind = jnp.where(probing & doubted, _DEEP, problem.tau)
        x = jnp.where(kind == _DEEP, shrunk, jnp.where(kind == _WEIGHT, weighted, inside))
        after = asked._replace(rules=tuple(after for _, after in moved))
        return select(probing & (seen.taken < _PROBING), (there, asked), (x, after))

    def aim(problem, memory):
        weighted = (problem.tau == _WEIGHT) & ~memory.doubted
        return select(weighted, under.aim(problem, memory.rules[1]), problem.goal)

    return Rule(init=init, move=move, aim=aim)


class Knobs(NamedTuple):
    radius: Radius
    weight: Waiting  # with a `Multiplier`


def _knobs(within: Search, under: Search) -> Search:
    """For `tracked`: both knobs, of which a problem is given the one that it is for, if any."""

    def init(problem):
        return Knobs(within.init(problem), under.init(problem))

    def ask(problem, knob):
        weighted = select(problem.tau == _WEIGHT, under.ask(problem, knob.weight), problem)
        return select(problem.tau == _RADIUS, within.ask(problem, knob.radius), weighted)

    def tell(problem, knob, outcome):
        # `multiplier` looks at loss and slope of the first step only, at which the weight that they are to have is 1.
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
    """`mirrored` with rounds of two kinds: under a weight where a label is to be left, else within a radius; and deep
    ones. Towards a label the first deep round starts where the problem says, too.
    """
    search = mirrored(rounds)

    def ask(problem, knob):
        towards = problem.goal.sign > 0
        plain = problem._replace(scale=jnp.zeros_like(problem.scale))
        asked = select(towards & (knob.rounds < 2), plain, search.ask(problem, knob))
        first = jnp.where(towards, _RADIUS, _WEIGHT)
        return asked._replace(tau=jnp.where(knob.rounds % 2 == 0, first, _DEEP).astype(asked.tau.dtype))

    return search._replace(ask=ask)
