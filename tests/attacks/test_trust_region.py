"""Trust Region goes where adv-lib's goes, point by point, and chooses the class that it chooses."""

import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.trust_region import trust_region
from tests.attacks.plain_net import CONSTANT, X, asked, goal, jacobian, logits, walk

# adv-lib 0.2.8, `tr(net, x, label, iter=1000, p=…, …)` in float64, on the network and the inputs of plain_net, each
# away from the network's own answer: the distance of what it returns.
FIXED = {  # eps=0.01
    "l2": [0.02276, 0.072023, 0.546814, 0.456041, 0.091709, 0.002539],
    "linf": [0.009112, 0.025157, 0.471121, 0.210869, 0.038945, 0.001063],
}
ADAPTIVE = {  # adaptive=True
    "l2": [0.022688, 0.071932, 0.549779, 0.456351, 0.091703, 0.002536],
    "linf": [0.009156, 0.025159, 0.462873, 0.21084, 0.039016, 0.001063],
}
TARGETS = {"l2": [0, 0, 0, 2, 4, 3], "linf": [0, 0, 1, 2, 4, 3]}  # `select_index(net, x, p=…)`
PASSES = {  # that its moves cost there, at eps=0.01 and with adaptive=True: backward passes but for those of the choice
    "l2": ([5, 8, 63, 59, 11, 2], [11, 15, 31, 33, 18, 3]),
    "linf": ([3, 4, 48, 24, 5, 2], [7, 11, 53, 32, 13, 2]),
}
NORMS = ["l2", "linf"]
DUAL = {"l2": 2, "linf": 1}


def walked(place, attack, sign=-1.0, **knobs):
    return walk(attack, X[place], goal(asked(place, sign), sign), 300, **knobs)


@pytest.mark.parametrize("norm", NORMS)
def test_with_a_fixed_radius_it_ends_where_adv_libs_ends(norm):
    attack = trust_region(norm=norm, radius=0.01, adaptive=False)
    for place, expected in enumerate(FIXED[norm]):
        points, progress = walked(place, attack)
        assert float(progress.best.distance) == pytest.approx(expected, rel=2e-3)
        # Four looks to choose a class, of which the last leads to the first move; and one at the end.
        assert len(points) == 4 + PASSES[norm][0][place]
        assert int(progress.forwards) == int(progress.backwards) == len(points)


@pytest.mark.parametrize("norm", NORMS)
def test_with_a_radius_that_follows_its_steps_too(norm):
    attack = trust_region(norm=norm)
    for place, expected in enumerate(ADAPTIVE[norm]):
        points, progress = walked(place, attack)
        assert float(progress.best.distance) == pytest.approx(expected, rel=2e-3)
        assert len(points) == 4 + PASSES[norm][1][place]


@pytest.mark.parametrize("norm", NORMS)
def test_it_goes_for_the_class_that_is_nearest_by_margin_over_slope(norm):
    attack = trust_region(norm=norm, radius=0.01, adaptive=False)
    for place, target in enumerate(TARGETS[norm]):
        points, _ = walked(place, attack)
        np.testing.assert_array_equal(points[:4], np.broadcast_to(X[place], points[:4].shape).astype(np.float64))
        label = asked(place, -1.0)
        slope = jacobian(X[place])[label] - jacobian(X[place])[target]
        reach = (logits(X[place])[label] - logits(X[place])[target]) / np.linalg.norm(slope.ravel(), DUAL[norm])
        along = np.sign(slope) if norm == "linf" else slope / np.linalg.norm(slope)
        expected = np.clip(X[place] - 1.02 * (min(reach, 0.01) + 1e-4) * along, 0, 1)
        np.testing.assert_allclose(points[4], expected, atol=2e-5)


def test_one_class_is_the_likeliest():
    points, _ = walked(3, trust_region(candidates=1, radius=0.01, adaptive=False))
    assert TARGETS["l2"][3] == 2 != int(np.argsort(-logits(X[3]))[1])
    assert not np.array_equal(points[0], points[1])
    along = jacobian(X[3])[asked(3, -1.0)] - jacobian(X[3])[int(np.argsort(-logits(X[3]))[1])]
    expected = np.clip(X[3] - 1.02 * (0.01 + 1e-4) * along / np.linalg.norm(along), 0, 1)
    np.testing.assert_allclose(points[1], expected, atol=2e-5)


def test_the_radius_stays_between_its_ends():
    points, _ = walked(2, trust_region(radius=1.0, norm="linf"))
    steps = np.abs(np.diff(points[4:], axis=0)).reshape(len(points) - 5, -1).max(1)
    assert steps.max() <= 1.02 * (0.01 + 1e-4) + 1e-6
    longest = np.abs(points[4] - points[3]).max()
    assert longest > 0.02  # the first step is told


def test_towards_a_target_there_is_no_class_to_choose():
    attack = trust_region()
    for place in range(3):
        points, progress = walked(place, attack, sign=1.0)
        assert np.isfinite(float(progress.best.distance))
        assert not np.array_equal(points[0], points[1])
        assert int(logits(points[-1]).argmax()) == asked(place, 1.0)


def test_a_slope_of_zero_moves_nothing():
    for sign, label in ((-1.0, 0), (1.0, 1)):
        points, progress = walk(trust_region(steps=7), X[0], goal(label, sign), 7, model=CONSTANT)
        np.testing.assert_allclose(points[1:] - points[:-1], 0, atol=1e-5)
        assert progress.finite
        assert np.isinf(progress.best.distance)


def test_held_elements_stay():
    mask = jnp.arange(12).reshape(3, 4) % 2 == 0
    points, _ = walked(0, trust_region(steps=20), mask=mask)
    held = ~np.asarray(mask)
    np.testing.assert_array_equal(points[:, held], np.stack([X[0][held]] * len(points)).astype(np.float64))
    assert not np.array_equal(points[0], points[-1])


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"norm": "l1"}, "norm must be one of l2, linf, got 'l1'"),
        ({"radius": 0}, "radius must be more than 0, got 0"),
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"objective": "f6"}, "objective must be of the type cwjax.Objective, got the text 'f6'"),
        ({"objective": cw.objectives.several_labels()}, "the objective reads no logits: take another"),
    ],
)
def test_what_it_refuses(told, message):
    with pytest.raises((ValueError, TypeError), match=message):
        trust_region(**told)
