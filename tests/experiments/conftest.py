"""Images of blobs for experiments that would attack digits, and what holds of every table."""

import csv
from pathlib import Path

import pytest

from cwjax.lab import data
from tests.lab.conftest import Blobs


@pytest.fixture(autouse=True)
def blobs(monkeypatch):
    """A source called "blobs"."""
    monkeypatch.setitem(data.SOURCES, "blobs", Blobs())


def check_table(name: str, rows: list[dict], out: Path) -> None:
    """The files are there and whole; what was reported as a success was one when looked at again, and moved."""
    assert {path.name for path in out.iterdir()} == {f"{name}.md", f"{name}.csv", f"{name}.png"}
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with (out / f"{name}.csv").open() as file:
        assert [list(row) for row in csv.DictReader(file)] == [list(row) for row in rows]
    assert (out / f"{name}.md").read_text().count("\n| ") == len(rows) + 1
    for row in rows:
        assert row["verified"] == row["success"] > 0
        assert row["mean L2"] > 0
        assert row["median L2"] > 0
