"""What turns the weight c: bisection between rounds, growth within a round, and a multiplier turned at every step."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_count, check_number
from cwjax.base import Abort, Count, Number, Search, found, select
from cwjax.parts.aborts import never
from cwjax.parts.schedules import annealed, lengthened
from cwjax.search.bisection import bisection


def binary_search(
    steps: Count = 9,
    *,
    initial_c: Number = 1e-3,
    factor: Number = 10.0,
) -> Search:
    """Search for the smallest weight c that succeeds: times `factor` until one does, then bisect (section VI-A).

    With the released code's defaults the largest weight it can try is 1e-3·10^8 = 1e5. With ten rounds or more the
    released code spends its last at the bracket's upper end. That is left out here: each round starts afresh, so it
    would repeat a round already run; or, for an example that never succeeded, try 1e10.

    Args:
      steps: the number of rounds, >= 1.
      initial_c: the first weight to try, > 0; weights mean the same in every box (see `descend`).
      factor: growth of c until the first success, > 1.

    Example:
      >>> search, problem = cw.search.binary_search(initial_c=0.1), cw.problems.problem(x[0], goal)
      >>> first = search.init(problem)
      >>> failed = search.tell(problem, first, cw.base.untouched(problem))  # no example: ten times as much
      >>> [round(float(search.ask(problem, knob).c), 3) for knob in (first, failed)]
      [0.1, 1.0]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-A,
        https://arxiv.org/abs/1608.04644
    """
    check_number("initial_c", initial_c, least=0, above=True)
    return bisection(
        lambda problem: jnp.asarray(initial_c, problem.c.dtype),
        lambda problem, c: problem._replace(c=c),
        steps=steps,
        factor=factor,
    )


class GrownC(NamedTuple):
    c: Float[Array, ""]  # the weight in force
    steps: Int[Array, ""]  # int32: taken at this weight
    abort: Any


def grow_c(
    *,
    every: Count = 1000,
    factor: Number = 2.0,
    largest: Number = 1e10,
    abort: Abort = never(),
) -> Search:
    """For `tracked`: c grows from the problem's own, times `factor` after each `every` steps.

    As long as it is below `largest`.

    So the L-infinity and L0 attacks raise c within a round (sections VI-B and VI-C, "double c"): the descent goes on
    from where it is, with its optimiser's state.

    Args:
      every: steps at one weight, at the most, >= 1.
      factor: > 1.
      largest: weights from here up are not tried.
      abort: when to give a weight up before its steps are over. With `plateau()`, as soon as the loss falls no more.

    Example:
      >>> search, problem = cw.search.grow_c(every=1), cw.problems.problem(x[0], goal)
      >>> knob = search.tell(problem, search.init(problem), cw.base.untouched(problem))
      >>> float(search.ask(problem, knob).c)
      2.0

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", sections VI-B and VI-C,
        https://arxiv.org/abs/1608.04644
    """
    check_count("steps", every)
    check_number("factor", factor, least=1, above=True)
    check_number("largest_c", largest, least=0, above=True)

    def tell(problem, knob, outcome):
        state, stop = abort.update(problem, knob.abort, outcome.last, step=knob.steps, steps=every)
        steps = knob.steps + 1
        raised = GrownC(c=knob.c * factor, steps=jnp.zeros_like(steps), abort=abort.init())
        return select(stop | (steps >= every), raised, GrownC(c=knob.c, steps=steps, abort=state))

    return Search(
        init=lambda problem: GrownC(c=problem.c, steps=jnp.zeros((), jnp.int32), abort=abort.init()),
        ask=lambda problem, knob: problem._replace(c=knob.c),
        tell=tell,
        done=lambda knob: knob.c >= largest,
    )


class Multiplier(NamedTuple):
    c: Float[Array, ""]  # the weight of f
    length: Float[Array, ""]  # the distance to the boundary, as far as is known; 0: nothing is
    promised: Float[Array, ""]  # by the first slope
    known: Bool[Array, ""]  # whether an example was found at that distance
    taken: Int[Array, ""]  # int32: steps


def multiplier(
    *,
    steps: Count,
    rate: Number = 3.0,
    shortest: Number = 0.01,
    turn: tuple[float, float] = (0.1, 0.01),
) -> Search:
    """For `tracked`: the weight c of f, as a Lagrange multiplier, and the length of a step.

    c is multiplied by exp(-r) after a step at a point that meets the goal and by exp(r) after one that does not, so
    that the iterate stays about the boundary. A step has the length `rate·s/√n` in each of the n elements that may
    move, s being the best distance so far. r and the length of a step fall along a cosine. Lengths are in widths of the
    box, as in `descend`.

    The first step only looks: with the margin m to cross and its gradient g, the boundary of the linearised problem
    lies at `s = m/|g|₂`, where `2·delta + c·g = 0` for `c = 2·s/|g|₂`. Until an example is found s grows
    (`lengthened`). The problem's own c multiplies that c and how far s may grow.

    Args:
      steps: of the descent.
      rate: of the longest step, in units of s/√n.
      shortest: the last step over the first.
      turn: r at the first step and at the last.

    Example:
      >>> search, problem = cw.search.multiplier(steps=50), cw.problems.problem(x[0], goal)
      >>> float(search.ask(problem, search.init(problem)).scale)  # the first step only looks
      0.0

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-A: its problem,
        https://arxiv.org/abs/1608.04644
    """
    check_number("rate", rate, least=0, above=True)
    check_number("shortest", shortest, least=0, most=1)

    def init(problem):
        zero = jnp.zeros_like(problem.c)
        return Multiplier(
            c=problem.c,
            length=zero,
            promised=zero,
            known=jnp.array(False),
            taken=jnp.zeros((), jnp.int32),
        )

    def ask(problem, knob):
        size = rate / jnp.sqrt(jnp.maximum(problem.mask.sum(), 1)) * knob.length
        scale = size * annealed(1.0, shortest, knob.taken, steps)
        return problem._replace(c=knob.c, scale=scale.astype(problem.scale.dtype))

    def tell(problem, knob, outcome):
        seen, best = outcome.last, outcome.best.distance / problem.span
        slope = jnp.sqrt(jnp.sum(seen.gradient**2))
        flat = slope == 0
        promised = jnp.where(flat, 1, seen.loss / jnp.where(flat, 1, slope))
        weight = jnp.where(flat, knob.c, 2 * promised * knob.c**2 / jnp.where(flat, 1, slope))

        first = knob.length == 0
        expected = jnp.where(first, promised, knob.promised)
        guess = jnp.where(first, promised, lengthened(knob.length, problem.c * expected, knob.taken, steps))
        reached = found(outcome.best)
        length = jnp.where(knob.known, jnp.minimum(knob.length, best), jnp.where(reached, best, guess))
        r = annealed(*turn, knob.taken, steps)
        c = jnp.where(first, weight, knob.c) * jnp.exp(jnp.where(seen.met, -r, r))
        return Multiplier(c=c, length=length, promised=expected, known=knob.known | reached, taken=knob.taken + 1)

    return Search(init=init, ask=ask, tell=tell, done=lambda knob: jnp.array(False))
