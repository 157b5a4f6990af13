"""What undoing takes off, on a tiny network."""

import numpy as np
import pytest

from cwjax.lab import data
from experiments import restored
from tests.experiments.conftest import Blobs
from tests.lab.generating import made


@pytest.mark.long
def test_no_norm_grows_and_every_success_stays(tmp_path, monkeypatch):
    monkeypatch.setitem(data.SOURCES, "blobs", Blobs())
    arguments = restored.Arguments(
        data="blobs", examples=6, attacks=("fast_l2", "fgsm"), steps=20, epsilon=0.5, out=tmp_path
    )
    rows = restored.main(arguments, made.one())
    assert [row["attack"] for row in rows] == ["fast_l2", "fgsm"]
    for row in rows:
        assert row["success"] > 0.4
        for norm in ("l0", "l2", "linf"):
            assert row[f"{norm} after"] <= row[f"{norm} before"] * (1 + 1e-6)
    assert rows[1]["l0 after"] < 0.8 * rows[1]["l0 before"]
    assert np.isfinite(rows[1]["looks"])
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".csv", ".png"}
