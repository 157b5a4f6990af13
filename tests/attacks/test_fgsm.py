"""FGSM takes one step of the whole radius."""

import numpy as np
import pytest

from cwjax.attacks.fgsm import fgsm
from cwjax.parts.losses import negative_margin
from tests.attacks.plain_net import CONSTANT, X, asked, close, goal, jacobian, logits, walk
from tests.attacks.test_pgd import EPSILON, NORMS, recipe


def test_it_is_one_step_of_pgd():
    label = asked(2, -1.0)
    points, progress = walk(fgsm(epsilon=0.1), X[2], goal(label, -1.0), 9)
    close(points, recipe(X[2], label, -1.0, norm="linf", epsilon=0.1, alpha=0.1, moves=1))
    assert int(progress.forwards) == 2


@pytest.mark.parametrize("norm", NORMS)
def test_in_every_norm_the_step_is_as_long_as_the_radius(norm):
    label, epsilon = asked(1, 1.0), EPSILON[norm]
    points, progress = walk(fgsm(epsilon=epsilon, norm=norm), X[1], goal(label, 1.0), 9)
    assert len(points) == 2
    close(points, recipe(X[1], label, 1.0, norm=norm, epsilon=epsilon, alpha=epsilon, moves=1))
    assert progress.done
    order = {"l1": 1, "l2": 2, "linf": np.inf}[norm]
    assert 0 < np.linalg.norm((points[1] - X[1]).ravel(), order) <= epsilon * (1 + 1e-5)


def test_another_objective_has_another_slope():
    label = asked(0, -1.0)
    points, _ = walk(fgsm(epsilon=0.1, objective=negative_margin()), X[0], goal(label, -1.0), 2)
    runner_up = np.argsort(logits(X[0]))[-2]
    slope = jacobian(X[0])[label] - jacobian(X[0])[runner_up]
    close(points, [X[0], np.clip(X[0] - 0.1 * np.sign(slope), 0, 1)])


def test_a_model_without_slope_is_a_failure():
    points, progress = walk(fgsm(epsilon=0.1), X[0], goal(0, -1.0), 2, model=CONSTANT)
    np.testing.assert_allclose(points[1], X[0])
    assert progress.finite
    assert np.isinf(progress.best.distance)


def test_a_radius_of_nothing_is_refused():
    with pytest.raises(ValueError, match="epsilon"):
        fgsm(epsilon=0.0)
    with pytest.raises(ValueError, match="norm"):
        fgsm(epsilon=0.1, norm="l0")
