"""A problem, and attacks that do as they are told, for the tests of searches."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import cwjax as cw
from cwjax.base import Attack, Candidate, LabelGoal, Problem, Progress, closer, untouched
from cwjax.problems import problem

ROUNDS = 9


def a_problem() -> Problem:
    goal = LabelGoal(label=jnp.asarray(1, jnp.int32), sign=jnp.asarray(1.0, jnp.float32))
    return problem(jnp.array([0.25, 0.5, 0.75]), goal)


def released(successes, initial_c=1e-3, factor=10.0):
    """The weights that `l2_attack.py` tries, and its bracket in the end."""
    c, lower, upper, tried = initial_c, 0.0, 1e10, []
    for success in successes:
        tried.append(c)
        if success:
            upper = min(upper, c)
            if upper < 1e9:
                c = (lower + upper) / 2
        else:
            lower = max(lower, c)
            c = (lower + upper) / 2 if upper < 1e9 else c * factor
    return tried, lower, upper


def outcome(success) -> Progress:
    fresh = untouched(a_problem())
    return fresh._replace(best=fresh.best._replace(distance=jnp.where(success, 1.0, jnp.inf)))


class FakeState(NamedTuple):
    c: Array
    known: Array  # elements that had shown a slope before
    taken: Array
    progress: Progress


def fake(*, threshold: float, length: int, distance, breaks_at: float = np.inf) -> Attack:
    """Takes `length` steps, two backward passes each, and finds an input at `distance(c)` in its last iff
    c > threshold. From c >= `breaks_at` on, its first step is not finite. The loss it tells is its c. An element shows
    a slope in the round after the one in which its neighbour did.
    """

    def init(key, problem):
        del key
        zero = jnp.zeros((), jnp.int32)
        return FakeState(c=problem.c, known=problem.live, taken=zero, progress=untouched(problem))

    def step(model, problem, state):
        del model
        taken = state.taken + 1
        last = taken >= length
        finite = problem.c < breaks_at
        near = jnp.where(last & finite & (problem.c > threshold), distance(problem.c), jnp.inf)
        candidate = Candidate(x=jnp.full_like(problem.x, problem.c), distance=near, c=problem.c)
        return FakeState(
            c=state.c,
            known=state.known,
            taken=taken,
            progress=Progress(
                best=closer(state.progress.best, candidate),
                live=state.known | jnp.array([True, state.known[0], state.known[1]]),
                last=state.progress.last._replace(distance=near, loss=problem.c),
                forwards=state.progress.forwards + 1,
                backwards=state.progress.backwards + 2,
                finite=finite,
                done=last | ~finite,
            ),
        )

    return Attack(init=init, step=step, terms=cw.l2().terms)


def history(attack: Attack, given: Problem | None = None, at_most: int = 200) -> list[Progress]:
    """The progress after each step, until it is done."""
    given = given or a_problem()
    step = jax.jit(lambda state: attack.step(lambda x: x, given, state))
    state, seen = attack.init(jax.random.key(0), given), []
    while not state.progress.done:
        state = step(state)
        seen.append(state.progress)
        assert len(seen) <= at_most
    return seen
