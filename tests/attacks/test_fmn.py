"""FMN asks about the points that algorithm 1 gives, recomputed in NumPy; its first estimate of the radius is exact on
an affine model.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import cwjax as cw
from cwjax.attacks.fmn import fmn
from cwjax.parts.losses import negative_margin
from cwjax.parts.norms import NORMS
from cwjax.problems import Allowed, problem
from tests.attacks import asked

ORDER = {"l0": 0, "l1": 1, "l2": 2, "linf": np.inf}
DUAL = {"l1": np.inf, "l2": 2, "linf": 1}


def onto(name, delta, radius):
    flat = delta.ravel()
    if name == "l0":
        least = np.sort(np.abs(flat))[::-1][max(int(radius), 1) - 1]
        return np.where(np.abs(delta) < least, 0, delta)
    if name == "l1":
        if np.abs(flat).sum() <= radius:
            return delta
        lost = optimize.brentq(lambda t: np.maximum(np.abs(flat) - t, 0).sum() - radius, 0, np.abs(flat).max())
        return np.sign(delta) * np.maximum(np.abs(delta) - lost, 0)
    return delta * radius / asked.norm(delta) if name == "l2" else np.clip(delta, -radius, radius)


def recipe(x, label, sign, steps, *, first, name):
    size = lambda v: np.linalg.norm(v.ravel(), ORDER[name])  # noqa: E731
    points, delta, least = [first], first - x, np.inf
    epsilon = 1 if name == "l0" else np.inf
    for i in range(steps - 1):
        m, slope = asked.margin(points[-1], label, sign)
        gamma = asked.cosine(0.05, 0.001, i, steps)
        if m > 0:
            least = min(least, size(delta))
            epsilon = min(np.floor(epsilon * (1 - gamma)), epsilon - 1) if name == "l0" else epsilon * (1 - gamma)
            epsilon = max(min(epsilon, least), 0)
        elif name == "l0":
            epsilon = max(np.floor(epsilon * (1 + gamma)), epsilon + 1)
        elif np.isfinite(least):
            epsilon *= 1 + gamma
        else:
            epsilon = size(delta) + abs(m) / np.linalg.norm(slope.ravel(), DUAL[name])
        epsilon = min(epsilon, size(np.maximum(x, 1 - x)))
        delta = delta + asked.cosine(1.0, 0.01, i, steps) * slope / asked.norm(slope)
        delta = np.clip(x + onto(name, delta, epsilon), 0, 1) - x
        points.append(x + delta)
    return points


@pytest.mark.parametrize("name", list(ORDER))
def test_it_follows_the_algorithm(name):
    # Not longer: once it is within rounding of the boundary, rounding decides on which side.
    asked.assert_follows(fmn(norm=name, steps=18), recipe, 18, name=name)


@pytest.mark.parametrize("name", ["l0", "l2"])
def test_it_behaves(name):
    asked.assert_behaves(fmn(norm=name, steps=6), 6)


@pytest.mark.parametrize("name", list(DUAL))
@pytest.mark.parametrize("confidence", [0.0, 0.7])
def test_the_second_point_lies_on_the_boundary_of_an_affine_model(name, confidence):
    weights = np.array([[1.0, -2.0], [0.5, 0.5], [0.25, 1.0]])
    x, normal = np.array([0.3, 0.6, 0.5], np.float32), weights[:, 1] - weights[:, 0]
    lead = confidence - x @ normal
    model = cw.bind(lambda params, x: x @ params, jnp.asarray(weights, jnp.float32))
    attack = fmn(norm=name, objective=negative_margin(confidence), first_step=3.0)
    goal = jax.tree.map(lambda leaf: leaf[0], cw.targeted([1]))
    given = problem(jnp.asarray(x), goal, Allowed(low=-9.0, high=9.0))
    second = attack.step(model, given, attack.init(jax.random.key(0), given)).w
    size = np.linalg.norm(np.asarray(second) - x, ORDER[name])
    assert size == pytest.approx(lead / np.linalg.norm(normal, DUAL[name]), rel=1e-4)


@pytest.mark.parametrize("name", ["l1", "l2", "linf"])
@pytest.mark.parametrize("radius", [0.0, 0.3, 2.0, np.inf])
def test_the_projection_is_the_nearest_point_of_the_ball(name, radius):
    delta = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    inside = np.linalg.norm(delta.ravel(), ORDER[name]) <= radius
    expected = delta if inside else onto(name, delta, radius)
    np.testing.assert_allclose(NORMS[name].onto(jnp.asarray(delta), jnp.float32(radius)), expected, atol=1e-6)


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm must be one of l0, l1, l2, linf, got 'l3'"):
        fmn(norm="l3")
