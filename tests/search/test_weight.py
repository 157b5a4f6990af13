"""Searches over c against plain Python copies of the released code's, and what `searched` and `tracked` make of any
attack.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cwjax.base import Problem, Search
from cwjax.parts.aborts import plateau
from cwjax.search.rounds import searched, tracked
from cwjax.search.weight import binary_search, grow_c
from tests.search.made import ROUNDS, a_problem, fake, history, outcome, released


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
