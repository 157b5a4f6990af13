"""MI-FGSM gathers slopes of L1 norm one, and reaches the edge of its ball with the last move."""

import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.attacks.mifgsm import mifgsm
from cwjax.attacks.pgd import bim
from tests.attacks.plain_net import CONSTANT, X, asked, close, cross_entropy_slope, goal, walk


def recipe(x, label, sign, *, norm, epsilon, decay, moves):
    """Algorithm 1; alpha = epsilon / T leaves the ball never, but in the way of rounding."""
    points, gathered = [x.astype(np.float64)], np.zeros_like(x, np.float64)
    for _ in range(moves):
        slope = cross_entropy_slope(points[-1], label, sign)
        gathered = decay * gathered + slope / np.abs(slope).sum()
        unit = np.sign(gathered) if norm == "linf" else gathered / np.linalg.norm(gathered)
        points.append(np.clip(points[-1] - epsilon / moves * unit, 0, 1))
    return points


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.3), ("l2", 0.6)])
def test_it_follows_its_recipe(norm, epsilon):
    attack = mifgsm(epsilon=epsilon, norm=norm, decay=0.7, steps=7)
    for place, sign in ((0, -1.0), (1, 1.0), (2, -1.0)):
        label = asked(place, sign)
        points, progress = walk(attack, X[place], goal(label, sign), 7)
        close(points, recipe(X[place], label, sign, norm=norm, epsilon=epsilon, decay=0.7, moves=6))
        assert int(progress.forwards) == 7


def test_without_momentum_it_is_bim():
    given = goal(asked(2, -1.0), -1.0)
    points, _ = walk(mifgsm(epsilon=0.2, decay=0.0, relative_step=0.3, steps=6), X[2], given, 6)
    expected, _ = walk(bim(epsilon=0.2, relative_step=0.3, steps=6), X[2], given, 6)
    np.testing.assert_array_equal(points, expected)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_slope_of_zero_moves_nothing(steps):
    points, progress = walk(mifgsm(epsilon=0.3, steps=steps), X[0], goal(0, -1.0), 9, model=CONSTANT)
    np.testing.assert_allclose(points, np.stack([X[0]] * steps))
    assert progress.finite


def test_its_step_is_in_the_units_of_the_problem():
    given = goal(asked(3, -1.0), -1.0)
    points, _ = walk(mifgsm(epsilon=0.4, steps=5), X[3], given, 5)
    scaled, _ = walk(mifgsm(epsilon=0.1, steps=5), X[3], given, 5, scale=jnp.asarray(4.0))
    np.testing.assert_allclose(scaled, points, atol=1e-6)
