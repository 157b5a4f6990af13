"""Where the input of a problem may go, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.base import LabelGoal
from cwjax.problems import Allowed, clip, ends, geometric_mean, problem

X = jnp.array([0.25, 0.5, 0.75], jnp.float32)
GOAL = LabelGoal(label=jnp.int32(1), sign=jnp.float32(-1))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_the_plain_problem_of_an_input(dtype):
    given = problem(X.astype(dtype), GOAL)
    np.testing.assert_array_equal(given.x, given.start)
    assert given.mask.all()
    assert given.mask.shape == given.x.shape
    assert (float(given.tau), float(given.c), float(given.scale)) == (0.0, 1.0, 1.0)
    assert {each.dtype for each in (given.tau, given.c, given.scale)} == {jnp.dtype(jnp.float32)}
    assert given.goal is GOAL
    np.testing.assert_array_equal((given.low, given.high, given.widths), [[0] * 3, [1] * 3, [1] * 3])
    assert {each.dtype for each in (given.low, given.high, given.widths, given.span)} == {jnp.dtype(jnp.float32)}
    assert given.span == 1


def test_what_has_fewer_axes_than_an_input_broadcasts_to_it():
    x = jnp.linspace(0.1, 0.9, 24).reshape(2, 3, 4)
    few = Allowed(low=-jnp.arange(4.0), high=jnp.ones(1), mask=jnp.array([True, False, True, True]), start=jnp.ones(4))
    every = jax.tree.map(lambda value: jnp.broadcast_to(value, x.shape), few)
    jax.tree.map(np.testing.assert_array_equal, problem(x, GOAL, few), problem(x, GOAL, every))


def test_lengths_are_measured_in_what_may_move():
    x, goal = jnp.array([0.5, 0.25, 0.5]), GOAL
    given = problem(x, goal, Allowed(low=jnp.array([0.0, 0.25, 0.0]), high=jnp.array([1.0, 0.25, 4.0])))
    np.testing.assert_allclose(given.widths, [1.0, 2.0, 4.0], rtol=1e-6)  # divided by, so that it has some
    np.testing.assert_allclose(given.span, 2.0, rtol=1e-6)
    np.testing.assert_array_equal(given.mask, [True, False, True])
    masked = problem(x, goal, Allowed(high=jnp.array([1.0, 9.0, 4.0]), mask=jnp.array([True, False, True])))
    np.testing.assert_allclose(masked.span, 2.0, rtol=1e-6)
    np.testing.assert_array_equal((masked.low, masked.high), [[0, 0.25, 0], [1, 0.25, 4]])


def test_the_ends_are_of_every_element_whatever_the_mask_says():
    allowed = Allowed(low=0.25, high=jnp.array([1.0, 2.0, 3.0]), mask=jnp.zeros(3, bool))
    low, high = ends(allowed, X.astype(jnp.bfloat16))
    np.testing.assert_array_equal((low, high), [[0.25] * 3, [1, 2, 3]])
    assert low.dtype == high.dtype == jnp.float32


def test_a_point_is_clipped_to_what_is_allowed_and_a_start_is_too():
    allowed = Allowed(low=X - 0.125, high=1.0, mask=jnp.array([True, False, True]), start=jnp.array([0.0, 0.0, 9.0]))
    given = problem(X, GOAL, allowed)
    np.testing.assert_array_equal(clip(given, jnp.array([0.0, 9.0, 0.875])), [0.125, 0.5, 0.875])
    np.testing.assert_array_equal(given.start, [0.125, 0.5, 1.0])


@pytest.mark.parametrize(
    ("widths", "mean"),
    [([2.0, 2.0], 2.0), ([1.0, 4.0], 2.0), ([0.0, 9.0], 9.0), ([0.0, 0.0], 1.0), ([1e15, 1e-15], 1.0)],
)
def test_the_geometric_mean_is_of_what_has_room(widths, mean):
    np.testing.assert_allclose(geometric_mean(jnp.array(widths)), mean, rtol=1e-5)


def test_what_the_model_is_told_besides_is_kept():
    context = {"length": jnp.int32(7)}
    assert problem(X, GOAL, Allowed(context=context)).context is context
    assert problem(X, GOAL).context is None
