"""DeepCT's experiment on a tiny network."""

import numpy as np
import pytest

from cwjax.lab import data
from experiments import deepct, shown
from tests.generation import two_layers


@pytest.mark.long
def test_patterns_are_reached_that_random_points_do_not(tmp_path):
    x = np.round(255 * two_layers.X) / np.float32(255)
    labels = shown.outputs_of(two_layers.MODEL, x).argmax(-1).astype(np.int32)
    images = data.Dataset("tiny", "test", x, labels, ("a", "b", "c"), np.arange(len(x)), None)
    arguments = deepct.Arguments(seeds=2, lanes=8, patterns=24, out=tmp_path)
    rows = deepct.main(arguments, two_layers.MODEL, images)
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".csv", ".png"}
    by_name = {row["added"]: row for row in rows}
    assert by_name["seeds alone"]["patterns reached"] == 0
    assert by_name["patterns"]["patterns reached"] > 0.2
    assert by_name["patterns"]["dense"] > by_name["seeds alone"]["dense"]
