"""Bisection of one number of a problem, between rounds: for the least one that succeeds."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cwjax.arguments import check_count, check_number
from cwjax.base import Count, Number, Problem, Search, found


class Bracket(NamedTuple):
    value: Float[Array, ""]  # to try in this round
    lower: Float[Array, ""]  # the largest that failed; 0 before any did
    upper: Float[Array, ""]  # the smallest that succeeded; inf before any did
    rounds: Int[Array, ""]  # int32: rounds that have ended


def bisection(
    first: Callable[[Problem], Float[Array, ""]],
    turned: Callable[[Problem, Float[Array, ""]], Problem],
    *,
    steps: Count,
    factor: Number,
) -> Search:
    """Search for the least value that succeeds: times `factor` until one does, then the middle of the bracket.

    Args:
      first: of a problem, the first value to try, > 0.
      turned: the problem with another value.
      steps: rounds, >= 1.
      factor: growth until the first success, > 1.
    """
    check_count("the search's steps", steps)
    check_number("factor", factor, least=1, above=True)

    def init(problem):
        value = first(problem)
        upper = jnp.full_like(value, jnp.inf)
        return Bracket(value, lower=jnp.zeros_like(value), upper=upper, rounds=jnp.zeros((), jnp.int32))

    def tell(problem, knob, outcome):
        success = found(outcome.best)
        lower = jnp.where(success, knob.lower, jnp.maximum(knob.lower, knob.value))
        upper = jnp.where(success, jnp.minimum(knob.upper, knob.value), knob.upper)
        value = jnp.where(jnp.isfinite(upper), (lower + upper) / 2, knob.value * factor)
        return Bracket(value, lower=lower, upper=upper, rounds=knob.rounds + 1)

    return Search(
        init=init,
        ask=lambda problem, knob: turned(problem, knob.value),
        tell=tell,
        done=lambda knob: knob.rounds >= steps,
    )
