"""Progress on long work: lines where there is no terminal, and a bar where there is one."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from cwjax.lab.console import progress


@pytest.fixture
def said(monkeypatch):
    """What is printed to a file, which is no terminal."""
    file = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=file, width=40))
    return file


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is told to go on."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_come_no_more_often_than_they_should_and_the_last_step_has_its_own(said, clock):
    with progress.progress("washing", 10, done=2, every=5.0, first="soaking") as advance:
        advance()
        clock[0] += 4
        advance(2, "warm")
        clock[0] += 1
        advance(2, "hot")
        clock[0] += 3
        advance(1, "cold")
        advance(2, "dry")
        clock[0] += 1
        advance(0, "again")
    assert [line.rstrip() for line in said.getvalue().splitlines()] == [
        "washing 2/10  soaking",
        "washing 7/10 after 5 s, about 4 s left  hot",
        "washing 10/10 after 8 s  dry",
    ]


def test_a_note_may_say_how_long_the_rest_takes(said, clock):
    with progress.progress("washing", 10, left=False) as advance:
        advance(1)
        clock[0] += 5
        advance(1, "about a day left")
    assert said.getvalue().splitlines() == ["washing 2/10 after 5 s  about a day left"]


def test_what_is_not_to_be_left_out_is_said_at_once(said, clock):
    with progress.progress("washing", 10) as advance:
        advance(0, "a leak", now=True)
        clock[0] += 4.9
        advance(1, "mended")
    assert said.getvalue().split() == ["washing", "0/10", "after", "0", "s", "a", "leak"]


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=file, width=100, force_terminal=True))
    with progress.progress("washing", 10, done=2, first="soaking") as advance:
        advance(7, "hot")
    first, last = file.getvalue().split("2/10")[0], file.getvalue().split("9/10")[-1]
    assert "washing" in first
    assert "soaking" not in last
    assert "hot" in last


def test_a_line_is_printed_as_it_is_however_long(said):
    line = "[red]" + 30 * "so long " + "[/b]"
    progress.say(line)
    assert said.getvalue() == line + "\n"


def test_a_table_is_as_wide_as_it_is(said):
    table = Table("short", "long")
    table.add_row("a", 30 * "word ")
    progress.show(table)
    assert (30 * "word ").strip() in said.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.2, "1 s"),
        (99.5, "100 s"),
        (100.0, "2 min"),
        (5400.0, "90 min"),
        (6000.0, "1.7 h"),
        (9e4, "25.0 h"),
    ],
)
def test_times_are_shown_as_one_reads_them(seconds, text):
    assert progress.lasting(seconds) == text
