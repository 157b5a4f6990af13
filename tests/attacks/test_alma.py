"""ALMA asks about the points that adv-lib's recipe gives, recomputed in NumPy."""

import numpy as np
import pytest

from cwjax.attacks.alma import alma
from tests.attacks import asked

SIZE = {"l1": lambda v: np.abs(v).sum(), "l2": asked.norm}
AWAY = {"l1": np.sign, "l2": lambda v: v / max(asked.norm(v), 1e-30)}


def slope_of_penalty(m, rho, mu):
    return mu + 2 * mu * rho * m + rho**2 * m**2 / 2 if m >= 0 else mu / (1 - rho * m) ** 2


def recipe(x, label, sign, steps, *, first, name, first_distance):
    points, delta, rate = [first], first - x, 0.1
    square, momentum, mu, rho, found_at = np.ones_like(x), np.zeros_like(x), 1.0, 1.0, None
    checked = np.inf
    for i in range(steps - 1):
        m, slope = asked.ratio(points[-1], label, sign)
        if i == 0:
            checked = m
        elif (i + 1) % 10 == 0:
            rho = 1.2 * rho if found_at is None and m >= 0.95 * checked else rho
            checked = m
        if i:
            mu = np.clip(0.9 * mu + 0.1 * slope_of_penalty(m, rho, mu), 1e-6, 1e12)
        found_at = i if found_at is None and m < 0 else found_at
        g = slope_of_penalty(m, rho, mu) * slope + (AWAY[name](delta) if i else 0)
        if i == 0 and first_distance is not None:
            low, rate, halvings, known = 0.0, 1.0, 0, False
            while halvings < 20:
                tried = (low + rate) / 2 if known else rate
                enough = SIZE[name](np.clip(x - tried * g, 0, 1) - x) > first_distance
                halvings += known
                low, rate = (low, tried) if enough else (tried, rate if known else 2 * rate)
                known |= enough
            rate = (low + rate) / 2
        square = 0.9 * square + 0.1 * g**2
        momentum = 0.9 * momentum + g / (np.sqrt(square) + 1e-8)
        decay = 1.0 if found_at is None else 0.01 ** ((i - found_at) / (steps - found_at))
        delta = np.clip(x + delta - rate * decay * momentum, 0, 1) - x
        points.append(x + delta)
    return points


@pytest.mark.parametrize(
    ("name", "first_distance"), [("l1", 0.5), ("l2", None), pytest.param("l2", 0.1, marks=pytest.mark.long)]
)
def test_it_follows_the_recipe(name, first_distance):
    attack = alma(norm=name, steps=40, first_distance=first_distance)
    asked.assert_follows(attack, recipe, 40, name=name, first_distance=first_distance)


@pytest.mark.parametrize("name", ["l2", pytest.param("l1", marks=pytest.mark.long)])
def test_it_behaves(name):
    asked.assert_behaves(alma(norm=name, steps=6), 6)


@pytest.mark.parametrize("wrong", [{"norm": "linf"}, {"first_distance": 0.0}, {"every": 0}, {"gamma": 0.5}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        alma(**wrong)
