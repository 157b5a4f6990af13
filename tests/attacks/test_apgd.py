"""APGD asks about the points that algorithm 1 gives, recomputed in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.apgd import apgd, apgd_targeted
from cwjax.parts.losses import logits_ratio
from cwjax.problems import Allowed
from tests import problems
from tests.attacks import asked

EPSILON = {"l2": 0.6, "linf": 0.3}


def recipe(x, label, sign, steps, *, first, name, loss=asked.cross_entropy):
    """Lists of all losses and points, looked through at each checkpoint."""
    epsilon, moves = EPSILON[name], steps - 1

    def project(y):
        delta = y - x
        delta = np.clip(delta, -epsilon, epsilon) if name == "linf" else delta * min(1, epsilon / asked.norm(delta))
        return np.clip(x + delta, 0, 1)

    period, least, less = (max(int(share * moves), 1) for share in (0.22, 0.06, 0.03))
    points, now, before, eta, checks, halved = [first], first, first, 2 * epsilon, [0], [False]
    losses, slopes, lows = [], [], []
    for k in range(moves):
        value, slope = loss(points[k], label, sign)
        losses.append(value)
        slopes.append(slope)
        now = points[k]
        if k == checks[-1] + period:
            last = checks[-1]
            falls = sum(losses[i + 1] < losses[i] for i in range(last, k))
            halve = falls <= 0.75 * (k - last) or (not halved[-1] and min(losses) == min(losses[: last + 1]))
            checks.append(k)
            halved.append(halve)
            period = max(period - less, least)
            if halve:
                eta /= 2
                low = int(np.argmin(losses))
                now, slope = points[low], slopes[low]
                lows.append(low)
        z = project(now - eta * (np.sign(slope) if name == "linf" else slope / asked.norm(slope)))
        alpha = 0.75 if k else 1.0
        points.append(project(now + alpha * (z - now) + (1 - alpha) * (now - before)))
        before = now
    assert lows  # there was something to test
    return points


@pytest.mark.parametrize("name", list(EPSILON))
def test_it_follows_the_algorithm(name):
    asked.assert_follows(apgd(epsilon=EPSILON[name], norm=name, steps=51), recipe, 51, looks=1, name=name)


def test_with_the_ratio_of_logits():
    attack = apgd(epsilon=0.3, steps=31, objective=logits_ratio(), random_start=False)
    asked.assert_follows(attack, recipe, 31, name="linf", loss=asked.ratio)


@pytest.mark.parametrize("name", list(EPSILON))
def test_the_start_lies_on_the_ball_and_every_point_within(name):
    attack = apgd(epsilon=0.05, norm=name, steps=20)
    points = asked.walked(attack, 21, allowed=Allowed(low=-1.0, high=2.0))[0][
        :, 1:
    ]  # the first point is the clean input
    delta = (points - asked.X[:, None]).reshape(asked.COUNT, 20, -1)
    size = np.linalg.norm(delta, np.inf if name == "linf" else 2, axis=-1)
    np.testing.assert_allclose(size[:, 0], 0.05, rtol=1e-6)
    assert size.max() <= 0.05 * (1 + 1e-6)
    assert len(np.unique(points[:, 0, 0, 0] - asked.X[:, 0, 0])) == asked.COUNT


def test_it_behaves():
    asked.assert_behaves(apgd(epsilon=0.3, steps=6, random_start=False), 6)


def test_towards_every_target_in_turn():
    attack = apgd_targeted(num_classes=problems.CLASSES, epsilon=0.3, steps=10)
    model = cw.bind(problems.mlp, problems.mlp_params())
    x = jnp.asarray(asked.X, jnp.float32)
    goal = cw.untargeted(np.asarray(model.apply(model.params, x)).argmax(1))
    result = jax.jit(cw.batched(attack))(model, problems.keys(asked.COUNT), x, goal)
    assert (result.forwards == 11 * (problems.CLASSES - 1)).all()  # and a look at the clean input each
    assert result.success.mean() > 0.6
    assert cw.metrics.successes(model, result.x, goal)[result.success].all()
    assert result.distance[result.success].max() <= 0.3 + 1e-6


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"epsilon": 0.1, "rho": 2.0}, {"epsilon": 0.1, "norm": "l1"}])
def test_what_is_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        apgd(**wrong)
