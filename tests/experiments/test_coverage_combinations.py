import pytest

from experiments import coverage_combinations
from tests.experiments.conftest import check_coverage_table


@pytest.mark.long
def test_patterns_grow_with_the_inputs(hidden_net, tmp_path):
    arguments = coverage_combinations.Arguments(data="blobs", models=("any",), examples=8, steps=60, out=tmp_path)
    rows = coverage_combinations.main(arguments)
    check_coverage_table("coverage_combinations", rows, tmp_path)
    for name in ("natural, attacked", "natural, others", "C&W L2"):
        own = [row for row in rows if row["suite"] == name]
        assert [row["inputs"] for row in own] == [row["inputs"] for row in rows if row["suite"] == "C&W L2"]
        dense = [row["dense"] for row in own]
        assert dense == sorted(dense)
        assert 0 < dense[0] <= dense[-1] <= 1
