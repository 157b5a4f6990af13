"""PMA lowers the losses of its stages, by steps that shrink twice in a run, from a new start in each run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.pma import pma
from cwjax.problems import problem
from tests import problems
from tests.attacks.plain_net import CONSTANT, MODEL, X, asked, goal, jacobian, logits, softmax, walk

EPSILON, POINTS = 0.02, 11  # too near for any example; ten moves


def probability_slopes(x):
    """Of the softmax's outputs, [K, *S]."""
    p, z = softmax(logits(x)), jacobian(x)
    return p[:, None, None] * (z - np.tensordot(p, z, 1)[None])


def recipe(x, label, sign, run, start):
    """The loop of the authors' public code (MDAttack with loss "pm"), in NumPy: it raises these losses."""
    points, moves = [start], POINTS - 1
    half = moves / 2
    for i in range(moves):
        p, slopes = softmax(logits(points[-1])), probability_slopes(points[-1])
        other = int(np.argmax(p - 9 * np.eye(len(p))[label]))
        up = slopes[label] if i < 1 else (slopes[other] if run % 2 else -slopes[label])
        up = slopes[other] - slopes[label] if i >= half else up
        j = i - half - 1 if i > half else i - 1
        step = 2 * EPSILON * 0.5 * (1 + np.cos(j / (moves - half) * np.pi))
        moved = np.clip(points[-1] - sign * step * np.sign(up), x - EPSILON, x + EPSILON)
        points.append(np.clip(moved, 0, 1))
    return points


@pytest.mark.parametrize(("place", "sign"), [(2, -1.0), (3, -1.0), (4, 1.0)])
def test_it_follows_the_authors_code(place, sign):
    label = asked(place, sign)
    attack = pma(epsilon=EPSILON, steps=3 * POINTS, runs=3)
    points, progress = walk(attack, X[place], goal(label, sign), 99)
    assert len(points) == 1 + 3 * POINTS
    np.testing.assert_array_equal(points[0], X[place])
    for run in range(3):
        own = points[1 + run * POINTS : 1 + (run + 1) * POINTS]
        expected = recipe(X[place].astype(np.float64), label, sign, run, own[0])
        np.testing.assert_allclose(own, np.stack(expected), atol=1e-6)
    starts = points[1::POINTS]
    assert len(np.unique(starts.reshape(3, -1), axis=0)) == 3
    assert np.abs(points - X[place]).max() <= EPSILON * (1 + 1e-5)
    assert np.isinf(float(progress.best.distance))


def test_runs_of_the_two_kinds_differ():
    own, other = (recipe(X[3].astype(np.float64), asked(3, -1.0), -1.0, run, X[3] * 1.0) for run in (0, 1))
    assert np.abs(np.stack(own) - np.stack(other)).max() > EPSILON


def test_it_ends_at_its_first_success():
    points, progress = walk(pma(epsilon=0.5), X[2], goal(asked(2, -1.0), -1.0), 300)
    assert len(points) < 100
    assert int(logits(points[-1]).argmax()) != asked(2, -1.0)
    assert all(int(logits(point).argmax()) == asked(2, -1.0) for point in points[:-1])
    assert float(progress.best.distance) == pytest.approx(np.abs(points[-1] - X[2]).max(), rel=1e-5)


def test_diversified_moves_raise_a_random_sum_of_the_logits():
    attack = pma(epsilon=EPSILON, steps=POINTS, runs=1, diversified=True)
    given = problem(jnp.asarray(X[3]), goal(asked(3, -1.0), -1.0))
    step, directions = jax.jit(attack.step), []
    for seed in range(3):
        key = jax.random.key(seed)
        state, points = attack.init(key, given), []
        for _ in range(4):
            points.append(np.asarray(state.w, np.float64))
            state = step(MODEL, given, state)
        for place in range(2):
            drawn = jax.random.fold_in(jax.random.fold_in(key, 1), place)
            weights = np.asarray(jax.random.uniform(drawn, (problems.CLASSES,), minval=-1, maxval=1), np.float64)
            up = np.sign(np.tensordot(weights, jacobian(points[1 + place]), 1))
            moved = np.clip(points[1 + place] + EPSILON * up, X[3] - EPSILON, X[3] + EPSILON)
            np.testing.assert_allclose(points[2 + place], np.clip(moved, 0, 1), atol=1e-6)
            directions.append(up)
    assert len(np.unique(np.stack(directions).reshape(6, -1), axis=0)) > 3


@pytest.mark.long
def test_the_least_radius_is_found():
    goals = cw.untargeted(jnp.asarray([asked(place, -1.0) for place in range(len(X))]))
    run = jax.jit(cw.batched(cw.minimised(pma(epsilon=0.1, steps=42), steps=8)))
    result = run(MODEL, problems.keys(len(X)), jnp.asarray(X), goals)
    assert result.success.all()
    fast = jax.jit(cw.batched(cw.fast("linf", steps=200)))(MODEL, problems.keys(len(X)), jnp.asarray(X), goals)
    assert (result.distance <= 1.5 * fast.distance + 1e-3).all()


def test_unhinged_f2_goes_on_falling_where_the_goal_is_met():
    hinged, unhinged = (cw.objectives.probability_margin(hinged=hinged) for hinged in (True, False))
    z = jnp.asarray([1.0, 3.0, 0.5])
    p = softmax(np.asarray(z, np.float64))
    assert float(hinged.loss(z, goal(1, 1.0))) == 0
    assert float(unhinged.loss(z, goal(1, 1.0))) == pytest.approx(p[0] - p[1], rel=1e-4)
    assert float(unhinged.loss(z, goal(0, 1.0))) == float(hinged.loss(z, goal(0, 1.0)))
    assert float(pma(epsilon=1.0).terms.objective.loss(z, goal(1, 1.0))) == pytest.approx(p[0] - p[1], rel=1e-4)


def test_a_slope_of_zero_moves_nothing():
    points, progress = walk(pma(epsilon=0.1, steps=6, runs=1), X[0], goal(0, -1.0), 7, model=CONSTANT)
    np.testing.assert_array_equal(points[2:], np.broadcast_to(points[1], points[2:].shape))
    assert progress.finite
    assert np.isinf(progress.best.distance)


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"epsilon": 0}, "epsilon must be more than 0, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"runs": 0}, "runs must be at least 1, got 0"),
        ({"runs": 1.5}, "runs must be a whole number, got 1.5"),
        ({"confidence": -1}, "confidence must be at least 0, got -1"),
    ],
)
def test_what_it_refuses(told, message):
    with pytest.raises((ValueError, TypeError), match=message):
        pma(**{"epsilon": 0.1} | told)
