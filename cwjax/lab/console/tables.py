"""Tables that a person reads: headings that are distinct, and every value below its own heading, as it is."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from rich.table import Table
from rich.text import Text


def distinct(names: Sequence[str]) -> list[str]:
    """The names, none of them twice: ["a", "a", "a_1", "a"] is ["a", "a_2", "a_1", "a_3"].

    The first of equal names stays. Each further one gets _1, _2, …: the first number that gives a name of its own.
    """
    found: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        found.append(name if name not in found else next(each for each in numbered if each not in {*names, *found}))
    return found


def cells(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows of a table, value by value in the order of its columns, whatever these are called."""
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def drawn(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """A table for the terminal. Square brackets in it are text, where rich alone would read them as colours."""
    table = Table()
    for heading in headings:
        table.add_column(Text(heading))
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def markdown(headings: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a Markdown table, in which a | of a value is a /."""
    lines = [f"| {' | '.join(map(_plain, headings))} |", f"|{'---|' * len(headings)}"]
    return lines + [f"| {' | '.join(map(_plain, row))} |" for row in rows]


def _plain(cell: str) -> str:
    return " ".join(cell.replace("|", "/").split())
