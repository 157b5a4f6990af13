"""DeepXplore's experiment on tiny networks."""

import csv

import numpy as np
import pytest

from experiments import deepxplore
from tests.generation import made


@pytest.mark.long
def test_what_is_reported_in_the_box_survives_eight_bits(tmp_path):
    seeds = np.round(255 * made.inputs(10)) / 255
    some = deepxplore.Subject(
        ("first", "second"),
        (made.units(1), made.units(2)),
        (made.model(1), made.model(2)),
        seeds.astype(np.float32),
        made.logits(1, seeds).argmax(-1),
    )
    arguments = deepxplore.Arguments(patch=3, step=1.0, rounds=1, constraints=("occlusion",), norms=(), out=tmp_path)
    rows = deepxplore.main(arguments, some)
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".csv", ".png"}
    with (tmp_path / "deepxplore.csv").open() as file:
        assert [list(row) for row in csv.DictReader(file)] == [list(row) for row in rows]
    assert len(rows) == 3
    for row in rows:
        assert row["after 8 bits"] <= row["found"]
        if "released" not in row["search"]:
            assert row["after 8 bits"] == row["found"]
            assert not row["pixels out of [0, 1]"] > 0
    assert sum(row["found"] for row in rows) > 5
