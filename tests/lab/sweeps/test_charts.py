"""The pictures of a sweep."""

import numpy as np
import pytest

from cwjax.lab.sweeps import charts, outcomes
from tests.lab.sweeps import made

pytestmark = pytest.mark.usefixtures("drawn")

INF = float("inf")


def test_confidences_do_not_compare(tmp_path):
    """A perturbation of a higher confidence is longer, so neither a mean nor the front is over several of them."""
    asked = [made.configuration(confidence=kappa, steps=steps) for kappa in (0.0, 5.0) for steps in (10, 20)]
    made.sweep(tmp_path, asked, lambda place, index: INF if place == 1 and index == 9 else 1.0 + index)
    found, _ = outcomes.read(tmp_path)
    assert [row["mean over common"] for row in outcomes.rows(found)] == [5.0, 5.0, 5.5, 5.5]
    shot = charts.costs("l2", found)
    assert shot is not None
    assert "There is a line for each model, data set, kind of targets and confidence" in shot.caption
    alone = charts.costs("l2", found[:2])
    assert alone is not None
    assert "There is a line for each" not in alone.caption


def test_the_front_is_that_counted_by_hand():
    cost, distance = np.array([4.0, 1, 2, 3, 1, 0.5]), np.array([1.0, 3, 4, 2, 2.5, 0.1])
    able = np.array([True] * 5 + [False])
    assert charts.front(cost, distance, able).tolist() == [4, 3, 0]
