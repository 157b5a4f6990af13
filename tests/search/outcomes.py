"""A problem, and what came of a round on it, for the tests of masks and radii."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import cwjax as cw
from cwjax.base import Attack, Candidate, Problem, Progress, closer, untouched
from cwjax.problems import problem


def a_problem(shape: tuple[int, ...] = (3,)) -> Problem:
    """Its start is not its x, so that they cannot be mistaken for each other."""
    goal = cw.LabelGoal(label=jnp.asarray(1, jnp.int32), sign=jnp.asarray(1.0, jnp.float32))
    return problem(jnp.zeros(shape), goal)._replace(start=jnp.full(shape, 0.5))


def outcome(distance, *, c=1.0, x=None, gradient=None) -> Progress:
    """Of a round that found x at that distance and that c (none, if it is inf), and that ended with that gradient."""
    fresh = untouched(a_problem() if x is None else a_problem(np.shape(x)))
    best = Candidate(fresh.best.x if x is None else jnp.asarray(x), jnp.float32(distance), jnp.float32(c))
    last = fresh.last if gradient is None else fresh.last._replace(gradient=jnp.asarray(gradient))
    return fresh._replace(best=best, last=last)


class FakeState(NamedTuple):
    taken: Array
    start: Array
    progress: Progress


def fake(distance, *, length: int = 2) -> Attack:
    """Takes `length` steps and finds, in the last, an input at `distance(problem)`, under three times the problem's c.
    What the input is, follows from the start and the c.
    """

    def init(key, problem):
        return FakeState(taken=jnp.zeros((), jnp.int32), start=problem.start, progress=untouched(problem))

    def step(model, problem, state):
        taken = state.taken + 1
        near = jnp.where(taken >= length, distance(problem), jnp.inf)
        seen = jnp.stack([state.start[1] + 1, state.start[0] + 1, problem.c])
        before = state.progress
        return FakeState(
            taken=taken,
            start=state.start,
            progress=before._replace(
                best=closer(before.best, Candidate(x=seen, distance=near, c=3 * problem.c)),
                forwards=before.forwards + 1,
                done=taken >= length,
            ),
        )

    return Attack(init=init, step=step, terms=cw.linf().terms)


def told(attack: Attack, given: Problem, at_most: int = 500) -> tuple[list, Progress]:
    """The knob in force in each step, and the progress in the end."""
    step = jax.jit(lambda state: attack.step(lambda x: x, given, state))
    state, knobs = attack.init(jax.random.key(0), given), []
    while not state.progress.done:
        knobs.append(state.knob)
        state = step(state)
        assert len(knobs) <= at_most
    return knobs, state.progress
