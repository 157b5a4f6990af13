import numpy as np
import pytest

from experiments import coverage_faults
from tests.experiments.conftest import check_coverage_table


@pytest.mark.long
def test_a_share_of_the_neurons_is_broken_and_looked_for(hidden_net, tmp_path):
    arguments = coverage_faults.Arguments(data="blobs", models=("any",), share=0.5, plantings=3, out=tmp_path)
    rows = coverage_faults.main(arguments)
    check_coverage_table("coverage_faults", rows, tmp_path)
    assert len(rows) == 2 * 2 * 3
    assert {row["broken"] for row in rows} == {"3 of 6"}
    assert all(0 <= row["recall"] <= 1 for row in rows)


def test_only_the_broken_neurons_have_other_weights(hidden_net):
    rng = np.random.default_rng(0)
    for kind in ("negated", "noise"):
        params = coverage_faults.planted(hidden_net, 6, np.asarray([1, 4]), kind, rng).params
        changed = (np.asarray(params["first"]) != hidden_net.params["first"]).any(0)
        assert changed.tolist() == [False, True, False, False, True, False]
        np.testing.assert_array_equal(params["second"], hidden_net.params["second"])


def test_recall_counts_as_many_as_are_broken():
    score = np.asarray([0.0, 3.0, 1.0, np.inf, 0.5])
    assert coverage_faults.recall(score, np.asarray([3, 1])) == 1
    assert coverage_faults.recall(score, np.asarray([3, 2])) == 0.5
