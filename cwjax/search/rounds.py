"""Searches turn one knob of the problem and let the descent run again (`searched`) or go on (`tracked`)."""

from typing import NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from cwjax.arguments import check_part
from cwjax.base import Attack, Knob, Progress, Search, State, closer, continued, seldom, select, untouched


class SearchedState(NamedTuple):
    key: PRNGKeyArray  # []: of this round; each has its own, made from the one before
    knob: Knob
    inner: State  # of the attack that runs in this round
    progress: Progress  # of all rounds together


def searched(attack: Attack, search: Search) -> Attack:
    """Run the attack in rounds, and let the search turn its knob between them.

    `search` asks a problem, the attack runs until it is done, the search is told, and so on.

    Rounds are flattened: one step is one step of the attack, and the step that ends a round also begins the next. So
    in a batch every example searches at its own pace, and none waits for another's round to end.

    Args:
      attack: run once in a round.
      search: what turns a knob between rounds.

    Example:
      >>> attack = cw.searched(cw.attacks.fgsm(epsilon=0.4), cw.search.search_scale(steps=2))
      >>> print(cw.batched(attack)(model, keys, x, goal).distance)
      [0.20000002 0.2       ]
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
        following = search.ask(problem._replace(live=after.live), knob)

        def again(key, following):
            key = jax.random.fold_in(key, 0)
            return key, attack.init(key, following)

        key, inner = seldom(after.done, again, (state.key, following), (state.key, inner))
        return SearchedState(
            key=key,
            knob=knob,
            inner=inner,
            progress=continued(state.progress, before, after, best=best, over=search.done(knob) | (best.distance == 0)),
        )

    return attack._replace(init=init, step=step)


class TrackedState(NamedTuple):
    knob: Knob
    inner: State  # of the attack
    progress: Progress  # the attack's own; done also when the search is


def tracked(attack: Attack, search: Search) -> Attack:
    """Run the attack once, and let the search turn its knob after every step. Nothing is ever started afresh.

    Args:
      attack: run once.
      search: what turns a knob between steps.

    Example:
      >>> descent = cw.descend(
      ...     objective=cw.losses.negative_margin(),
      ...     distance=cw.distances.l2(),
      ...     box=cw.boxes.projected(),
      ...     optimizer=cw.optimizers.adam(1.0),
      ...     steps=50,
      ...     abort=cw.aborts.never(),
      ... )
      >>> attack = cw.tracked(descent, cw.search.multiplier(steps=50))
      >>> result = jax.jit(cw.batched(attack))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(2))  # the least is 0.14 and 0.21
      [0.14 0.21]
    """
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
