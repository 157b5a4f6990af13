"""PDGD and PDPGD ask about the points that adv-lib's recipe gives, recomputed in NumPy; the proximal operators minimise
what they are to minimise.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.attacks.pdpgd import pdgd, pdpgd
from cwjax.parts.norms import NORMS
from tests.attacks import asked


def softmax(ratio):
    return np.array([1.0, np.exp(ratio)]) / (1 + np.exp(ratio))


def proximal(name, x, weight):
    with jax.enable_x64(True):
        return np.asarray(NORMS[name].prox(jnp.asarray(x), jnp.asarray(weight)))


def recipe(x, label, sign, steps, *, first, name=None):
    points, delta, gradients = [first], first - x, []
    ratio = -np.log(0.01)
    weights = softmax(ratio)
    for i in range(steps - 1):
        m, slope = asked.margin(points[-1], label, sign)
        gradient = -slope / (1 + np.exp(m))
        if name is None:
            gradient = weights[1] * gradient + weights[0] * delta / max(asked.norm(delta), 1e-30)
        gradients.append(gradient)
        direction, denominator = asked.adam(gradients)
        rate = 0.1 * 0.01 ** (i / steps)
        delta = np.clip(x + delta - rate * direction, 0, 1) - x
        if name is not None:
            largest = denominator.max()
            z, weight = delta, weights[0] / weights[1] * rate / largest
            for _ in range(5):
                z, previous = proximal(name, z - denominator / largest * (z - delta), weight), z
                z = np.clip(x + z, 0, 1) - x
                if asked.norm(z - previous) <= 1e-2 * asked.norm(z):
                    break
            delta = z
        ratio += (0.1 * ((steps - 1 - i) / (steps - 1) * 0.9 + 0.1)) * (-1 if m >= 0 else 1)
        ratio = np.clip(ratio, np.log(1e-6), -np.log(1e-6))
        weights = 0.9 * weights + 0.1 * softmax(ratio)
        points.append(x + delta)
    return points


def test_pdgd_follows_the_recipe():
    asked.assert_follows(pdgd(steps=30), recipe, 30)


@pytest.mark.parametrize("name", ["l2", "l1", *(pytest.param(name, marks=pytest.mark.long) for name in ("l0", "linf"))])
def test_pdpgd_follows_the_recipe(name):
    asked.assert_follows(pdpgd(norm=name, steps=20), recipe, 20, name=name)


@pytest.mark.parametrize(
    ("name", "penalty"),
    [
        ("l0", lambda z: (np.abs(z) ** (2 / 3)).sum(-1)),
        ("l1", lambda z: np.abs(z).sum(-1)),
        ("l2", lambda z: np.sqrt((z**2).sum(-1))),
        ("linf", lambda z: np.abs(z).max(-1)),
    ],
)
@pytest.mark.parametrize("weight", [1e-3, 0.05, 0.3])
def test_a_proximal_operator_finds_the_minimum(name, penalty, weight):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 1, 3))
    found = np.stack([proximal(name, row, weight) for row in x])

    def value(z):
        return ((z - x) ** 2).sum(-1) / 2 + weight * penalty(z)

    noise = rng.normal(size=(5, 2000, 3)) * rng.choice([1e-3, 1e-2, 0.1], size=(5, 2000, 1))
    if name == "l0":
        # A stationary point, as in adv-lib: no small change lowers it, though an element at 0 might.
        noise = np.where(found == 0, 0, noise.clip(-1e-3, 1e-3))
        assert (found[np.abs(x) > 2 * weight**0.75] != 0).all()
    assert (value(found) <= value(found + noise).min(1, keepdims=True) + 1e-12).all()


def test_no_weight_changes_nothing():
    x = jnp.asarray([0.0, 1e-3, -0.5])
    for name in NORMS:
        np.testing.assert_allclose(NORMS[name].prox(x, jnp.float32(0)), x, atol=1e-6)
        np.testing.assert_array_equal(NORMS[name].prox(jnp.zeros(3), jnp.float32(1e-3)), jnp.zeros(3))


@pytest.mark.parametrize(
    "attack",
    [pdgd(steps=6), pdpgd(norm="l0", steps=6), pytest.param(pdpgd(norm="linf", steps=6), marks=pytest.mark.long)],
)
def test_it_behaves(attack):
    asked.assert_behaves(attack, 6)


@pytest.mark.parametrize("wrong", [{"norm": "l3"}, {"primal_rate": 0.0}, {"least_ratio": 0.0}, {"averaging": 2.0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        pdpgd(**wrong)
