import pytest

from experiments import coverage_order
from tests.experiments.conftest import check_coverage_table


@pytest.mark.long
def test_each_order_is_scored(hidden_net, tmp_path):
    rows = coverage_order.main(coverage_order.Arguments(data="blobs", models=("any",), draws=50, out=tmp_path))
    check_coverage_table("coverage_order", rows, tmp_path)
    found = {row["order"]: row["APFD"] for row in rows}
    assert len(found) == 10
    assert abs(found["chance"] - 0.5) < 0.1
    assert all(0 < value <= row["best there is"] for row, value in zip(rows, found.values(), strict=True))
    assert found["margin"] > found["chance"]
