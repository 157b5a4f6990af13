"""Boundary Projection follows its paper's steps, and keeps the distances that they promise."""

import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.boundary_projection import boundary_projection
from cwjax.problems import Allowed
from tests.attacks.plain_net import CONSTANT, X, asked, cross_entropy_slope, goal, logits, walk

WIDE = Allowed(low=-90.0, high=90.0)  # a box that cuts no step; lengths in its widths are told in shares of 180
SPAN = 180


def recipe(x, label, sign, steps, *, alpha, beta, first=0.7, last=1.0, low=0.0, high=1.0):
    """Algorithm 1 without its rounding, by the equations of section IV."""
    points, found = [x.astype(np.float64)], False
    for i in range(steps - 1):
        y, gamma = points[-1], first + i / (steps + 1) * (last - first)
        met = (int(logits(y).argmax()) == label) == (sign > 0)
        found |= met
        n = cross_entropy_slope(y, label, sign)
        n /= np.linalg.norm(n)
        delta = y - x
        r, size = float((delta * n).sum()), np.linalg.norm(delta)
        if not found:
            z = y - alpha * gamma * n
        elif met:
            v = x + r * n
            tangent = (y - v) / max(np.linalg.norm(y - v), 1e-30)
            z = v + tangent * np.sqrt(max((gamma * size) ** 2 - r**2, 0))
        else:
            z = y - (r + np.sqrt((size / gamma) ** 2 - size**2 + r**2)) * n
            z = y + max(beta / np.linalg.norm(z - y), 1) * (z - y)
        points.append(np.clip(z, low, high))
    return points


@pytest.mark.parametrize(("place", "sign"), [(0, -1.0), (2, -1.0), (3, -1.0), (1, 1.0), (4, 1.0)])
def test_it_follows_its_recipe(place, sign):
    label, numbers = asked(place, sign), {"alpha": 0.4, "beta": 0.01}
    attack = boundary_projection(steps=12, first_step=0.4, least_step=0.01)
    points, progress = walk(attack, X[place], goal(label, sign), 12)
    expected = recipe(X[place], label, sign, 12, **numbers)
    np.testing.assert_allclose(points, np.stack(expected), atol=1e-3)
    assert int(progress.forwards) == int(progress.backwards) == 12


def test_distances_shrink_and_grow_by_gamma():
    attack = boundary_projection(steps=40, first_step=0.4 / SPAN, least_step=0.0)
    label = asked(2, -1.0)
    points, _ = walk(attack, X[2], goal(label, -1.0), 40, allowed=WIDE)
    sizes = np.linalg.norm((points - X[2].astype(np.float64)).reshape(40, -1), axis=1)
    met = [int(logits(point).argmax()) != label for point in points]
    crossed = met.index(True)
    seen = set()
    for i in range(crossed, 39):
        gamma = 0.7 + 0.3 * i / 41
        if not met[i]:
            assert sizes[i + 1] == pytest.approx(sizes[i] / gamma, rel=1e-4)
        else:  # or to the plane, where that is farther
            assert sizes[i + 1] >= sizes[i] * gamma * (1 - 1e-4)
            assert sizes[i + 1] <= sizes[i] * (1 + 1e-4)
        seen.add(met[i])
    assert seen == {True, False}


def test_no_step_back_is_shorter_than_it_may_be():
    attack = boundary_projection(steps=30, first_step=0.4 / SPAN, least_step=0.3 / SPAN)
    label = asked(2, -1.0)
    points, _ = walk(attack, X[2], goal(label, -1.0), 30, allowed=WIDE)
    met = [int(logits(point).argmax()) != label for point in points]
    steps = np.linalg.norm(np.diff(points, axis=0).reshape(29, -1), axis=1)
    back = [i for i in range(met.index(True), 29) if not met[i]]
    assert back
    assert min(steps[back]) >= 0.3 * (1 - 1e-3)


def apply(params, x):
    return x.reshape(len(x), -1) @ params


def test_on_an_affine_model_it_stays_where_it_crossed_the_boundary():
    rng = np.random.default_rng(0)
    weights, x = rng.normal(size=(12, 2)).astype(np.float32), rng.uniform(size=(3, 4)).astype(np.float32)
    label = int((x.reshape(-1) @ weights).argmax())
    attack = boundary_projection(steps=20, first_step=2 / SPAN)
    points, progress = walk(attack, x, goal(label, -1.0), 20, model=cw.bind(apply, weights), allowed=WIDE)
    np.testing.assert_allclose(points[2:], np.broadcast_to(points[1], points[2:].shape), atol=1e-4)
    assert float(progress.best.distance) == pytest.approx(2 * 0.7, rel=1e-4)


def test_a_slope_of_zero_moves_nothing():
    points, progress = walk(boundary_projection(steps=3), X[0], goal(0, -1.0), 3, model=CONSTANT)
    np.testing.assert_allclose(points[1:] - points[:-1], 0, atol=1e-6)
    assert progress.finite
    assert np.isinf(progress.best.distance)


def test_held_elements_stay():
    mask = jnp.arange(12).reshape(3, 4) % 2 == 0
    points, _ = walk(boundary_projection(steps=5), X[0], goal(asked(0, -1.0), -1.0), 5, mask=mask)
    held = ~np.asarray(mask)
    np.testing.assert_array_equal(points[:, held], np.stack([X[0][held]] * len(points)).astype(np.float64))
    assert not np.array_equal(points[0], points[-1])


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"first_step": 0}, "first_step must be more than 0, got 0"),
        ({"least_step": -1}, "least_step must be at least 0, got -1"),
        ({"first_gamma": 0}, "first_gamma must be more than 0, got 0"),
        ({"first_gamma": 1.1}, "first_gamma must be at most 1, got 1.1"),
        ({"last_gamma": 1.1}, "last_gamma must be at most 1, got 1.1"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"objective": "f6"}, "objective must be of the type cwjax.Objective, got the text 'f6'"),
    ],
)
def test_what_it_refuses(told, message):
    with pytest.raises((ValueError, TypeError), match=message):
        boundary_projection(**told)
