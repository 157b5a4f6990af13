"""Any number of a problem can be bisected; what is tried is counted by hand."""

import jax.numpy as jnp
import pytest

import cwjax as cw
from cwjax.base import untouched
from cwjax.problems import problem
from cwjax.search.bisection import Bracket, bisection


def tried(needed: float, *, first: float, steps: int, factor: float) -> tuple[list[float], Bracket]:
    """The values of tau that are tried where every one from `needed` up succeeds, and the bracket in the end."""
    given = problem(jnp.zeros(2), cw.LabelGoal(jnp.asarray(0, jnp.int32), jnp.asarray(1.0)))
    search = bisection(
        lambda problem: jnp.asarray(first),
        lambda problem, value: problem._replace(tau=value),
        steps=steps,
        factor=factor,
    )
    knob, values = search.init(given), []
    while not search.done(knob):
        asked = search.ask(given, knob)
        values.append(float(asked.tau))
        assert asked._replace(tau=given.tau) == given
        best = untouched(given).best._replace(distance=jnp.asarray(0.0 if values[-1] >= needed else jnp.inf))
        knob = search.tell(given, knob, untouched(given)._replace(best=best))
    return values, knob


@pytest.mark.parametrize(
    ("needed", "values", "lower", "upper"),
    [
        (5.0, [1, 3, 9, 6, 4.5], 4.5, 6),  # grows until one succeeds
        (0.2, [1, 0.5, 0.25, 0.125, 0.1875], 0.1875, 0.25),  # the first succeeds: halves until one fails
        (1000.0, [1, 3, 9, 27, 81], 81, float("inf")),  # none succeeds
    ],
)
def test_what_is_tried(needed, values, lower, upper):
    found, knob = tried(needed, first=1.0, steps=5, factor=3.0)
    assert found == values
    assert (float(knob.lower), float(knob.upper), int(knob.rounds)) == (lower, upper, 5)


def test_numbers_out_of_range_are_named():
    with pytest.raises(ValueError, match="the search's steps must be at least 1"):
        tried(1.0, first=1.0, steps=0, factor=2.0)
    with pytest.raises(ValueError, match="factor must be more than 1"):
        tried(1.0, first=1.0, steps=1, factor=1.0)
