"""Spreads: what they keep of several versions of a problem, which versions they run, and with which keys."""

import functools
import itertools
import os
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array
from scipy import stats

import cwjax as cw
from cwjax.base import Attack, Candidate, Problem, Progress, Spread, closer, untouched
from cwjax.problems import problem
from cwjax.search.versions import average_target, best_of, best_target, restarted, worst_of, worst_target
from tests import problems

PROPERTY = settings(
    deadline=None, max_examples=60 if os.environ.get("CWJAX_LONG") else 25, derandomize=True, database=None
)
VERSIONS, CLASSES = 4, 5


def a_problem(label: int = 1, sign: float = -1.0) -> Problem:
    """Its start is not its x, so that they cannot be mistaken for each other."""
    goal = cw.LabelGoal(label=jnp.asarray(label, jnp.int32), sign=jnp.asarray(sign, jnp.float32))
    return problem(jnp.zeros(3), goal)._replace(start=jnp.array([0.25, 0.5, 0.75]))


def listed(distances) -> Spread:
    """The problem with c from a list, one entry a version, and tau the number of the version."""
    c = jnp.asarray(distances, jnp.float32)
    return Spread(
        init=lambda key, problem: (c, jnp.arange(len(c), dtype=jnp.float32)),
        ask=lambda problem, knob: problem._replace(c=knob[0], tau=knob[1]),
    )


class FakeState(NamedTuple):
    key: Array
    problem: Problem  # that it was begun with
    taken: Array
    progress: Progress


def fake(distance: Callable = lambda state: state.problem.c, *, length: Callable = lambda problem: 1) -> Attack:
    """Takes `length(problem)` steps, two backward passes each, and finds something at `distance(state)` in the last;
    the input found tells the problem's tau. Below zero is no distance: the step is not finite, though it finds
    something at 0.5.
    """

    def init(key, problem):
        return FakeState(key=key, problem=problem, taken=jnp.zeros((), jnp.int32), progress=untouched(problem))

    def step(model, problem, state):
        before, taken = state.progress, state.taken + 1
        near, done = distance(state), taken >= length(problem)
        broken = near < 0
        near = jnp.where(broken, 0.5, jnp.where(done, near, jnp.inf))
        return state._replace(
            taken=taken,
            progress=Progress(
                best=closer(before.best, Candidate(jnp.full_like(problem.x, problem.tau), near, problem.c)),
                last=before.last._replace(loss=problem.tau),
                forwards=before.forwards + 1,
                backwards=before.backwards + 2,
                finite=~broken,
                live=state.problem.live | (jnp.arange(3) == problem.tau),
                done=done | broken,
            ),
        )

    return Attack(init=init, step=step, terms=cw.l2().terms)


def history(attack: Attack, given: Problem | None = None, key: Array | None = None) -> list:
    """The state after each step, until it is done."""
    given, key = given or a_problem(), jax.random.key(0) if key is None else key
    step = jax.jit(lambda state: attack.step(lambda x: x, given, state))
    seen = [attack.init(key, given)]
    while not seen[-1].progress.done:
        seen.append(step(seen[-1]))
        assert len(seen) < 100
    return seen[1:]


def test_every_version_knows_the_slopes_of_those_before():
    states = history(best_of(fake(), listed([3.0, 2.0, 1.0])))
    known = [list(map(bool, state.inner.problem.live)) for state in states[:2]]  # of the version that follows
    assert known == [[True, False, False], [True, True, False]]
    assert states[-1].progress.live.all()


# What is kept.

DISTANCES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, np.inf]), min_size=VERSIONS, max_size=VERSIONS)


@functools.partial(jax.jit, static_argnums=0)
def steps_of(combine, distances):
    """The progress after each of four steps, done or not."""
    attack = combine(fake(), listed(distances))

    def step(state, _):
        after = attack.step(lambda x: x, a_problem(), state)
        return after, after.progress

    return jax.lax.scan(step, attack.init(jax.random.key(0), a_problem()), length=VERSIONS)[1]


@PROPERTY
@given(DISTANCES)
def test_the_best_of_all_versions_is_kept(distances):
    seen = steps_of(best_of, jnp.asarray(distances))
    kept = np.minimum.accumulate(distances)
    np.testing.assert_array_equal(seen.best.distance, kept)
    first = np.where(np.isfinite(kept), [distances.index(distance) for distance in kept], 0)  # on a tie
    np.testing.assert_array_equal(seen.best.x[:, 0], first)
    np.testing.assert_array_equal(seen.best.c, kept)
    np.testing.assert_array_equal(seen.done, (np.arange(VERSIONS) == VERSIONS - 1) | (kept == 0))  # none is closer
    assert seen.finite.all()


@PROPERTY
@given(DISTANCES)
def test_the_worst_of_all_versions_is_kept_unless_one_fails(distances):
    seen = steps_of(worst_of, jnp.asarray(distances))
    end = distances.index(np.inf) if np.inf in distances else VERSIONS - 1
    np.testing.assert_array_equal(seen.done[: end + 1], [False] * end + [True])
    np.testing.assert_array_equal(seen.best.distance[:end], np.inf)  # nothing is shown before the end
    np.testing.assert_array_equal(seen.best.x[:end], 0)
    worst = max(distances)
    assert float(seen.best.distance[end]) == worst
    assert float(seen.best.c[end]) == worst
    assert float(seen.best.x[end, 0]) == (distances.index(worst) if np.isfinite(worst) else 0)
    assert seen.finite.all()


@pytest.mark.parametrize("combine", [best_of, worst_of])
def test_versions_run_one_after_the_other_each_at_its_length(combine):
    lengths = jnp.array([3, 1, 4, 2])
    attack = fake(length=lambda problem: lengths[problem.tau.astype(jnp.int32)])
    seen = history(combine(attack, listed([4.0, 1.0, 3.0, 2.0])))
    assert [float(s.progress.last.loss) for s in seen] == [0, 0, 0, 1, 2, 2, 2, 2, 3, 3]
    assert [int(s.progress.forwards) for s in seen] == list(range(1, 11))
    assert [int(s.progress.backwards) for s in seen] == list(range(2, 21, 2))
    # In the middle of a version, what those before it found.
    shown = [np.inf, np.inf, 4, 1, 1, 1, 1, 1, 1, 1] if combine is best_of else [np.inf] * 9 + [4]
    assert [float(s.progress.best.distance) for s in seen] == shown


def test_the_worst_case_ends_at_its_first_failure():
    attack = worst_of(fake(length=lambda problem: 2), listed([1.0, np.inf, 3.0]))
    assert len(history(attack)) == 4


# A version that is not finite finds something at 0.5, or did find it before.
@pytest.mark.parametrize("distances", [[-1.0, 1.0], [3.0, -1.0, 1.0], [3.0, 0.25, -1.0]])
def test_a_version_that_is_not_finite_ends_them_all(distances):
    broken = distances.index(-1.0)
    seen = history(best_of(fake(), listed(distances)))
    assert [bool(s.progress.finite) for s in seen] == [True] * broken + [False]
    # Of the best nothing is lost ...
    assert float(seen[-1].progress.best.distance) == min([*distances[:broken], 0.5])
    # ... and the worst is not known.
    seen = history(worst_of(fake(), listed(distances)))
    assert [bool(s.progress.finite) for s in seen] == [True] * broken + [False]
    assert np.isinf(seen[-1].progress.best.distance)
    np.testing.assert_array_equal(seen[-1].progress.best.x, 0)


def test_the_worst_of_the_best():
    # Outer versions are rows, inner ones columns.
    table = np.array([[5.0, 2.0, 4.0], [3.0, 1.0, 6.0], [9.0, 8.0, 2.5]])
    inner = Spread(init=lambda key, problem: jnp.arange(3), ask=lambda problem, i: problem._replace(scale=i + 0.0))

    def distance(state):
        return jnp.asarray(table)[state.problem.tau.astype(int), state.problem.scale.astype(int)]

    def outcome(attack):
        seen = history(attack)
        assert len(seen) == 9
        return float(seen[-1].progress.best.distance), float(seen[-1].progress.best.x[0])

    rows = listed([1.0] * 3)
    assert outcome(worst_of(best_of(fake(distance), inner), rows)) == (2.5, 2)
    assert outcome(best_of(worst_of(fake(distance), inner), rows)) == (5, 0)


# Keys.


def at_random(state) -> Array:
    return jax.random.uniform(state.key, minval=1.0, maxval=2.0)


@pytest.mark.parametrize("combine", [best_of, worst_of])
def test_every_version_has_a_key_of_its_own_and_the_first_has_the_attacks(combine):
    seen = history(combine(fake(at_random), listed([1.0] * 6)))
    drawn = [float(at_random(s.inner)) for s in seen]  # of versions 1, 2, …: the state after a step is the next's
    alone = float(at_random(fake().init(jax.random.key(0), a_problem())))
    best = [float(s.progress.best.distance) for s in seen]
    assert len({alone, *drawn}) == 7
    if combine is best_of:
        assert best == list(itertools.accumulate([alone, *drawn[:-1]], min))
    else:
        assert best[-1] == max([alone, *drawn[:-1]])
    # Another key, other draws.
    other = history(combine(fake(at_random), listed([1.0] * 6)), key=jax.random.key(1))
    assert not {float(at_random(s.inner)) for s in other} & set(drawn)


# Restarts.


@functools.partial(jax.jit, static_argnums=0)
def starts(n, keys, radius, given):
    """The starts of all n versions [B, n, 3]."""
    attack = restarted(fake(lambda state: jnp.asarray(1.0)), n, radius)

    def one(key):
        state = attack.init(key, given)
        _, seen = jax.lax.scan(
            lambda state, _: (attack.step(lambda x: x, given, state), state.inner.problem.start), state, length=n
        )
        return seen

    return jax.vmap(one)(keys)


def test_the_first_start_is_the_plain_one_and_the_others_fill_the_ball_around_it():
    count, n, radius, plain = 3000, 3, 0.7, a_problem().start
    seen = np.asarray(starts(n, jax.random.split(jax.random.key(3), count), radius, a_problem()), np.float64)
    np.testing.assert_array_equal(seen[:, 0], np.broadcast_to(plain, (count, 3)))

    offsets = seen[:, 1:] - np.asarray(plain)
    lengths = np.linalg.norm(offsets, axis=-1)
    assert lengths.max() <= radius * (1 + 1e-5)
    for version in range(n - 1):
        # Uniform in a ball of three dimensions: the cube of the radius is uniform, and so is each coordinate of the
        # direction (Archimedes).
        assert stats.kstest((lengths[:, version] / radius) ** 3, "uniform").pvalue > 0.01
        for axis in range(3):
            cosine = offsets[:, version, axis] / lengths[:, version]
            assert stats.kstest((cosine + 1) / 2, "uniform").pvalue > 0.01
    # Neither the versions of an example nor the examples share their draws.
    correlations = np.asarray(np.corrcoef(offsets.reshape(count, -1).T))
    assert abs(correlations[:3, 3:]).max() < 0.06
    assert len(np.unique(offsets[..., 0])) > 0.99 * 2 * count


def test_a_radius_of_zero_is_the_plain_start_and_a_traced_radius_will_do():
    keys = jax.random.split(jax.random.key(3), 5)
    seen = starts(3, keys, 0.0, a_problem())
    np.testing.assert_array_equal(seen, np.broadcast_to(a_problem().start, seen.shape))
    small, large = (np.asarray(starts(3, keys, radius, a_problem())) - seen for radius in (0.25, 0.5))
    np.testing.assert_allclose(large[:, 1:], 2 * small[:, 1:], rtol=1e-5)
    assert (small[:, 1:] != 0).all()


def test_only_the_start_is_drawn():
    attack = restarted(fake(), 2, 0.5)
    after = attack.step(lambda x: x, a_problem(), attack.init(jax.random.key(0), a_problem())).inner.problem
    assert (after.start != a_problem().start).all()
    known = after._replace(start=a_problem().start, live=a_problem().live)  # the slopes that the first version saw
    chex.assert_trees_all_equal(known, a_problem())


# On a model.

COUNT = 8
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
LABELS = MODEL.apply(MODEL.params, X).argmax(-1)
UNTARGETED = cw.untargeted(LABELS)
KEYS = problems.keys(COUNT)


Around = Callable[[Attack], Attack]


def identity(attack: Attack) -> Attack:
    return attack


def one_start(attack: Attack) -> Attack:
    return restarted(attack, 1, 0.5)


def five_starts(attack: Attack) -> Attack:
    return restarted(attack, 5, 1.0)


def best(attack: Attack) -> Attack:
    return best_target(attack, CLASSES)


def worst(attack: Attack) -> Attack:
    return worst_target(attack, CLASSES)


def average(attack: Attack) -> Attack:
    return average_target(attack, CLASSES)


@functools.cache
def runner(around: Around) -> Callable[..., cw.Result]:
    """The small L2 attack in something that takes an attack, compiled once."""
    return jax.jit(cw.batched(around(problems.small_l2())))


def run(around: Around, goal: cw.LabelGoal = UNTARGETED, keys: Array = KEYS) -> cw.Result:
    return runner(around)(MODEL, keys, X, goal)


@pytest.mark.long
@pytest.mark.optimized  # the programs have to be alike in all but what is compared
def test_one_start_is_the_attack_itself():
    chex.assert_trees_all_equal(run(one_start), run(identity))
    alone = at_random(fake().init(jax.random.key(0), a_problem()))
    assert history(one_start(fake(at_random)))[-1].progress.best.distance == alone


@pytest.mark.long
@pytest.mark.optimized  # the programs have to be alike in all but what is compared
def test_more_starts_are_never_worse_than_one_and_sometimes_better():
    one, five = run(identity), run(five_starts)
    assert one.success.all()
    assert (five.distance <= one.distance).all()
    assert (five.distance < 0.999 * one.distance).any()
    assert (five.forwards > 3 * one.forwards).all()


@functools.cache
def every_target() -> cw.Result:
    """The attack on the class that comes 1, 2, … after the label, in this order: fields [K - 1, B, ...]."""
    results = [run(identity, cw.targeted((LABELS + away) % CLASSES)) for away in range(1, CLASSES)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *results)
    # Some targets cannot be reached, but in some examples all can.
    assert 0 < np.sum(~stacked.success.all(0)) < COUNT
    return stacked


def picked(chosen) -> cw.Result:
    """Of the targeted results the chosen one of each example."""
    return jax.tree.map(lambda leaf: leaf[chosen, np.arange(COUNT)], every_target())


def assert_found(result: cw.Result, expected: cw.Result) -> None:
    np.testing.assert_array_equal(result.success, expected.success)
    for field in "distance", "x", "c":
        np.testing.assert_allclose(getattr(result, field), getattr(expected, field), rtol=1e-4, atol=1e-6)
    assert result.finite.all()
    assert result.finished.all()


@pytest.mark.optimized  # the programs have to be alike in all but what is compared
def test_the_best_target_is_the_nearest_of_all_targets():
    result, nearest = run(best), every_target().distance.argmin(0)
    assert len(set(nearest.tolist())) > 2
    assert_found(result, picked(nearest))
    np.testing.assert_array_equal(result.forwards, every_target().forwards.sum(0))
    np.testing.assert_array_equal(result.backwards, every_target().backwards.sum(0))


@pytest.mark.long
@pytest.mark.optimized  # the programs have to be alike in all but what is compared
def test_the_worst_target_is_the_farthest_of_all_targets_and_fails_where_one_does():
    result, farthest = run(worst), every_target().distance.argmax(0)
    assert len(set(farthest.tolist())) > 2
    assert_found(result, picked(farthest))
    failed = ~every_target().success
    tried = np.where(failed.any(0), failed.argmax(0), CLASSES - 2)  # the first that fails is the last tried
    spent = np.cumsum(every_target().forwards, axis=0)[tried, np.arange(COUNT)]
    np.testing.assert_array_equal(result.forwards, spent)


def test_the_average_target_is_one_of_the_targets_drawn_with_the_key():
    result = run(average)
    same = np.isclose(every_target().distance, result.distance, rtol=1e-4)
    assert same.any(0).all()
    drawn = same.argmax(0)
    assert len(set(drawn[result.success].tolist())) > 1
    assert_found(result, picked(drawn))
    chex.assert_trees_all_equal(run(average), result)
    # The key goes with the example, and another key draws another target.
    turned = run(average, keys=jnp.roll(KEYS, 1))
    assert (np.asarray(turned.distance) != np.asarray(result.distance)).any()


def first_target(around: Around, label, key) -> cw.LabelGoal:
    return around(fake()).init(key, a_problem(label)).inner.problem.goal


@pytest.mark.parametrize("label", [0, 2, CLASSES - 1])
def test_the_average_target_is_uniform_over_the_other_classes(label):
    keys = jax.random.split(jax.random.key(5), 4000)
    goals = jax.jit(jax.vmap(lambda key: first_target(average, label, key)))(keys)
    counts = np.bincount(goals.label, minlength=CLASSES)
    assert counts[label] == 0
    assert stats.chisquare(np.delete(counts, label)).pvalue > 0.01
    np.testing.assert_array_equal(goals.sign, 1)


@pytest.mark.parametrize("label", [0, 3, CLASSES - 1])
@pytest.mark.parametrize("around", [best, worst])
def test_every_other_class_is_a_target_once(around, label):
    states = history(around(fake()), a_problem(label))[:-1]
    goals = [first_target(around, label, jax.random.key(0)), *[state.inner.problem.goal for state in states]]
    assert sorted([label, *[int(goal.label) for goal in goals]]) == list(range(CLASSES))
    assert all(float(goal.sign) == 1 for goal in goals)


@pytest.mark.parametrize("around", [best, pytest.param(worst, marks=pytest.mark.long), average])
@pytest.mark.parametrize(("label", "sign"), [(1, 1.0), (-1, -1.0), (CLASSES, -1.0), (1000, -1.0), (-1, 1.0)])
def test_a_targeted_goal_or_no_such_label_is_reported_and_disturbs_no_neighbour(around, label, sign):
    wrong = cw.LabelGoal(label=UNTARGETED.label.at[2].set(label), sign=UNTARGETED.sign.at[2].set(sign))
    result, expected = run(around, wrong), run(around)
    assert not result.finite[2]
    assert not result.success[2]
    assert int(result.forwards[2]) == 1
    np.testing.assert_array_equal(result.x[2], X[2])
    others = np.delete(np.arange(COUNT), 2)
    chex.assert_trees_all_equal(*(jax.tree.map(lambda leaf: leaf[others], results) for results in (result, expected)))
    assert expected.finite.all()


@pytest.mark.parametrize("make", [best_target, worst_target, average_target])
def test_two_classes_at_least(make):
    with pytest.raises(ValueError, match="num_classes must be at least 2"):
        make(fake(), 1)


@pytest.mark.parametrize(("n", "radius"), [(0, 1.0), (-1, 1.0), (2, -0.5), (2, np.inf)])
def test_restarts_that_cannot_be_are_refused(n, radius):
    with pytest.raises(ValueError, match="must be at least"):
        restarted(fake(), n, radius)
