"""The benchmark on features of unequal width: its minima by a linear program, and its tables at a small size."""

import numpy as np
import pytest
import scipy.optimize

from benchmarks import unequal


def by_linear_program(norm, slopes, room, lead):
    """The least L1 or L-infinity norm of a change of at most `room` a feature that takes `lead` away."""
    count = len(slopes)
    gain = np.append(-np.abs(slopes), 0 if norm == "linf" else [])
    if norm == "l1":
        told = scipy.optimize.linprog(np.ones(count), gain[None], [-lead], bounds=[(0, each) for each in room])
    else:  # the last variable is the norm
        below = np.c_[np.eye(count), -np.ones(count)]
        bounds = [*((0, each) for each in room), (0, None)]
        told = scipy.optimize.linprog(
            np.eye(count + 1)[-1], np.r_[gain[None], below], [-lead] + [0] * count, bounds=bounds
        )
    return told.fun if told.success else np.inf


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_the_minimum_is_that_of_a_linear_program(norm):
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9, 1.1):
        slopes, room = rng.normal(size=6), rng.uniform(size=6)
        lead = float(share * np.abs(slopes) @ room)
        assert unequal.least_change(norm, slopes, room, lead) == pytest.approx(
            by_linear_program(norm, slopes, room, lead)
        )


def test_the_minimum_in_l2():
    room = np.full(2, 10.0)
    assert unequal.least_change("l2", np.array([3.0, -4.0]), room, 10.0) == pytest.approx(2.0)  # lead over slope
    # The second feature ends at its bound, and the first does the rest.
    assert unequal.least_change("l2", np.array([3.0, 4.0]), np.array([10.0, 1.0]), 10.0) == pytest.approx(5**0.5)


@pytest.mark.long
@pytest.mark.parametrize("norm", ["l1", "l0"])
def test_the_tables_at_a_small_size(norm):
    told = unequal.Arguments(norm=(norm,), spreads=(1.0, 4.0), budgets=(60,), examples=3)
    found = unequal.rows(norm, told)
    assert [row[:2] for row in found] == [[f"1:{spread}", goal] for spread in (1, 4) for goal in "UTE"]
    if norm == "l0":
        assert all(row[2] == "3 of 3 as with equal widths" for row in found)
    else:
        ratios = np.array([[float(each) for each in row[2].split(", ")] for row in found])
        assert (ratios > 1 - 1e-5).all()
        assert (ratios[:, 0] < 1.1).all()
