"""PGD and BIM go where the recipe says, point by point, and stay within their radius and the box."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.attacks.pgd import bim, pgd
from cwjax.problems import problem
from tests.attacks.plain_net import CONSTANT, X, asked, close, cross_entropy_slope, goal, walk

NORMS = ["l1", "l2", "linf"]
EPSILON = {"l1": 1.2, "l2": 0.5, "linf": 0.2}
ORDERS = {"l1": 1, "l2": 2, "linf": np.inf}


def direction(slope, norm):
    return np.sign(slope) if norm == "linf" else slope / np.linalg.norm(slope.ravel(), ORDERS[norm])


def nearest(delta, norm, radius):
    """In the ball; in L1 by bisection for the threshold."""
    if norm == "linf":
        return np.clip(delta, -radius, radius)
    if np.linalg.norm(delta.ravel(), ORDERS[norm]) <= radius:
        return delta
    if norm == "l2":
        return delta * radius / np.linalg.norm(delta)
    low, high = 0.0, np.abs(delta).max()
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(np.abs(delta) - middle, 0).sum() > radius else (low, middle)
    return np.sign(delta) * np.maximum(np.abs(delta) - high, 0)


def recipe(x, label, sign, *, norm, epsilon, alpha, moves, mask: Any = True):
    points = [x.astype(np.float64)]
    for _ in range(moves):
        slope = np.where(mask, cross_entropy_slope(points[-1], label, sign), 0)
        moved = points[-1] - alpha * direction(slope, norm) - x
        points.append(np.clip(x + np.where(mask, nearest(moved, norm, epsilon), 0), 0, 1))
    return points


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_follows_its_recipe(norm):
    epsilon = EPSILON[norm]
    attack = pgd(epsilon=epsilon, norm=norm, relative_step=0.3, steps=8, random_start=False)
    for place, sign in ((0, -1.0), (1, 1.0), (2, -1.0)):
        label = asked(place, sign)
        points, progress = walk(attack, X[place], goal(label, sign), 8)
        close(points, recipe(X[place], label, sign, norm=norm, epsilon=epsilon, alpha=0.3 * epsilon, moves=7))
        assert progress.done
        assert int(progress.forwards) == int(progress.backwards) == 8


def test_held_elements_do_not_count_for_the_direction():
    label, mask = asked(0, -1.0), np.arange(12).reshape(3, 4) % 3 > 0
    attack = pgd(epsilon=0.5, norm="l2", relative_step=0.3, steps=6, random_start=False)
    points, _ = walk(attack, X[0], goal(label, -1.0), 6, mask=jnp.asarray(mask))
    close(points, recipe(X[0], label, -1.0, norm="l2", epsilon=0.5, alpha=0.15, moves=5, mask=mask))


def test_bim_is_steps_of_it():
    label = asked(2, -1.0)
    points, progress = walk(bim(epsilon=0.1, steps=5), X[2], goal(label, -1.0), 9)
    close(points, recipe(X[2], label, -1.0, norm="linf", epsilon=0.1, alpha=0.02, moves=4))
    assert int(progress.forwards) == 5


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_a_radius_is_in_the_units_of_the_problem(norm):
    given = goal(asked(3, -1.0), -1.0)
    points, _ = walk(pgd(epsilon=EPSILON[norm], norm=norm, steps=5), X[3], given, 5)
    scaled, _ = walk(pgd(epsilon=EPSILON[norm] / 4, norm=norm, steps=5), X[3], given, 5, scale=jnp.asarray(4.0))
    np.testing.assert_allclose(scaled, points, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_a_random_start_lies_in_the_ball_and_in_the_box_even_from_another_start(norm):
    given = problem(jnp.asarray(X[0]), goal(0, -1.0))
    given = given._replace(start=given.x + 3.0)
    starts = jax.vmap(lambda key: pgd(epsilon=EPSILON[norm], norm=norm).init(key, given).w)(
        jax.random.split(jax.random.key(2), 50)
    )
    starts = np.asarray(starts, np.float64)
    assert starts.min() >= 0
    assert starts.max() <= 1
    sizes = np.linalg.norm((starts - X[0]).reshape(50, -1), ORDERS[norm], axis=1)
    assert sizes.max() <= EPSILON[norm] * (1 + 1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_a_slope_of_zero_moves_nothing(norm):
    attack = pgd(epsilon=0.3, norm=norm, steps=4, random_start=False)
    points, progress = walk(attack, X[0], goal(0, -1.0), 4, model=CONSTANT)
    np.testing.assert_allclose(points, np.stack([X[0]] * 4))
    assert progress.finite
    assert np.isinf(progress.best.distance)


def test_an_example_that_needs_no_change_is_found_at_once():
    _, progress = walk(pgd(epsilon=0.3, steps=4, random_start=False), X[0], goal(0, 1.0), 4, model=CONSTANT)
    assert float(progress.best.distance) == 0


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"epsilon": 1.0, "norm": "l0"}, {"epsilon": 1.0, "steps": 0}])
def test_numbers_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="must be"):
        pgd(**wrong)
