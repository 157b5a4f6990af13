"""Searches turn one knob of the problem and let the descent run again (`searched`) or go on (`tracked`)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from cwjax.aborts import never
from cwjax.base import Abort, Attack, Knob, Progress, Search, State, closer, continued, found, select, untouched
from cwjax.checks import check_count, check_number, check_part


class SearchedState(NamedTuple):
    key: PRNGKeyArray  # []: of this round; each has its own, made from the one before
    knob: Knob
    inner: State  # of the attack that runs in this round
    progress: Progress  # of all rounds together


def searched(attack: Attack, search: Search) -> Attack:
    """Run the attack in rounds: `search` asks a problem, the attack runs until it is done, the search is told, and so
    on.

    Rounds are flattened: one step is one step of the attack, and the step that ends a round also begins the next. So
    in a batch every example searches at its own pace, and none waits for another's round to end.
    """
    check_part("attack", attack, Attack)
    check_part("search", search, Search)

    def init(key, problem):
        knob = search.init(problem)
        inner = attack.init(key, search.ask(problem, knob))
        return SearchedState(key=key, knob=knob, inner=inner, progress=untouched(problem))

    def step(model, problem, state):
        inner = attack.step(model, search.ask(problem, state.knob), state.inner)
        before, after = state.inner.progress, inner.progress

        best = closer(state.progress.best, after.best)
        knob = select(after.done, search.tell(problem, state.knob, after), state.knob)
        key = jnp.where(after.done, jax.random.fold_in(state.key, 0), state.key)
        restarted = attack.init(key, search.ask(problem._replace(live=after.live), knob))
        return SearchedState(
            key=key,
            knob=knob,
            inner=select(after.done, restarted, inner),
            progress=continued(state.progress, before, after, best=best, over=search.done(knob) | (best.distance == 0)),
        )

    return attack._replace(init=init, step=step)


class TrackedState(NamedTuple):
    knob: Knob
    inner: State  # of the attack
    progress: Progress  # the attack's own; done also when the search is


def tracked(attack: Attack, search: Search) -> Attack:
    """Run the attack once, and let the search turn its knob after every step. Nothing is ever started afresh."""
    check_part("attack", attack, Attack)
    check_part("search", search, Search)

    def init(key, problem):
        knob = search.init(problem)
        inner = attack.init(key, search.ask(problem, knob))
        return TrackedState(knob=knob, inner=inner, progress=inner.progress)

    def step(model, problem, state):
        inner = attack.step(model, search.ask(problem, state.knob), state.inner)
        knob = search.tell(problem, state.knob, inner.progress)
        done = inner.progress.done | search.done(knob)
        return TrackedState(knob=knob, inner=inner, progress=inner.progress._replace(done=done))

    return attack._replace(init=init, step=step)


class Bracket(NamedTuple):
    c: Float[Array, ""]  # the weight to try in this round
    lower: Float[Array, ""]  # the largest weight that failed; 0 before any did
    upper: Float[Array, ""]  # the smallest weight that succeeded; inf before any did
    rounds: Int[Array, ""]  # int32: rounds that have ended


def binary_search(
    steps: int | Int[Array, ""] = 9,
    *,
    initial_c: float | Float[Array, ""] = 1e-3,
    factor: float | Float[Array, ""] = 10.0,
) -> Search:
    """Search for the smallest weight c that succeeds: times `factor` until one does, then bisect (section VI-A).

    With the released code's defaults the largest weight it can try is 1e-3·10^8 = 1e5. With ten rounds or more the
    released code spends its last at the bracket's upper end. That is left out here: each round starts afresh, so it
    would repeat a round already run; or, for an example that never succeeded, try 1e10.

    Args:
      steps: the number of rounds, >= 1.
      initial_c: the first weight to try, > 0; weights mean the same in every box (see `descend`).
      factor: growth of c until the first success, > 1.
    """
    check_count("the search's steps", steps)
    check_number("initial_c", initial_c, least=0, above=True)
    check_number("factor", factor, least=1, above=True)

    def init(problem):
        c = jnp.asarray(initial_c, problem.c.dtype)
        return Bracket(c=c, lower=jnp.zeros_like(c), upper=jnp.full_like(c, jnp.inf), rounds=jnp.zeros((), jnp.int32))

    def tell(problem, knob, outcome):
        success = found(outcome.best)
        lower = jnp.where(success, knob.lower, jnp.maximum(knob.lower, knob.c))
        upper = jnp.where(success, jnp.minimum(knob.upper, knob.c), knob.upper)
        c = jnp.where(jnp.isfinite(upper), (lower + upper) / 2, knob.c * factor)
        return Bracket(c=c, lower=lower, upper=upper, rounds=knob.rounds + 1)

    return Search(
        init=init,
        ask=lambda problem, knob: problem._replace(c=knob.c),
        tell=tell,
        done=lambda knob: knob.rounds >= steps,
    )


class GrownC(NamedTuple):
    c: Float[Array, ""]  # the weight in force
    steps: Int[Array, ""]  # int32: taken at this weight
    abort: Any


def grow_c(
    *,
    every: int | Int[Array, ""] = 1000,
    factor: float | Float[Array, ""] = 2.0,
    largest: float | Float[Array, ""] = 1e10,
    abort: Abort = never(),
) -> Search:
    """For `tracked`: from the problem's own c, times `factor` after every so many steps, for as long as it is below
    `largest`.

    So the L-infinity and L0 attacks raise c within a round (sections VI-B and VI-C, "double c"): the descent goes on
    from where it is, with its optimiser's state.

    Args:
      every: steps at one weight, at the most, >= 1.
      factor: > 1.
      largest: weights from here up are not tried.
      abort: when to give a weight up before its steps are over. With `plateau()`, as soon as the loss falls no more.
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
