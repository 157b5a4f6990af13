"""The standings of a race, by hand."""

import numpy as np
import pytest

from cwjax.lab.racing import standings, tuning
from tests.lab.racing.made import returning


def an_entry(distance) -> standings.Entry:
    return standings.Entry(np.array(distance, np.float64), returning(np.zeros((len(distance), 1), np.float32)))


def test_standings_by_hand():
    inf = float("inf")
    told = {"good": an_entry([1.0, 2.0]), "bad": an_entry([2.0, inf]), "none": an_entry([inf, inf])}
    heat = standings.Heat("tiny", "l2", 10, np.arange(2), 0, told, {})
    [(course, best)] = standings.envelopes([heat]).items()
    assert course == ("tiny", "l2")
    rows = standings.standings_of(heat, best)
    assert [row["attack"] for row in rows] == ["good", "bad", "none"]
    assert [row["optimality"] for row in rows] == pytest.approx([1.0, 0.0, 0.0])
    assert [row["success %"] for row in rows] == [100.0, 50.0, 0.0]
    assert [row["mean over common"] for row in rows[:2]] == [1.0, 2.0]
    assert np.isnan(rows[2]["mean over common"])
    assert rows[0]["median"] == 1.5
    assert np.isnan(rows[0]["p"])
    assert rows[1]["p"] == 0.5  # of two pairs that both go one way


def test_global_optimality_takes_several_models(tmp_path):
    heats = [
        standings.Heat(model, "l2", 10, np.arange(2), 0, {"a": an_entry([1.0, 2.0]), "b": an_entry(b)}, {})
        for model, b in (("first", [1.0, 2.0]), ("second", [2.0, 2.0]))
    ]
    standings.write(heats, {}, tmp_path)
    text = (tmp_path / "race.md").read_text()
    assert "global optimality" in text
    assert "| 1 | a | 1.000 | 1.000 | 1.000 |" in text
    assert "| 2 | b | 0.5000 | 1.000 | 0.000 |" in text


@pytest.mark.parametrize(
    ("shares", "steps", "words"),
    [
        ({"a": 1.0, "b": 0.89}, {"b": "rate"}, ["a fools all", "b (89 %)", "--tune b", "--set b.rate=…"]),
        ({"a": 1.0, "b": 0.5, "c": 0.2}, {"c": "step"}, ["b (50 %), c (20 %)", "--tune c,", "--set c.step=…"]),
        ({"a": 1.0, "b": 0.5}, {}, ["b (50 %)", "more propagations"]),
        ({"a": 1.0, "b": 0.9}, {"b": "step"}, []),
        ({"a": 0.99, "b": 0.5}, {"b": "step"}, []),
        ({}, {}, []),
    ],
)
def test_a_rival_that_fails_where_another_does_not_is_named(shares, steps, words):
    found = tuning.warning(shares, steps)
    assert all(word in found for word in words)
    assert bool(found) == bool(words)
