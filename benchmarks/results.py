"""The results of the races: `benchmarks/races.parquet` has every row of every table, and this command prints them.

    python -m benchmarks.results                                    # which races there are
    python -m benchmarks.results mnist-untargeted-l2 --budget 300   # the tables of one race
    python -m benchmarks.results --summary                          # in how many heats each of our attacks is first
    python -m benchmarks.results cifar_ --summary --budget 200      # the same, for some races and one budget

A name stands for all races that begin so. `cwjax race` explains the columns in its race.md. The file also says how each
row came to be: seed, device, machine, versions, `commit` (the last that changed the race) and `changed` (this row).
"""

import collections
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import tyro

from cwjax.attacks import ATTACKS
from cwjax.lab.console import tables
from cwjax.lab.reporting.findings import norm_name, number, shown

Row = dict[str, Any]

FILE = Path(__file__).with_name("races.parquet")
ALL = "all"  # as a model: global optimality, the mean over a race's models
OURS = {name for name, entry in ATTACKS.items() if entry.family == "fast"}
HEADINGS = ("success %", "mean over common", "mean", "median", "optimality", "forwards", "backwards", "refused")
HEADINGS += ("best query returned %", "p", "seconds")


def heats_of(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each table, the first place first."""
    course = ("race", "norm", "model", "budget")
    return [list(heat) for _, heat in itertools.groupby(rows, lambda row: [row[column] for column in course])]


def ranked(heat: Sequence[Row]) -> list[str]:
    """The table of one model in Markdown, and which attacks have no row in it."""
    placed = [row for row in heat if row["place"]]
    shows = [shown({heading: row[heading] for heading in HEADINGS}).values() for row in placed]
    cells = [[str(row["place"]), row["attack"], *values] for row, values in zip(placed, shows, strict=True)]
    absent = [f"- {row['attack']}: no row: {row['no_row']}" for row in heat if not row["place"]]
    return [*tables.markdown(["#", "attack", *HEADINGS], cells), "", *absent, *[""] * bool(absent)]


def overall(heat: Sequence[Row], rows: Iterable[Row]) -> list[str]:
    """The table of all models in Markdown: each attack's global optimality, and that on each model."""
    same = [row for row in rows if all(row[column] == heat[0][column] for column in ("race", "norm", "budget"))]
    models = list(dict.fromkeys(row["model"] for row in same))  # "all" is the first
    found = {(row["attack"], row["model"]): row["optimality"] for row in same}
    each = ([row["attack"], *(number(found.get((row["attack"], model))) for model in models)] for row in heat)
    cells = ([str(place), *values] for place, values in enumerate(each, 1))
    return [*tables.markdown(["#", "attack", "global", *models[1:]], cells), ""]


def summarised(heats: Iterable[Sequence[Row]]) -> list[str]:
    """In Markdown: in how many heats each of our attacks is nearer than every rival, and the heats where it is not."""
    counts: dict[tuple[str, ...], list[bool]] = {}
    rivals: dict[tuple[str, ...], list[str]] = {}
    behind = []
    for heat in heats:
        placed = [row for row in heat if row["place"]]
        rival = next(row for row in placed if row["attack"] not in OURS)
        for ours in (row for row in placed if row["attack"] in OURS):
            first = ours["place"] < rival["place"]
            over = "all models together" if ours["model"] == ALL else "each model"
            key = (ours["set"], norm_name(ours["norm"]), ours["attack"], over)
            counts.setdefault(key, []).append(first)
            rivals.setdefault(key, []).append(rival["attack"])
            shares = [ours["attack"], number(ours["optimality"]), rival["attack"], number(rival["optimality"])]
            behind += [[ours["race"], ours["model"], f"{ours['budget']:,}", *shares]] * (not first)
    cells = [
        [*key, f"{sum(firsts)} of {len(firsts)}", _most_often(rivals[key])] for key, firsts in sorted(counts.items())
    ]
    lost = ["race", "model", "propagations", "behind", "optimality", "first", "its optimality"]
    heading = ["set", "norm", "attack", "over", "first in", "best rival most often"]
    return [*tables.markdown(heading, cells), "", *tables.markdown(lost, behind)]


def _most_often(names: Sequence[str]) -> str:
    """The name that is there most often, with how often; of two that are as frequent, the first in the alphabet."""
    name, times = max(sorted(collections.Counter(names).items()), key=lambda each: each[1])
    return f"{name} ({times} of {len(names)})"


def listing(rows: Iterable[Row]) -> list[str]:
    """Which races there are, in Markdown."""
    columns, cells = ("set", "targets", "norm", "examples", "budget", "seed", "device", "commit", "date"), []
    for race, group in itertools.groupby(rows, lambda row: row["race"]):
        mine = list(group)
        cells.append([race, *(", ".join(dict.fromkeys(str(row[column]) for row in mine)) for column in columns)])
    return tables.markdown(["race", *columns], cells)


def main(
    races: tyro.conf.Positional[tuple[str, ...]] = (),
    *,
    norm: tuple[str, ...] = (),
    budget: tuple[int, ...] = (),
    targets: tuple[str, ...] = (),
    summary: bool = False,
) -> None:
    """Prints the tables of some races; without arguments, which races there are.

    Args:
      races: how their names begin.
      norm: only these of l0, l1, l2, linf.
      budget: only these numbers of propagations.
      targets: only these of untargeted, next.
      summary: in place of the tables, in how many heats each of our attacks is first.
    """
    wanted = {"norm": norm, "budget": budget, "targets": targets}
    rows = [
        row
        for row in pq.read_table(FILE).to_pylist()
        if (not races or row["race"].startswith(races))
        and all(not values or row[column] in values for column, values in wanted.items())
    ]
    heats = heats_of(rows)
    lines = summarised(heats) if summary else [] if races else listing(rows)
    for heat in heats if races and not summary else ():
        race, name, model, count = (heat[0][column] for column in ("race", "norm", "model", "budget"))
        lines += [f"## {race}: {norm_name(name)} on {model}, {count:,} propagations", ""]
        lines += overall(heat, rows) if model == ALL else ranked(heat)
    print("\n".join(lines))


if __name__ == "__main__":
    tyro.cli(main)
