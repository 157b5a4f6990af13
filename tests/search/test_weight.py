"""Searches over c against plain Python copies of the released code's, and what `searched` and `tracked` make of any
attack.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxtyping import Array

import cwjax as cw
from cwjax.base import Attack, Candidate, Goal, Problem, Progress, Search, closer, problem, untouched
from cwjax.parts.aborts import plateau
from cwjax.search.rounds import searched, tracked
from cwjax.search.weight import binary_search, grow_c

ROUNDS = 9


def a_problem() -> Problem:
    goal = Goal(label=jnp.asarray(1, jnp.int32), sign=jnp.asarray(1.0, jnp.float32))
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


def tries(successes, search):
    """The weights it asks for, whether it was done before each round, and its last knob."""

    def one(knob, success):
        return search.tell(a_problem(), knob, outcome(success)), (
            search.ask(a_problem(), knob).c,
            search.done(knob),
        )

    knob, (weights, done) = lax.scan(one, search.init(a_problem()), successes)
    return weights, done, knob


def test_every_pattern_of_successes_is_searched_as_the_released_code_does():
    patterns = np.array(list(itertools.product([False, True], repeat=ROUNDS)))
    weights, done, knob = jax.jit(jax.vmap(lambda pattern: tries(pattern, binary_search(ROUNDS))))(patterns)
    expected = [released(pattern) for pattern in patterns]
    np.testing.assert_allclose(weights, [tried for tried, _, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(knob.lower, [lower for _, lower, _ in expected], rtol=1e-5)
    upper = np.array([upper for _, _, upper in expected])
    np.testing.assert_allclose(knob.upper, np.where(upper < 1e9, upper, np.inf), rtol=1e-5)
    assert not np.asarray(done).any()  # before any of the nine


def test_the_weights_of_a_model_that_needs_half():
    weights, _, knob = tries(jnp.array([False, False, False, True, False, True]), binary_search(6))
    np.testing.assert_allclose(weights, [0.001, 0.01, 0.1, 1.0, 0.55, 0.775], rtol=1e-5)
    assert (float(knob.lower), float(knob.upper)) == (pytest.approx(0.55), pytest.approx(0.775))


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_done_after_as_many_rounds_as_asked(steps):
    search = binary_search(steps)
    knob = search.init(a_problem())
    for told in range(steps + 1):
        assert bool(search.done(knob)) == (told >= steps)
        knob = search.tell(a_problem(), knob, outcome(told % 2 == 0))


def test_asking_turns_c_alone():
    given, search = a_problem(), binary_search(initial_c=0.125)
    asked = search.ask(given, search.init(given))
    assert float(asked.c) == 0.125
    assert asked.c.dtype == given.c.dtype
    for field in set(Problem._fields) - {"c", "goal"}:
        np.testing.assert_array_equal(getattr(asked, field), getattr(given, field))
    assert asked.goal is given.goal


def test_its_numbers_may_be_traced():
    pattern = jnp.array([False, False, True, False, True])

    @jax.jit
    def run(steps, initial_c, factor):
        return tries(pattern, binary_search(steps, initial_c=initial_c, factor=factor))

    for steps, initial_c, factor in [(5, 0.01, 4.0), (2, 1.0, 2.0)]:
        weights, done, _ = run(jnp.int32(steps), jnp.float32(initial_c), jnp.float32(factor))
        np.testing.assert_allclose(weights, released(np.asarray(pattern), initial_c, factor)[0], rtol=1e-5)
        np.testing.assert_array_equal(done, np.arange(5) >= steps)


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


def test_every_round_knows_the_slopes_of_those_before():
    attack = searched(fake(threshold=0.0, length=2, distance=lambda c: c), binary_search(4))
    live = [progress.live.sum() for progress in history(attack)]
    assert live == [1, 1, 2, 2, 3, 3, 3, 3]


def simulated(threshold: float, rounds: int) -> list[float]:
    """The weights that succeed, in the order in which the released search meets them."""
    successes: list[bool] = []
    for _ in range(rounds):
        tried, _, _ = released([*successes, False])
        successes.append(tried[-1] > threshold)
    return [c for c, success in zip(released(successes)[0], successes, strict=True) if success]


@pytest.mark.parametrize("threshold", [0.0, 0.0042, 0.3, 37.0, 1e9])
@pytest.mark.parametrize(
    "distance",
    [lambda c: 1 + c, lambda c: 1 / c, lambda c: 2 + jnp.sin(17 * c), lambda c: 1.0 + 0 * c],
    ids=["falls with c", "grows as c falls", "erratic", "constant"],
)
def test_the_best_of_all_rounds_is_kept(threshold, distance):
    length = 3
    seen = history(searched(fake(threshold=threshold, length=length, distance=distance), binary_search(ROUNDS)))
    assert len(seen) == ROUNDS * length  # the step that ends a round begins the next
    assert [int(p.forwards) for p in seen] == list(range(1, len(seen) + 1))
    assert [int(p.backwards) for p in seen] == list(range(2, 2 * len(seen) + 1, 2))
    assert all(p.finite for p in seen)

    best = seen[-1].best
    met = simulated(threshold, ROUNDS)
    if not met:
        assert np.isinf(best.distance)
        assert np.isinf(best.c)
        np.testing.assert_array_equal(best.x, a_problem().x)
        return
    winner = min(met, key=lambda c: float(distance(np.float32(c))))  # the first on a tie
    np.testing.assert_allclose(best.c, winner, rtol=1e-5)
    np.testing.assert_allclose(best.distance, distance(np.float32(winner)), rtol=1e-4)
    np.testing.assert_array_equal(best.x, np.full(3, best.c))


def test_the_best_distance_never_grows():
    seen = history(searched(fake(threshold=0.05, length=2, distance=lambda c: 1 / c), binary_search(ROUNDS)))
    distances = [float(progress.best.distance) for progress in seen]
    assert distances == sorted(distances, reverse=True)
    assert np.isfinite(distances[-1])


def test_a_round_that_is_not_finite_ends_the_search():
    # Weights 0.001 and 0.01 find nothing in two steps each; 0.1 breaks.
    attack = searched(fake(threshold=0.05, length=2, distance=lambda c: 1 + c, breaks_at=0.09), binary_search(ROUNDS))
    seen = history(attack)
    assert [bool(progress.finite) for progress in seen] == [True] * 4 + [False]
    assert np.isinf(seen[-1].best.distance)


def test_a_round_that_is_not_finite_does_not_lose_what_was_found():
    plain = fake(threshold=0.0, length=2, distance=lambda c: 1 / c)

    def step(model, problem, state):
        after = plain.step(model, problem, state)
        finite = problem.c > 0.0003  # of the weights 0.001, 0.0005 and 0.00025 the third breaks
        return after._replace(progress=after.progress._replace(finite=finite, done=after.progress.done | ~finite))

    seen = history(searched(plain._replace(step=step), binary_search(ROUNDS)))
    assert [bool(progress.finite) for progress in seen] == [True] * 4 + [False]
    assert int(seen[-1].forwards) == 5
    assert float(seen[-1].best.distance) == pytest.approx(1000)
    assert float(seen[-1].best.c) == pytest.approx(0.001)


def test_every_round_has_a_key_of_its_own_made_from_the_one_before():
    plain = fake(threshold=0.0, length=1, distance=lambda c: c)  # each round finds something closer

    def init(key, problem):
        return plain.init(key, problem)._replace(c=jax.random.uniform(key))

    def step(model, problem, state):
        after = plain.step(model, problem, state)
        return after._replace(progress=after.progress._replace(best=after.progress.best._replace(c=state.c)))

    drawn = [
        float(progress.best.c) for progress in history(searched(plain._replace(init=init, step=step), binary_search(4)))
    ]
    keys = [jax.random.key(0)]
    for _ in range(3):
        keys.append(jax.random.fold_in(keys[-1], 0))
    assert drawn == [float(jax.random.uniform(key)) for key in keys]
    assert len(set(drawn)) == 4


def counting(at_most: int) -> Search:
    """As c, the number of times that it has been told; done when told often enough."""
    return Search(
        init=lambda problem: jnp.zeros(()),
        ask=lambda problem, knob: problem._replace(c=knob),
        tell=lambda problem, knob, outcome: knob + 1,
        done=lambda knob: knob >= at_most,
    )


@pytest.mark.parametrize(("length", "at_most"), [(5, 7), (7, 7), (9, 7)])
def test_tracked_tells_after_every_step_and_never_starts_afresh(length, at_most):
    seen = history(tracked(fake(threshold=-1.0, length=length, distance=lambda c: 1 + c), counting(at_most)))
    assert [float(p.last.loss) for p in seen] == list(range(min(length, at_most)))  # a new c every step
    assert [int(p.forwards) for p in seen] == list(range(1, len(seen) + 1))
    assert [int(p.backwards) for p in seen] == list(range(2, 2 * len(seen) + 1, 2))
    # What the attack finds, it finds in its last step: at the c of that step, and only if it gets so far.
    assert [float(p.best.distance) for p in seen[:-1]] == [np.inf] * (len(seen) - 1)
    assert float(seen[-1].best.distance) == (length if length <= at_most else np.inf)
    assert all(p.finite for p in seen)


def test_tracked_tells_what_the_step_just_taken_came_to():
    def tell(problem, knob, outcome):
        return 10 * outcome.forwards.astype(jnp.float32) + outcome.last.loss / 100

    search = counting(at_most=1000)._replace(tell=tell)
    losses = [float(p.last.loss) for p in history(tracked(fake(threshold=-1.0, length=4, distance=jnp.abs), search))]
    np.testing.assert_allclose(losses, [0, 10, 20.1, 30.201], rtol=1e-6)


def test_tracked_ends_with_a_step_that_is_not_finite():
    attack = tracked(fake(threshold=-1.0, length=9, distance=jnp.abs, breaks_at=3.0), counting(7))
    assert [bool(p.finite) for p in history(attack)] == [True] * 3 + [False]


def test_tracked_starts_from_the_problem_that_is_asked_for():
    search = counting(at_most=9)._replace(init=lambda problem: jnp.float32(0.25))
    state = tracked(fake(threshold=0.0, length=3, distance=jnp.abs), search).init(jax.random.key(0), a_problem())
    assert float(state.inner.c) == 0.25
    assert not state.progress.done
    assert int(state.progress.forwards) == 0


def grown(c: float, factor: float, largest: float) -> list[float]:
    """The weights that `li_attack.py` and `l0_attack.py` try in a round that fails."""
    tried = []
    while c < largest:
        tried.append(c)
        c *= factor
    return tried


@pytest.mark.parametrize(
    ("c", "every", "factor", "largest", "weights"),
    [
        (1e-5, 3, 2.0, 20.0, 21),  # li_attack.py
        (1e-3, 2, 2.0, 2e6, 31),  # l0_attack.py
        (1.0, 1, 10.0, 1000.0, 3),  # what is equal to the largest is not tried
        (1.0, 4, 10.0, 1001.0, 4),
        (0.75, 5, 1.5, 0.76, 1),
    ],
)
def test_c_grows_as_in_the_released_code(c, every, factor, largest, weights):
    search = grow_c(every=every, factor=factor, largest=largest)
    endless = fake(threshold=np.inf, length=10**6, distance=jnp.abs)
    seen = history(tracked(endless, search), a_problem()._replace(c=jnp.float32(c)))
    expected = grown(c, factor, largest)
    assert len(expected) == weights
    np.testing.assert_allclose([p.last.loss for p in seen], np.repeat(expected, every), rtol=1e-5)


def test_a_round_ends_with_the_attack_and_the_next_begins_at_its_own_c():
    # Within each of two rounds, from c = 1 and c = 5, the weight doubles every second step, until it is above 3.
    plain = fake(threshold=0.0, length=1, distance=jnp.abs)

    def step(model, problem, state):
        after = plain.step(model, problem, state)
        return after._replace(progress=after.progress._replace(done=problem.c > 3))

    rounds = Search(
        init=lambda problem: jnp.float32(1),
        ask=lambda problem, knob: problem._replace(c=knob),
        tell=lambda problem, knob, outcome: knob + 4,
        done=lambda knob: knob > 8,
    )
    seen = history(searched(tracked(plain._replace(step=step), grow_c(every=2, largest=100.0)), rounds))
    assert [float(p.last.loss) for p in seen] == [1, 1, 2, 2, 4, 5]


def test_c_grows_as_soon_as_the_loss_is_stuck():
    # The loss is c at every step: the second of ten checks, two steps after the first, finds that it has not fallen.
    endless = fake(threshold=np.inf, length=10**6, distance=jnp.abs)
    search = grow_c(every=20, largest=10.0, abort=plateau())
    seen = history(tracked(endless, search), a_problem()._replace(c=jnp.float32(1)))
    np.testing.assert_array_equal([p.last.loss for p in seen], np.repeat([1, 2, 4, 8], 3))


def test_a_loss_that_falls_keeps_its_weight_for_all_its_steps():
    given, search = a_problem()._replace(c=jnp.float32(1)), grow_c(every=20, abort=plateau())
    knob, weights = search.init(given), []
    for loss in range(40, 0, -1):
        progress = outcome(False)
        knob = search.tell(given, knob, progress._replace(last=progress.last._replace(loss=jnp.float32(loss))))
        weights.append(float(knob.c))
    np.testing.assert_array_equal(weights, np.repeat([1, 2, 4], [19, 20, 1]))


def test_growing_asks_for_c_alone():
    given, search = a_problem()._replace(c=jnp.float32(0.3)), grow_c()
    asked = search.ask(given, search.init(given)._replace(c=jnp.float32(7)))
    assert float(asked.c) == 7
    assert asked.goal is given.goal
    for field in set(Problem._fields) - {"c", "goal"}:
        np.testing.assert_array_equal(getattr(asked, field), getattr(given, field))


def test_the_numbers_of_growth_may_be_traced():
    given = a_problem()

    @jax.jit
    def after(tells, every, factor, largest):
        search = grow_c(every=every, factor=factor, largest=largest)
        knob = lax.fori_loop(0, tells, lambda _, knob: search.tell(given, knob, outcome(False)), search.init(given))
        return knob.c, search.done(knob)

    assert [float(leaf) for leaf in after(7, 3, 2.0, 5.0)] == [4, False]
    assert [float(leaf) for leaf in after(7, 2, 3.0, 27.0)] == [27, True]


@pytest.mark.parametrize("numbers", [{"every": 0}, {"factor": 1.0}, {"factor": 0.5}, {"largest": 0.0}])
def test_growth_that_cannot_be_is_refused(numbers):
    with pytest.raises(ValueError, match="must be"):
        grow_c(**numbers)
