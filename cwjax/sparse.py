"""The fast attacks in L1 and L0: down the loss and the norm by turns, under a weight that is turned at every step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cwjax import distances
from cwjax.base import Attack, Distance, Objective, Search, found, wide
from cwjax.boxes import Bound, projected
from cwjax.checks import check_number, check_part
from cwjax.fast import Steps, in_rounds, mirrored
from cwjax.geometry import TINY, Number, annealed, check_norm, unit
from cwjax.iterated import Rule, Seen, iterated
from cwjax.losses import negative_margin
from cwjax.proximal import Adam, adam, shrunk

_DECAY = 0.5  # of Adam's mean
_LIMITS_OF_C = (1e-3, 1e12)
_TURN = {
    "l2": (0.2, 0.05),
    "l1": (0.3, 0.05),
    "l0": (0.2, 0.05),
}  # by how much log c changes at the first step and the last
_SOFTNESS = 0.5  # what m/M is multiplied by: the smaller, the farther beyond the boundary the loss still pulls


class Temper(NamedTuple):
    """Of a round."""

    first: float | Float[Array, ""]  # step, in widths of the box
    last: float | Float[Array, ""]
    c: float | Float[Array, ""]  # the first weight of the loss: the larger, the deeper a round goes before it returns


_CAREFUL = Temper(first=0.2, last=0.005, c=100.0)
_BOLD = Temper(first=1.0, last=0.2, c=10.0)


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

    return in_rounds(one_round, steps, noise=0.0)


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

    In the last steps of a round then, as the paper's L0 attack has it (section VI-B): of the best example the element
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
    check_part("objective", objective, Objective)
    check_part("distance", distance, Distance)
    check_number("removing", removing, least=0, most=1 - 1e-6)

    def one_round(steps):
        going = (1 - removing) * steps
        rule = _then_removed(proximal_descent("l0", going, lower, upper), going, lower, upper)
        return iterated(rule, objective=objective, distance=distance, lower=lower, upper=upper, steps=steps)

    return in_rounds(one_round, steps, _by_turns, noise=0.0)


def _by_turns(rounds: Steps) -> Search:
    """`mirrored`, with a careful and a bold round by turns."""
    search = mirrored(rounds)

    def ask(problem, knob):
        tau = jnp.where(knob.rounds % 2 == 0, 0, jnp.inf).astype(problem.tau.dtype)
        return search.ask(problem, knob)._replace(tau=tau)

    return search._replace(ask=ask)


class DescentMemory(NamedTuple):
    adam: Adam
    c: Float[Array, ""]
    margin: Float[Array, ""]  # the loss at the first point of the round: what the others are measured in


def proximal_descent(norm: str, steps: Number, lower: Bound = 0.0, upper: Bound = 1.0) -> Rule:
    """Down `|delta| + c·softplus(m)`, m being the loss: a step of Adam down the second alone, and then the proximal
    operator of the norm in Adam's metric (`shrunk`), as PDPGD does (Matyasko & Chau 2021).

    Nothing here depends on the scale of the logits or of the box: the softplus is of m/M, M being the loss at the first
    point, slopes are of length one, and a step moves each element by a share of the box, which falls along a cosine.
    c is multiplied by exp(-r) where the goal is met and by exp(r) where it is not, r falling along a cosine. It is
    large at first: a round goes deep, in many elements, and then shrinks them. On a network that was trained to be
    robust that comes to where attacks that start with few elements never do.

    A problem whose tau is infinite is one for a round in which steps stay long (`_BOLD`).

    Args:
      norm: "l2", "l1" or "l0".
      steps: over which steps grow short.
      lower: the box's lower bound.
      upper: the box's upper bound.

    Raises:
      ValueError: an unknown norm.
    """
    check_norm(norm, tuple(_TURN))
    box = projected(lower, upper)

    def temper(problem):
        bold = jnp.isinf(problem.tau)
        return Temper(*(jnp.where(bold, *both) for both in zip(_BOLD, _CAREFUL, strict=True)))

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        return start, DescentMemory(
            adam=adam(start), c=jnp.asarray(temper(problem).c, start.dtype), margin=jnp.zeros_like(start, shape=())
        )

    def move(problem, memory, seen):
        clean, width = seen.x - seen.delta, _width(box, seen.x)
        margin = jnp.where(seen.taken == 0, jnp.abs(seen.loss), memory.margin)
        slope = jax.nn.sigmoid(_SOFTNESS * seen.loss / jnp.maximum(margin, TINY)) * unit(seen.slope)
        state = memory.adam.update(slope, seen.taken, _DECAY)

        def clipped(share):
            return (box.project(clean + width * share) - clean) / width

        turn = annealed(*_TURN[norm], seen.taken, steps)
        c = jnp.clip(memory.c * jnp.exp(jnp.where(seen.met, -turn, turn)), *_LIMITS_OF_C)
        step = annealed(temper(problem).first, temper(problem).last, seen.taken, steps)
        target = clipped(seen.delta / width - step * state.step(seen.taken, _DECAY))
        largest = jnp.max(state.divisor)
        share = shrunk(norm, target, metric=state.divisor / largest, weight=step / (largest * c), clipped=clipped)
        return clean + width * share, DescentMemory(adam=state, c=c, margin=margin)

    return Rule(init=init, move=move)


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
        going_x, descent = rule.move(problem, memory.descent, seen)
        removed_x, after = _removed(memory, seen, box)
        late = (seen.taken >= going) & found(seen.best)
        return jnp.where(late, removed_x, going_x), Removal(
            descent=descent,
            needed=jnp.where(late, after.needed, memory.needed),
            tried=jnp.where(late, after.tried, memory.tried),
        )

    return Rule(init=init, move=move)


def _removed(memory: Removal, seen: Seen, box) -> tuple[Float[Array, "*S"], Removal]:
    """The best example less one element, and the memory."""
    clean = seen.x - seen.delta
    best = seen.best.x.astype(clean.dtype) - clean
    improved = (best == seen.delta).all()
    needed = memory.needed | jnp.where(improved, False, memory.tried)
    open_ = (best != 0) & ~needed
    cost = jnp.where(open_, -seen.slope * best, jnp.inf)
    tried = (jnp.arange(cost.size).reshape(cost.shape) == jnp.argmin(cost)) & open_
    farther = box.project(clean + best - jnp.sign(seen.slope) * _width(box, clean))
    return jnp.where((best != 0) & ~tried, farther, clean), memory._replace(needed=needed, tried=tried)


def _width(box, like: Float[Array, "*S"]) -> Float[Array, ""]:
    """Of the box, where it is widest."""
    low, high = (box.project(jnp.full_like(like, end)) for end in (-jnp.inf, jnp.inf))
    return jnp.max(high - low)
