"""The fast attacks in L1 and L0: down the loss and the norm by turns, under a weight that is turned at every step."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax import distances
from cwjax.base import Attack, Distance, Objective, found, wide
from cwjax.boxes import Bound, projected
from cwjax.checks import check_number, check_part
from cwjax.fast import Steps, in_rounds, mirrored
from cwjax.geometry import TINY, Number, annealed, unit
from cwjax.iterated import Rule, Seen, iterated
from cwjax.losses import negative_margin
from cwjax.proximal import Adam, adam, shrunk

_DECAY = 0.5  # of Adam's mean
_STEPS = (0.2, 0.005)  # the first and the last, in widths of the box
_LONGER = 2.5  # times are those of every other round in L0
_FIRST_C, _LIMITS_OF_C = 100.0, (1e-3, 1e12)  # the weight of the loss: large at first, for a deep example
_TURN = {"l1": (0.3, 0.05), "l0": (0.2, 0.05)}  # by how much its logarithm changes at the first step and at the last
_DEEP = 0.5  # the softer the loss, the deeper a round goes before it comes back to the boundary


def fast_l1(
    *, steps: Steps = 300, objective: Objective = negative_margin(), lower: Bound = 0.0, upper: Bound = 1.0
) -> Attack:
    """The smallest L1 norm at a fixed price: minimise `|x' - x|₁ + c·softplus(m(x'))` with c turned at every step; see
    `sparse` for a step, `weight` for c, and `mirrored` for what is done with the steps of a long run.

    Args:
      steps: gradients to spend on an example; may be traced. A hundred do; from 170 on there are several rounds.
      objective: m, without a floor where the goal is met.
      lower: the box's lower bound.
      upper: the box's upper bound.
    """

    def one_round(steps):
        rule = sparse("l1", steps, lower, upper)
        return iterated(rule, objective=objective, distance=distances.l1(), lower=lower, upper=upper, steps=steps)

    return _in_rounds(one_round, steps, longer=1.0)


def fast_l0(
    *,
    steps: Steps = 300,
    objective: Objective = negative_margin(),
    distance: Distance = distances.l0(per_pixel=False),
    removing: float | Float[Array, ""] = 0.1,
    lower: Bound = 0.0,
    upper: Bound = 1.0,
) -> Attack:
    """The fewest changed elements at a fixed price: as `fast_l1`, with the L2/3 norm for a smooth count.

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
        rule = _then_removed(sparse("l0", going, lower, upper), going, lower, upper)
        return iterated(rule, objective=objective, distance=distance, lower=lower, upper=upper, steps=steps)

    return _in_rounds(one_round, steps, longer=_LONGER)


def _in_rounds(one_round: Callable[[Int[Array, ""]], Attack], steps: Steps, longer: float) -> Attack:
    """Rounds across the clean input from the best example, every other one with steps so much longer."""

    def strides(rounds):
        search = mirrored(rounds)

        def ask(problem, knob):
            scale = jnp.where(knob.rounds % 2 == 0, 1, longer).astype(problem.scale.dtype)
            return search.ask(problem, knob)._replace(scale=scale)

        return search._replace(ask=ask)

    return in_rounds(one_round, steps, strides, noise=0.0)


class SparseMemory(NamedTuple):
    adam: Adam
    c: Float[Array, ""]
    margin: Float[Array, ""]  # the loss at the first point of the round: what the others are measured in


def sparse(norm: str, steps: Number, lower: Bound = 0.0, upper: Bound = 1.0) -> Rule:
    """Down `|delta| + c·softplus(m)`, m being the loss: a step of Adam down the second alone, and then the proximal
    operator of the norm in Adam's metric (`shrunk`), as PDPGD does (Matyasko & Chau 2021).

    Slopes are of length one times `sigmoid(m/2M)`, with M the loss at the first point; and so the weight at which the
    two terms are alike does not depend on the scale of the logits. A step in each element falls along a cosine from a
    fifth of the box to little. The weight is `problem.c`.

    Args:
      norm: "l1" or "l0".
      steps: over which steps grow short.
      lower: the box's lower bound.
      upper: the box's upper bound.
    """
    box = projected(lower, upper)

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        return start, SparseMemory(
            adam=adam(start), c=jnp.full_like(start, _FIRST_C, shape=()), margin=jnp.zeros_like(start, shape=())
        )

    def move(problem, memory, seen):
        clean, width = seen.x - seen.delta, _width(box, seen.x)
        margin = jnp.where(seen.taken == 0, jnp.abs(seen.loss), memory.margin)
        slope = jax.nn.sigmoid(_DEEP * seen.loss / jnp.maximum(margin, TINY)) * unit(seen.slope)
        state = memory.adam.update(slope, seen.taken, _DECAY)

        def clipped(share):
            return (box.project(clean + width * share) - clean) / width

        turn = annealed(*_TURN[norm], seen.taken, steps)
        c = jnp.clip(memory.c * jnp.exp(jnp.where(seen.met, -turn, turn)), *_LIMITS_OF_C)
        step = problem.scale * annealed(*_STEPS, seen.taken, steps)
        target = clipped(seen.delta / width - step * state.step(seen.taken, _DECAY))
        largest = jnp.max(state.divisor)
        share = shrunk(norm, target, metric=state.divisor / largest, weight=step / (largest * c), clipped=clipped)
        return clean + width * share, SparseMemory(adam=state, c=c, margin=margin)

    return Rule(init=init, move=move)


class Removal(NamedTuple):
    descent: SparseMemory
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
