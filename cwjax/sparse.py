"""The fast attack in L0: a smooth count of the changed elements, and then greedy removal."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from cwjax import distances
from cwjax.base import Attack, Candidate, Distance, Objective, Search, closer, found, untouched, wide
from cwjax.boxes import Bound, projected
from cwjax.checks import check_count, check_number, check_part
from cwjax.geometry import annealed
from cwjax.iterated import Rule, iterated
from cwjax.losses import negative_margin
from cwjax.searches import searched

_SIGMA = 1e-3  # of sigma-zero: the smaller, the closer the smooth count is to a count
_LAST_STEP = 0.2  # of a round, where its first one is `problem.scale`
_TWO_ROUNDS = 170  # steps, from which on there are two rounds
_TURN = 0.01  # by how much of a step the threshold changes
_THRESHOLD = 0.3  # the first, of the first step


class SparseMemory(NamedTuple):
    threshold: Float[Array, ""]  # changes smaller than it are undone
    adam: optax.OptState
    needed: Bool[Array, "*S"]  # elements that could not be removed from the best example
    tried: Bool[Array, "*S"]  # the element that was removed last


def fast_l0(
    *,
    steps: int | Int[Array, ""] = 300,
    objective: Objective = negative_margin(),
    distance: Distance = distances.l0(per_pixel=False),
    removing: float | Float[Array, ""] = 0.1,
    first_step: float | Float[Array, ""] = 1.0,
    lower: Bound = 0.0,
    upper: Bound = 1.0,
) -> Attack:
    """The fewest changed elements at a fixed price.

    First as sigma-zero has it (Cinà et al. 2024): Adam on f6 and `Σ_i d_i²/(d_i² + sigma)/n`, with a threshold below
    which changes are undone, which grows where the goal is met and shrinks where it is not. Here the last step is a
    fifth of the first, and all lengths are in units of the width of the box.

    Then, in the last steps, as the paper's L0 attack has it (section VI-B): of the best example the element is undone
    whose slope times change promises to cost least, while the others go on down the slope; where that is no example,
    the element stays for good.

    Long steps find sparser examples on digits, and short ones on photographs: from 170 steps on there are two rounds,
    the second with a first step twice as long and the same last one, and the better example of the two is kept.

    Args:
      steps: gradients to spend on an example; may be traced.
      objective: one without a floor where the goal is met: the first part gives it one.
      distance: what is reported and by which the closest example is chosen.
      removing: the share of the steps that goes to removal, in [0, 1).
      first_step: about how far an element goes in the first step, in widths of the box, > 0.
      lower: the box's lower bound.
      upper: the box's upper bound.
    """
    check_part("objective", objective, Objective)
    check_part("distance", distance, Distance)
    check_number("first_step", first_step, least=0, above=True)
    check_number("removing", removing, least=0, most=1 - 1e-6)
    check_count("steps", steps)
    rounds = jnp.where(jnp.asarray(steps) < _TWO_ROUNDS, 1, 2)
    one_round = _descent_and_removal(
        steps=steps // rounds,
        objective=objective,
        distance=distance,
        removing=removing,
        first_step=first_step,
        lower=lower,
        upper=upper,
    )
    return searched(one_round, doubled(rounds))


class Doubled(NamedTuple):
    best: Candidate  # of all rounds so far
    scale: Float[Array, ""]
    rounds: Int[Array, ""]  # int32: that have ended


def doubled(rounds: Int[Array, ""]) -> Search:
    """For `searched`: rounds at the problem's scale, twice that, four times that, and so on; the best example counts.

    Args:
      rounds: >= 1; may be traced.
    """

    def init(problem):
        best = untouched(problem).best
        return Doubled(best=best, scale=problem.scale, rounds=jnp.zeros((), jnp.int32))

    def tell(problem, knob, outcome):
        del problem
        return Doubled(best=closer(knob.best, outcome.best), scale=2 * knob.scale, rounds=knob.rounds + 1)

    return Search(
        init=init,
        ask=lambda problem, knob: problem._replace(scale=knob.scale),
        tell=tell,
        done=lambda knob: (knob.rounds >= rounds) | (knob.best.distance == 0),
    )


def _descent_and_removal(*, steps, objective, distance, removing, first_step, lower, upper) -> Attack:
    """One round, with steps in units of `problem.scale`; see `fast_l0`."""
    box = projected(lower, upper)
    adam = optax.scale_by_adam()

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        nothing = jnp.zeros(start.shape, bool)
        threshold = jnp.asarray(_THRESHOLD * first_step * problem.scale, start.dtype)
        return start, SparseMemory(threshold=threshold, adam=adam.init(start), needed=nothing, tried=nothing)

    def descended(scale, memory, seen, width):
        """The next point of the descent, and the memory."""
        share = seen.delta / width
        count = 2 * share * _SIGMA / (share**2 + _SIGMA) ** 2 / share.size
        slope = jnp.where(seen.met, 0, seen.slope * width) + count
        slope = slope / jnp.maximum(jnp.max(jnp.abs(slope)), 1e-12)
        direction, state = adam.update(slope, memory.adam)

        step = first_step * annealed(scale, _LAST_STEP, seen.taken, (1 - removing) * steps)
        moved = box.project(seen.x - step * width * jnp.asarray(direction)) - (seen.x - seen.delta)
        change = jnp.where(seen.met, _TURN, -_TURN) * step
        threshold = jnp.clip(memory.threshold + change, 0, 1).astype(memory.threshold.dtype)
        kept = jnp.where(jnp.abs(moved) < threshold * width, 0, moved)
        return seen.x - seen.delta + kept, memory._replace(threshold=threshold, adam=state)

    def removed(memory, seen, width):
        """The best example less one element, and the memory."""
        clean = seen.x - seen.delta
        best = seen.best.x.astype(clean.dtype) - clean
        improved = (best == seen.delta).all()
        needed = memory.needed | jnp.where(improved, False, memory.tried)
        open_ = (best != 0) & ~needed
        cost = jnp.where(open_, -seen.slope * best, jnp.inf)
        tried = (jnp.arange(cost.size).reshape(cost.shape) == jnp.argmin(cost)) & open_
        farther = box.project(clean + best - jnp.sign(seen.slope) * width)
        x = jnp.where((best != 0) & ~tried, farther, clean)
        return x, memory._replace(needed=needed, tried=tried)

    def move(problem, memory, seen):
        low, high = (box.project(jnp.full_like(seen.x, end)) for end in (-jnp.inf, jnp.inf))
        going = descended(problem.scale, memory, seen, high - low)
        undoing = removed(memory, seen, high - low)
        late = (seen.taken >= (1 - removing) * steps) & found(seen.best)
        x = jnp.where(late, undoing[0], going[0])
        memory = memory._replace(
            threshold=going[1].threshold,
            adam=going[1].adam,
            needed=jnp.where(late, undoing[1].needed, memory.needed),
            tried=jnp.where(late, undoing[1].tried, memory.tried),
        )
        return x, memory

    rule = Rule(init=init, move=move)
    return iterated(rule, objective=objective, distance=distance, lower=lower, upper=upper, steps=steps)
