"""The picture of a race."""

import numpy as np
import pytest

from cwjax.lab.racing import drawing

pytestmark = pytest.mark.usefixtures("drawn")

INF = np.inf


def test_a_race_draws_no_more_lines_than_can_be_told_apart_under_a_name_that_a_file_can_have():
    racer = drawing.Racer(np.array([1.0, INF]), {10: 0.5, 100: 1.0}, np.array([[2.0, 1.0], [INF, INF]]), 2.0)
    few, many = (
        drawing.race("zoo:a/b", "l2", "L2", {f"attack {k}": racer for k in range(count)}, farthest=2.0)
        for count in (1, drawing.MOST_LINES + 1)
    )
    assert few.file == "figures/race-zoo_a_b-l2.png"
    assert "Drawn are" not in few.caption
    assert many.caption.endswith("Drawn are the 12 attacks nearest to the envelope, of 13.")
    assert many.png != few.png
