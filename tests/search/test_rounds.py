"""A search runs an attack in rounds, or along with it: what is kept, what is told, and when it ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.base import Search
from cwjax.search.rounds import searched, tracked
from cwjax.search.weight import binary_search
from tests.search.made import ROUNDS, a_problem, fake, history, released


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
