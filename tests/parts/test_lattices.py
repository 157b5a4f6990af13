"""Levels by element: what is nearest, what follows, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cwjax.parts import lattices
from cwjax.parts.lattices import check_on, lattice

ROWS = [[0, 1], [0, 2, 5], [-1, 0, 0.1, 7], [3]]
MIXED = lattice(ROWS)
SIDES = jax.jit(lambda x: (MIXED.below(x), MIXED.above(x), MIXED.holds(x)))
VALUES = st.lists(st.floats(-9, 9, width=32, allow_subnormal=False), min_size=4, max_size=4)


@settings(deadline=None, max_examples=60, derandomize=True, database=None)
@given(VALUES)
def test_a_value_lies_between_its_levels(values):
    edges = [abs(abs(v - value) - 1e-5) for row, value in zip(ROWS, values, strict=True) for v in row]
    assume(min(edges) > 1e-6)  # there rounding decides whether a value is the level
    below, above, holds = SIDES(np.array(values, np.float32))
    for row, value, first, second, on in zip(ROWS, values, below, above, holds, strict=True):
        near = 1e-5
        under, over = [v for v in row if v <= value + near], [v for v in row if v >= value - near]
        assert min(abs(first - v) for v in [max(under or row[:1])]) < near
        assert abs(second - min(over or row[-1:])) < near
        assert on == any(abs(v - value) < near for v in row)


def test_the_next_level_up_and_down_ends_at_the_last():
    x = jnp.array([0.0, 2.0, 7.0, 3.0])
    assert MIXED.next(x, jnp.array([True] * 4)).tolist() == [1, 5, 7, 3]
    np.testing.assert_allclose(MIXED.next(x, jnp.array([False] * 4)), [0, 0, 0.1, 3], rtol=1e-6)


def test_counts_are_whole_however_large():
    counts = lattice(steps=np.array([1.0, 0.5]))
    x = jnp.array([12_345_678.0, 2.26])
    assert counts.below(x).tolist() == [12_345_678.0, 2.0]
    assert counts.above(x).tolist() == [12_345_678.0, 2.5]
    assert counts.next(counts.above(x), jnp.array([True, False])).tolist() == [12_345_679.0, 2.0]
    assert counts.holds(jnp.array([3.0, 0.4])).tolist() == [True, False]


def test_what_follows_from_what_follows():
    closed = lattice(implies=[(0, 1), (1, 2)], shape=(3,)).implies
    assert np.argwhere(np.asarray(closed)).tolist() == [[0, 1], [0, 2], [1, 2]]
    there_and_back = lattice(implies=[(0, 1), (1, 0)], shape=(2,)).implies
    assert np.argwhere(np.asarray(there_and_back)).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: lattice([1, 0]), "levels must ascend, got 1 before 0: sort them"),
        (lambda: lattice([[0, 1], [2, 2]]), "levels of element 1 must ascend, got 2 before 2"),
        (lambda: lattice([0, np.nan]), "at least one finite number"),
        (lambda: lattice(steps=[1.0, -1.0]), "at least 0, got -1.0"),
        (lambda: lattice(steps=np.nan), "got nan"),
        (lambda: lattice(implies=[(0, 1)]), "need the shape of one input"),
        (lambda: lattice(implies=[(0, 3)], shape=(3,)), "places from 0 to 2"),
        (lambda: lattice(implies=[(1, 1)], shape=(3,)), "two different places"),
        (lambda: lattice(ROWS, shape=(3,)), r"levels for 4 elements does not fit one input \[3\]"),
        (lambda: check_on(lattice(), np.array([[0, 0.5]])), r"first x\[0, 1\], which is 0.5 and not 0 or 1"),
        (lambda: check_on(MIXED, np.zeros((1, 3))), "levels for 4 elements"),
        (lambda: check_on(lattice(implies=[(0, 1)], shape=(3,)), np.zeros((1, 2))), "relates 3 elements"),
        (lambda: check_on(lattice(), np.array([[np.nan]])), "none of their levels"),
    ],
)
def test_what_is_no_lattice_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_traced_inputs_are_not_looked_at():
    assert jax.jit(lambda x: (lattices.check_on(MIXED, x), x)[1])(jnp.full((1, 4), 0.5)).shape == (1, 4)
