"""Draws are uniform in their ball, directions have norm one, and a slope of zero has none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.parts.norms import BALLS, NORMS, ball

ORDERS = {"l1": 1, "l2": 2, "linf": np.inf}
SIZE = 3


@pytest.mark.parametrize("norm", BALLS)
def test_draws_are_uniform_in_the_ball(norm):
    keys = jax.random.split(jax.random.key(1), 4000)
    drawn = np.asarray(jax.vmap(lambda key: NORMS[norm].draw(key, jnp.zeros(SIZE)))(keys))
    sizes = np.linalg.norm(drawn, ORDERS[norm], axis=1)
    assert sizes.max() <= 1
    # The share of the ball within radius r is r^n.
    np.testing.assert_allclose(np.quantile(sizes, [0.1, 0.5, 0.9]), np.array([0.1, 0.5, 0.9]) ** (1 / SIZE), atol=0.03)
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.03)


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("size", [1.0, 1e-25])
def test_a_direction_has_norm_one_and_the_dual_norm_is_the_greatest_rise(norm, size):
    slope = np.array([0.3, -0.2, 0.0, 0.1], np.float32) * np.float32(size)
    unit = np.asarray(NORMS[norm].unit(jnp.asarray(slope)), np.float64)
    assert np.linalg.norm(unit, ORDERS[norm]) == pytest.approx(1, rel=1e-5)
    assert (unit * slope).sum() > 0
    dual = {"l1": np.inf, "l2": 2, "linf": 1}[norm]
    exact = np.linalg.norm(slope.astype(np.float64), dual)
    assert float(NORMS[norm].dual(jnp.asarray(slope))) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("norm", BALLS)
def test_a_slope_of_zero_has_no_direction(norm):
    np.testing.assert_array_equal(NORMS[norm].unit(jnp.zeros(4)), 0)


def test_a_norm_that_there_is_not():
    with pytest.raises(ValueError, match="norm must be one of l1, l2, linf, got 'l3'"):
        ball("l3")
