"""The lean of blobs, by a tiny network."""

import numpy as np
import pytest

from experiments import regression
from tests.experiments.conftest import check_table, check_task, one_of


@pytest.mark.long
def test_the_farther_off_the_larger_the_change(tmp_path):
    arguments = regression.Arguments(
        data="blobs", updates=60, tolerances=(2.0, 8.0), other=5.0, examples=4, steps=40, out=tmp_path
    )
    rows = regression.main(arguments)
    check_table("regression", rows, tmp_path)
    near, far, _ = rows
    assert near["mean L2"] < far["mean L2"]
    for row in (near, far):
        assert row["success above"] == row["success below"] == 1
        assert 0 < row["nearer of both sides"] <= 1.05 * row["mean L2"]


def test_the_lean_of_a_line_is_its_angle():
    image = np.zeros((2, 21, 21, 1), np.float32)
    rows = np.arange(3, 18)
    image[0, rows, 10, 0] = 1
    image[1, rows, 20 - rows, 0] = 1  # as / does
    assert regression.lean_of(image) == pytest.approx([0, 45], abs=1e-4)
    assert regression.lean_of(image[:, :, ::-1]) == pytest.approx([0, -45], abs=1e-4)


@pytest.mark.long
def test_its_task_is_attacked_as_any_other(tmp_path):
    task = regression.task(regression.Arguments(data="blobs", updates=80, examples=3))
    check_task(task, tmp_path)
    assert task.wanted(one_of(task.goal)) == "off by 10°"
    assert task.read(np.float32(-2.26)) == "“leans 2.3° to the left”"
