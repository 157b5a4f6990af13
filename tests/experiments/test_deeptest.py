"""DeepTest's experiment on tiny networks."""

import numpy as np
import pytest

from cwjax.lab import data
from experiments import deeptest
from tests.generation import made


@pytest.mark.long
def test_broken_labels_are_counted_again(tmp_path):
    x = np.round(255 * made.inputs(60)) / np.float32(255)
    labels = made.logits(1, x).argmax(-1).astype(np.int32)
    images = data.Dataset("tiny", "test", x, labels, ("a", "b", "c"), np.arange(len(x)), None)
    arguments = deeptest.Arguments(images=20, transforms=("brightness", "fog"), guided=40, out=tmp_path)
    rows = deeptest.main(arguments, [made.model(1), made.model(2)], images)
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".csv", ".png"}
    assert [row["transform"] for row in rows] == ["brightness", "fog"]
    for row in rows:
        assert 0 <= row["random, share of settings"] <= row["random, some setting"] <= 1
    assert sum(row["slopes"] for row in rows) > 0
    assert "guided images" in (tmp_path / "deeptest.md").read_text()
