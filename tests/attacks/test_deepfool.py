"""DeepFool steps onto the nearest boundary: exactly so on affine models, and as the recipe says on others."""

import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.deepfool import class_differences, deepfool
from cwjax.problems import Allowed
from tests.attacks.plain_net import CONSTANT, X, asked, close, goal, jacobian, logits, walk

NORMS = ["l2", "linf"]
DUAL = {"l2": 2, "linf": 1}


def recipe(x, label, sign, norm, moves, *, classes=5, overshoot=0.02):
    """Algorithm 2, with |w|'s dual norm in place of |w|₂ for L-infinity; stops where the class is what is asked."""
    points = [x.astype(np.float64)]
    for _ in range(moves):
        z, slopes = logits(points[-1]), jacobian(points[-1])
        others = sorted(set(range(len(z))) - {label}, key=lambda k: -z[k])[: classes - 1]
        behind = np.array([sign * (z[k] - z[label]) for k in others])
        normals = [sign * (slopes[k] - slopes[label]) for k in others]
        if (sign < 0 and behind.min() <= 0) or (sign > 0 and behind.max() <= 0):
            break
        sizes = np.array([np.linalg.norm(w.ravel(), DUAL[norm]) for w in normals])
        reach = np.abs(behind) / sizes
        best = reach.argmin() if sign < 0 else np.where(behind > 0, reach, -1).argmax()
        unit = np.sign(normals[best]) if norm == "linf" else normals[best] / sizes[best]
        points.append(np.clip(points[-1] - (1 + overshoot) * (reach[best] + 1e-4) * unit, 0, 1))
    return points


@pytest.mark.parametrize("norm", NORMS)
def test_it_follows_its_recipe(norm):
    attack = deepfool(norm=norm, steps=6)
    for place, sign in ((0, -1.0), (3, -1.0), (1, 1.0)):
        label = asked(place, sign)
        points, progress = walk(attack, X[place], goal(label, sign), 6)
        expected = recipe(X[place], label, sign, norm, 5)
        assert len(points) == len(expected)
        np.testing.assert_allclose(points, np.stack(expected), atol=2e-4)
        assert int(progress.backwards) == 4 * int(progress.forwards)  # one for each other class


def test_it_looks_at_as_many_classes_as_it_is_told():
    label = asked(0, -1.0)
    attack = deepfool(objective=class_differences(classes=3), steps=3)
    points, progress = walk(attack, X[0], goal(label, -1.0), 3)
    close(points[:2], recipe(X[0], label, -1.0, "l2", 1, classes=3))
    assert int(progress.backwards) == 2 * int(progress.forwards)


def test_with_the_margin_alone_it_is_the_difference_to_the_strongest_other_class():
    label = asked(1, 1.0)
    points, progress = walk(deepfool(objective=cw.objectives.logit_margin(), steps=3), X[1], goal(label, 1.0), 3)
    close(points[:2], recipe(X[1], label, 1.0, "l2", 1, classes=2))
    assert int(progress.backwards) == int(progress.forwards)


def apply(params, x):
    return x.reshape(x.shape[0], -1) @ params[0] + params[1][None]


def affine(seed):
    """Weights [S, K] and a model that is affine, a point in the middle of its box, and the class it gives."""
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(size=(12, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    x = rng.uniform(0.45, 0.55, size=(3, 4)).astype(np.float32)
    return cw.bind(apply, (weights, bias)), weights, x, (x.reshape(-1) @ weights + bias).astype(np.float64)


@pytest.mark.parametrize("norm", NORMS)
def test_on_an_affine_model_one_step_reaches_the_nearest_boundary(norm):
    confidence, wide = 0.7, Allowed(low=-9.0, high=9.0)
    attack = deepfool(norm=norm, objective=class_differences(confidence))
    for seed in range(3):
        model, weights, x, z = affine(seed)
        label = int(z.argmax())
        normals = np.delete(weights[:, label, None] - weights, label, axis=1)
        leads = z[label] - np.delete(z, label) + confidence
        closest = (leads / np.linalg.norm(normals, DUAL[norm], axis=0)).min()
        points, progress = walk(attack, x, goal(label, -1.0), 9, model=model, allowed=wide)
        assert len(points) == 2
        assert float(progress.best.distance) == pytest.approx(1.02 * (closest + 18 * 1e-4), rel=1e-3)  # in widths


def test_a_slope_of_zero_moves_nothing():
    attack = deepfool(steps=3)
    for sign, label in ((-1.0, 0), (1.0, 1)):
        points, progress = walk(attack, X[0], goal(label, sign), 3, model=CONSTANT)
        np.testing.assert_allclose(points[1:] - points[:-1], 0, atol=1e-5)
        assert progress.finite
        assert np.isinf(progress.best.distance)


def test_it_ends_where_it_starts_if_nothing_is_to_be_done():
    points, progress = walk(deepfool(), X[0], goal(0, 1.0), 9, model=CONSTANT)
    assert len(points) == 1
    assert float(progress.best.distance) == 0


def test_held_elements_stay():
    mask = jnp.arange(12).reshape(3, 4) % 2 == 0
    points, _ = walk(deepfool(steps=4), X[0], goal(asked(0, -1.0), -1.0), 4, mask=mask)
    held = ~np.asarray(mask)
    np.testing.assert_array_equal(points[:, held], np.stack([X[0][held]] * len(points)).astype(np.float64))
    assert not np.array_equal(points[0], points[-1])


def test_a_norm_that_it_does_not_know():
    with pytest.raises(ValueError, match="norm must be one of l2, linf, got 'l1'"):
        deepfool(norm="l1")
