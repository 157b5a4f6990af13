"""DeepConcolic's experiment on a tiny network."""

import numpy as np
import pytest

from cwjax.lab import data
from experiments import deepconcolic, shown
from tests.generation import two_layers


@pytest.mark.long
def test_gradients_meet_more_than_random_tests(tmp_path):
    x = np.round(255 * np.concatenate([two_layers.X] * 3)) / np.float32(255)
    labels = shown.outputs_of(two_layers.MODEL, x).argmax(-1).astype(np.int32)
    images = data.Dataset("tiny", "test", x, labels, ("a", "b", "c"), np.arange(len(x)), None)
    arguments = deepconcolic.Arguments(lanes=8, boundaries=8, pairs=8, elements=6, programs=1, out=tmp_path)
    rows = deepconcolic.main(arguments, two_layers.MODEL, images)
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".csv", ".png"}
    assert [row["requirements"] for row in rows] == ["NC", "NC, elements", "NBC", "SSC"]
    assert rows[0]["met"] >= rows[0]["met by seeds and random tests"]
    assert rows[0]["met"] > 0.7
    assert "the linear program says" in (tmp_path / "deepconcolic.md").read_text()
