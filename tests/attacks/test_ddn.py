"""DDN asks about the points that algorithm 1 gives, recomputed in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.attacks.ddn import ddn
from cwjax.problems import Allowed
from tests.attacks import asked


def recipe(x, label, sign, steps, *, first, levels=None):
    points, delta, epsilon = [first], first - x, 1.0
    for i in range(steps - 1):
        _, g = asked.cross_entropy(points[-1], label, sign)
        met = asked.margin(points[-1], label, sign)[0] > 0
        delta = delta - asked.cosine(1.0, 0.01, i, steps) * g / asked.norm(g)
        epsilon = min(epsilon * (0.95 if met else 1.05), asked.norm(np.maximum(x, 1 - x)))
        image = np.clip(x + delta * epsilon / asked.norm(delta), 0, 1)
        delta = (image if levels is None else np.round(image * (levels - 1)) / (levels - 1)) - x
        points.append(x + delta)
    return points


@pytest.mark.parametrize("levels", [None, 16])
def test_it_follows_the_algorithm(levels):
    asked.assert_follows(ddn(steps=30, levels=levels), recipe, 30, levels=levels)


def test_it_behaves():
    asked.assert_behaves(ddn(steps=6), 6)


def test_without_a_slope_it_goes_a_random_way():
    points, _ = asked.walked(ddn(steps=3, initial_norm=0.1), 3, apply=lambda params, x: jnp.zeros((x.shape[0], 5)))
    moved = np.abs(points[:, 1] - asked.X).sum((1, 2))
    assert (moved > 0).all()
    assert len(np.unique(moved.round(9))) == asked.COUNT


def test_its_points_lie_on_the_levels():
    points, _ = asked.walked(ddn(steps=10, levels=5), 10, allowed=Allowed(low=-1.0))
    np.testing.assert_allclose(points[:, 1:] * 2, np.round(points[:, 1:] * 2), atol=1e-12)
    assert points.min() >= -1


@pytest.mark.parametrize("wrong", [{"gamma": 0.0}, {"initial_norm": 0.0}, {"levels": 1}, {"first_step": -1.0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ddn(**wrong)
