"""The fast attacks in L1 and L0: down the loss and the norm by turns, under a weight that is turned at every step."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax import distances
from cwjax.aiming import likeliest, towards
from cwjax.base import Attack, Box, Distance, Objective, Search, found, select
from cwjax.boxes import Bound, projected
from cwjax.checks import check_number
from cwjax.fast import Steps, in_rounds, mirrored
from cwjax.geometry import Number
from cwjax.iterated import Rule, Seen, iterated
from cwjax.losses import negative_margin
from cwjax.proximal import DescentMemory, proximal_descent, width


def fast_l1(
    *, steps: Steps = 300, objective: Objective = negative_margin(), lower: Bound = 0.0, upper: Bound = 1.0
) -> Attack:
    """The smallest L1 norm at a fixed price: minimise `|x' - x|₁ + c·softplus(m(x'))` with c turned at every step; see
    `proximal_descent` for a step and for c, and `mirrored` for what is done with the steps of a long run.

    Args:
      steps: gradients to spend on an example; may be traced. A hundred do; from 170 on there are several rounds.
      objective: m, without a floor where the goal is met.
      lower: the box's lower bound.
      upper: the box's upper bound.
    """

    def one_round(steps):
        rule = proximal_descent("l1", steps, lower, upper)
        return iterated(rule, objective=objective, distance=distances.l1(), lower=lower, upper=upper, steps=steps)

    return in_rounds(one_round, steps)


def fast_l0(
    *,
    steps: Steps = 300,
    objective: Objective = negative_margin(),
    distance: Distance = distances.l0(per_pixel=False),
    removing: float | Float[Array, ""] = 0.1,
    lower: Bound = 0.0,
    upper: Bound = 1.0,
) -> Attack:
    """The fewest changed elements at a fixed price: as `fast_l1`, with the L2/3 norm for a smooth count, and longer
    steps in every other round.

    Away from a label the careful rounds that begin across the clean input go for the second likeliest class there.

    In the last steps of a round, as the paper's L0 attack has it (section VI-B): of the best example the element
    is undone whose slope times change promises to cost least, while the others go on down the slope; where that is no
    example, the element stays for good.

    Args:
      steps: gradients to spend on an example; may be traced.
      objective: one without a floor where the goal is met.
      distance: what is reported and by which the closest example is chosen.
      removing: the share of the steps that goes to removal, in [0, 1).
      lower: the box's lower bound.
      upper: the box's upper bound.
    """
    check_number("removing", removing, least=0, most=1 - 1e-6)

    def one_round(steps):
        going = (1 - removing) * steps
        rule = _elsewhere(_then_removed(proximal_descent("l0", going, lower, upper), going, lower, upper))
        return iterated(rule, objective=objective, distance=distance, lower=lower, upper=upper, steps=steps)

    return in_rounds(one_round, steps, _by_turns)


def _by_turns(rounds: Steps) -> Search:
    """`mirrored`, with a careful and a bold round by turns."""
    search = mirrored(rounds)

    def ask(problem, knob):
        tau = jnp.where(knob.rounds % 2 == 0, 0, jnp.inf).astype(problem.tau.dtype)
        return search.ask(problem, knob)._replace(tau=tau)

    return search._replace(ask=ask)


class ElsewhereMemory(NamedTuple):
    chosen: Int[Array, ""]  # int32: the class to go for; -1: whichever is likeliest
    rule: Any


def _elsewhere(rule: Rule) -> Rule:
    """The rule, for the second likeliest class in a careful round away from a label that begins elsewhere than at the
    clean input: for the likeliest it comes back to the elements that an earlier round has found.
    """

    def init(key, problem):
        start, first = rule.init(key, problem)
        return start, ElsewhereMemory(jnp.int32(-1), first)

    def move(problem, memory, seen):
        again = (problem.goal.sign < 0) & (problem.tau == 0) & (problem.start != problem.x).any()
        second = jnp.where(again, likeliest(seen.logits, problem.goal)[1], -1)
        x, after = rule.move(problem, memory.rule, seen)
        return x, ElsewhereMemory(jnp.where(seen.taken == 0, second, memory.chosen), after)

    return Rule(init=init, move=move, aim=lambda problem, memory: towards(memory.chosen, problem.goal))


class Removal(NamedTuple):
    descent: DescentMemory
    needed: Bool[Array, "*S"]  # elements that could not be removed from the best example
    tried: Bool[Array, "*S"]  # the element that was removed last


def _then_removed(rule: Rule, going: Number, lower: Bound, upper: Bound) -> Rule:
    """The rule, and once it has gone so many steps and there is an example, one element less at a time."""
    box = projected(lower, upper)

    def init(key, problem):
        start, memory = rule.init(key, problem)
        nothing = jnp.zeros(start.shape, bool)
        return start, Removal(descent=memory, needed=nothing, tried=nothing)

    def move(problem, memory, seen):
        x, descent = rule.move(problem, memory.descent, seen)
        late = (seen.taken >= going) & found(seen.best)
        return select(late, _removed(memory, seen, box), (x, memory._replace(descent=descent)))

    return Rule(init=init, move=move)


def _removed(memory: Removal, seen: Seen, box: Box) -> tuple[Float[Array, "*S"], Removal]:
    """The best example less one element, and the memory."""
    clean = seen.x - seen.delta
    best = seen.best.x.astype(clean.dtype) - clean
    improved = (best == seen.delta).all()
    needed = memory.needed | jnp.where(improved, False, memory.tried)
    open_ = (best != 0) & ~needed
    cost = jnp.where(open_, -seen.slope * best, jnp.inf)
    tried = (jnp.arange(cost.size).reshape(cost.shape) == jnp.argmin(cost)) & open_
    farther = box.project(clean + best - jnp.sign(seen.slope) * width(box, clean))
    return jnp.where((best != 0) & ~tried, farther, clean), memory._replace(needed=needed, tried=tried)
