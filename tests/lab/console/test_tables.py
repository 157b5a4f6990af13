"""Tables: every value below its own heading, whatever the headings are."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cwjax.lab.console import tables
from cwjax.lab.racing import standings
from tests.lab.racing.test_standings import an_entry

unhurried = settings(deadline=None, database=None, derandomize=True, max_examples=60)
NAMES = st.lists(st.sampled_from(["a", "b", "a_1", "a_2", "a_1_1", ""]), max_size=8)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], []),
        (["a", "b"], ["a", "b"]),
        (["distance", "distance", "distance"], ["distance", "distance_1", "distance_2"]),
        (["a", "a", "a_1", "a"], ["a", "a_2", "a_1", "a_3"]),
        (["a_1", "a", "a"], ["a_1", "a", "a_2"]),
    ],
)
def test_equal_names_are_told_apart(names, expected):
    assert tables.distinct(names) == expected


@unhurried
@given(NAMES)
def test_no_name_comes_twice_and_a_name_that_was_alone_stays(names):
    found = tables.distinct(names)
    assert len(set(found)) == len(found) == len(names)
    assert all(own == name for own, name in zip(found, names, strict=True) if names.count(name) == 1)
    assert all(own.startswith(name) for own, name in zip(found, names, strict=True))
    assert tables.distinct(found) == found


@unhurried
@given(NAMES)
def test_cells_are_those_of_the_columns(names):
    table = pa.table([pa.array([place, 10 + place]) for place in range(len(names))], names=names)
    wanted = [tuple(range(start, start + len(names))) for start in (0, 10)] if names else []
    assert list(tables.cells(table)) == wanted


def test_brackets_are_text_on_the_terminal():
    said = io.StringIO()
    Console(file=said, width=80).print(tables.drawn(["[red]", "x"], [["[/b]", "[1, 2]"]]))
    assert "[red]" in said.getvalue()
    assert [line.split("│")[1:3] for line in said.getvalue().splitlines() if "[1, 2]" in line] == [
        [" [/b]  ", " [1, 2] "]
    ]


def test_models_called_as_columns_are_have_columns_of_their_own(tmp_path):
    heats = [
        standings.Heat(model, "l2", 10, np.arange(2), 0, {"a": an_entry([1.0, 2.0]), "b": an_entry(b)}, {})
        for model, b in (("attack", [1.0, 2.0]), ("global", [2.0, 2.0]))
    ]
    standings.write(heats, {}, tmp_path)
    text = (tmp_path / "race.md").read_text()
    assert "| # | attack | global | attack_1 | global_1 |" in text
    assert "| 2 | b | 0.5000 | 1.000 | 0.000 |" in text
