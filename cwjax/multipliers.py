"""The weight c as a Lagrange multiplier that is turned at every step, and the length of a step with it."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.base import Search, found
from cwjax.checks import check_number
from cwjax.geometry import annealed, lengthened


class Multiplier(NamedTuple):
    c: Float[Array, ""]  # the weight of f
    length: Float[Array, ""]  # the distance to the boundary, as far as is known; 0: nothing is
    promised: Float[Array, ""]  # by the first slope
    known: Bool[Array, ""]  # whether an example was found at that distance
    taken: Int[Array, ""]  # int32: steps


def multiplier(
    *,
    steps: int | Int[Array, ""],
    rate: float | Float[Array, ""] = 3.0,
    shortest: float | Float[Array, ""] = 0.01,
    turn: tuple[float, float] = (0.1, 0.01),
) -> Search:
    """For `tracked`: the weight c of f, as a Lagrange multiplier, and the length of a step.

    c is multiplied by exp(-r) after a step at a point that meets the goal and by exp(r) after one that does not, so
    that the iterate stays about the boundary. A step has the length `rate·s/√n` in each of the n elements that may
    move, s being the best distance so far. r and the length of a step fall along a cosine. Lengths are in widths of the
    box, as in `descend`.

    A problem of scale 0 is one about which nothing is known. The first step then only looks: with the margin m to cross
    and its gradient g, the boundary of the linearised problem lies at `s = m/|g|₂`, where `2·delta + c·g = 0` for
    `c = 2·s/|g|₂`. Until an example is found s grows (`lengthened`). The problem's own c, which `mirrored` raises after
    a round without an example, multiplies that c and how far s may grow. A problem of another scale has an example at
    that distance, found under its c.

    Args:
      steps: of the descent.
      rate: of the longest step, in units of s/√n.
      shortest: the last step over the first.
      turn: r at the first step and at the last.
    """
    check_number("rate", rate, least=0, above=True)
    check_number("shortest", shortest, least=0, most=1)

    def init(problem):
        scale = problem.scale / problem.span
        return Multiplier(
            c=problem.c,
            length=scale,
            promised=scale,
            known=problem.scale > 0,
            taken=jnp.zeros((), jnp.int32),
        )

    def ask(problem, knob):
        size = rate / jnp.sqrt(jnp.maximum(problem.mask.sum(), 1)) * knob.length
        return problem._replace(c=knob.c, scale=size * annealed(1.0, shortest, knob.taken, steps))

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
