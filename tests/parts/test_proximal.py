"""Adam, the proximal operator in its metric, and the units of the elements."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cwjax as cw
from cwjax.parts import proximal
from cwjax.parts.norms import NORMS, units
from cwjax.problems import problem as problem_of

UNEQUAL = problem_of(
    jnp.array([0.5, 0.5, 0.5]),
    cw.LabelGoal(jnp.int32(0), jnp.float32(-1)),
    cw.problems.Allowed(high=np.array([1.0, 4.0, 2.0])),
)


def test_adam_is_that_of_optax():
    ours, theirs = proximal.adam(jnp.zeros(5)), optax.scale_by_adam()
    state = theirs.init(jnp.zeros(5))
    for taken in range(3):
        gradient = jnp.asarray(np.random.default_rng(taken).normal(size=5), jnp.float32)
        expected, state = theirs.update(gradient, state)
        ours = ours.update(gradient, 0.9)
        np.testing.assert_allclose(ours.step(jnp.int32(taken), 0.9), jnp.asarray(expected), rtol=1e-4)


def test_in_l1_each_element_has_a_unit_and_a_weight_of_its_own():
    width, weight = proximal.weighted_units("l1", UNEQUAL)
    np.testing.assert_allclose(width, [1, 4, 2])
    np.testing.assert_allclose(weight, [0.5, 2, 1], rtol=1e-6)  # the geometric mean of the widths is 2


@pytest.mark.parametrize("norm", ["l2", "l0"])
def test_in_other_norms_the_weight_is_one_for_all(norm):
    width, weight = proximal.weighted_units(norm, UNEQUAL)
    np.testing.assert_array_equal(width, units(norm, UNEQUAL))
    assert weight == 1


def shrunk(norm, target, divisor, weight, clipped=lambda change: change):
    target, divisor = (jnp.asarray(each, jnp.float32) for each in (target, divisor))
    weight = jnp.asarray(weight, jnp.float32)
    return np.asarray(proximal.shrunk(norm, target, divisor=divisor, weight=weight, clipped=clipped))


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ("l1", [2.5, 0.0, -3.5]),  # each loses weight/D
        ("l2", np.array([3.0, 0.3, -4.0]) * (1 - 0.5 / np.sqrt(25.09))),  # the whole loses it
    ],
)
def test_where_adam_divides_all_by_the_same_it_is_the_plain_operator(norm, expected):
    np.testing.assert_allclose(shrunk(norm, [3.0, 0.3, -4.0], [2.0, 2.0, 2.0], 1.0), expected, rtol=1e-5)


def test_of_pixels_it_takes_from_the_length_of_each_and_leaves_its_direction():
    target = jnp.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])  # lengths of 5, 0.5 and 0
    given = {"divisor": jnp.ones((3, 2)), "weight": jnp.float32(1), "clipped": lambda change: change}
    once = NORMS["l0"].prox(jnp.array([5.0]), jnp.float32(1))[0]
    of_pixels = proximal.of_pixels(NORMS["l0"].prox, 1)(target, jnp.array([[1.0, 0.2], [1.0, 1.0], [1.0, 1.0]]))
    np.testing.assert_allclose(of_pixels, jnp.array([[0.6, 0.8], [0, 0], [0, 0]]) * once, rtol=1e-5)
    last = proximal.shrunk("l0", target, **given, channels=1)
    assert last[0, 1] / last[0, 0] == pytest.approx(4 / 3, rel=1e-5)
    assert not last[1:].any()


def test_a_pixel_of_one_channel_is_an_element():
    target = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 1)), jnp.float32)
    given = {"divisor": jnp.ones((4, 4, 1)), "weight": jnp.float32(0.1), "clipped": lambda change: change}
    np.testing.assert_array_equal(
        proximal.shrunk("l0", target, **given, channels=2), proximal.shrunk("l0", target, **given)
    )


def test_it_comes_near_the_minimum_in_adams_metric():
    """Of `Σ D·(z - target)²/2 + weight·|z|₁`, which is at the target less weight/D; half of the rest is left a time."""
    target, divisor, weight = np.array([3.0, 3.0]), np.array([1.0, 0.5]), 0.4
    np.testing.assert_allclose(shrunk("l1", target, divisor, weight), [2.6, 3 - 0.8 * (1 - 2.0**-5)], rtol=1e-5)


def test_an_element_of_small_slopes_loses_five_weights_at_the_most():
    np.testing.assert_allclose(shrunk("l1", [3.0, 3.0], [1.0, 1e-6], 0.1), [2.9, 2.5], rtol=1e-5)


def test_it_ends_once_little_changes():
    np.testing.assert_allclose(shrunk("l1", [30.0, 30.0], [1.0, 1e-6], 0.1), [29.9, 29.9], rtol=1e-6)


def test_the_change_goes_no_farther_than_the_box():
    found = shrunk("l1", [3.0, -0.3], [1.0, 1.0], 0.1, clipped=lambda change: jnp.clip(change, -0.1, 0.5))
    np.testing.assert_allclose(found, [0.5, -0.1], rtol=1e-6)
