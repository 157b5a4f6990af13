"""sigma-zero asks about the points that algorithm 1 gives, recomputed in NumPy."""

import numpy as np
import pytest

from cwjax.attacks.sigma_zero import sigma_zero
from tests.attacks import asked


def recipe(x, label, sign, steps, *, first):
    points, delta, gradients, tau, eta = [first], first - x, [], 0.3, 1.0
    for i in range(steps - 1):
        m, slope = asked.margin(points[-1], label, sign)
        g = 2e-3 * delta / (delta**2 + 1e-3) ** 2 / x.size - (slope if m <= 0 else 0)
        gradients.append(g / max(np.abs(g).max(), 1e-12))
        delta = np.clip(x + delta - eta * asked.adam(gradients)[0], 0, 1) - x
        eta = asked.cosine(1.0, 0.1, i, steps)
        tau = np.clip(tau + (0.01 if m > 0 else -0.01) * eta, 0, 1)
        delta = np.where(np.abs(delta) < tau, 0, delta)
        points.append(x + delta)
    return points


def test_it_follows_the_algorithm():
    asked.assert_follows(sigma_zero(steps=30), recipe, 30)


def test_it_behaves():
    asked.assert_behaves(sigma_zero(steps=6), 6)


def test_it_reports_elements():
    points, progress = asked.walked(sigma_zero(steps=40), 40)
    changed = (points != asked.X[:, None]).sum((2, 3))
    assert (np.isfinite(progress.best.distance)).mean() > 0.6
    found = np.isfinite(progress.best.distance)
    expected = (progress.best.x != asked.X).sum((1, 2))
    np.testing.assert_array_equal(progress.best.distance[found], expected[found])
    assert (expected[found] >= changed[found].min(1)).all()


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"threshold": 1.5}, {"first_step": 0.0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sigma_zero(**wrong)
