"""DeepConcolic's experiment on a tiny network."""

import numpy as np
import pytest

from cwjax.lab import data
from experiments import deepconcolic, deepconcolic_budget, deepconcolic_lipschitz, shown
from tests.generation import two_layers


def tiny():
    x = np.round(255 * np.concatenate([two_layers.X] * 3)) / np.float32(255)
    labels = shown.outputs_of(two_layers.MODEL, x).argmax(-1).astype(np.int32)
    return data.Dataset("tiny", "test", x, labels, ("a", "b", "c"), np.arange(len(x)), None)


@pytest.mark.long
def test_gradients_meet_more_than_random_tests(tmp_path):
    arguments = deepconcolic.Arguments(
        lanes=8, boundaries=8, pairs=8, elements=6, few_pixels=6, programs=1, out=tmp_path
    )
    rows = deepconcolic.main(arguments, two_layers.MODEL, tiny())
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".csv", ".png"}
    assert [row["requirements"] for row in rows] == ["NC", "NC, elements", "NBC", "SSC", "NC, elements, L0"]
    assert rows[0]["met"] >= rows[0]["met by seeds and random tests"]
    assert rows[0]["met"] > 0.7
    assert "the linear program says" in (tmp_path / "deepconcolic.md").read_text()


@pytest.mark.long
def test_a_search_finds_steeper_pairs_than_chance(tmp_path):
    arguments = deepconcolic_lipschitz.Arguments(images=4, pairs=500, constants=20, out=tmp_path)
    rows = deepconcolic_lipschitz.main(arguments, two_layers.MODEL, tiny())
    assert np.mean([row["found / random"] for row in rows]) > 1
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".csv", ".png"}


@pytest.mark.long
def test_every_setting_and_attack_spends_what_it_says(tmp_path):
    arguments = deepconcolic_budget.Arguments(
        kinds=("NC", "SSC"), settings=("base", "radius"), seeds=2, count=8, lanes=8, out=tmp_path
    )
    rows = deepconcolic_budget.main(arguments, two_layers.MODEL, tiny())
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".csv", ".png"}
    assert [row["requirements"] for row in rows] == ["NC"] * 4 + ["SSC"] * 4
    for base, radius, *attacks in (rows[:4], rows[4:]):
        assert radius["met"] >= base["met"]
        for row in attacks:
            assert row["gradients"] <= base["gradients"]
            assert row["tests"] == 2 * row["seeds"]  # a test for each other class
    # the seeds' own neurons count, and a search that meets more has made a test for each
    assert rows[0]["met"] > 0.5
    assert sum(row["adversarial"] for row in rows if "DeepConcolic" not in row["search"]) > 0
