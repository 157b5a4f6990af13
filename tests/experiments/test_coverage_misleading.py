import numpy as np
import pytest

import cwjax as cw
from experiments import coverage_misleading
from tests.experiments.conftest import check_coverage_table


@pytest.mark.long
def test_all_five_experiments(hidden_net, tmp_path):
    arguments = coverage_misleading.Arguments(
        data="blobs", models=("any",), suites=20, examples=6, cells=4, steps=60, rounds=2, seeds=4, out=tmp_path
    )
    rows = coverage_misleading.main(arguments)
    check_coverage_table("coverage_misleading", rows, tmp_path)
    assert [row["experiment"] for row in rows] == ["E1"] * 6 + ["E2"] * 6 + ["E3"] * 6 + ["E4", "E5"]
    assert all(0 <= row["value"] <= 1 for row in rows if row["experiment"] == "E4")


def test_a_cell_is_left_as_soon_as_one_sign_differs():
    kept, signs = coverage_misleading.kept(), np.asarray([1.0, -1, 1], np.float32)
    assert kept.met(np.asarray([2.0, 0, 0.5]), signs)
    assert kept.loss(np.asarray([2.0, 0, 0.5]), signs) == 0
    assert not kept.met(np.asarray([2.0, 0.25, 0.5]), signs)
    assert kept.loss(np.asarray([2.0, 0.25, -0.5]), signs) == pytest.approx(0.75)
    assert isinstance(kept, cw.Objective)
