"""How much nearer one attack comes than another: the geometric mean of the ratio of their distances, from the folders
of `cwjax race`.

    cwjax race --model zoo:mnist_squared --norm l2 --budgets 40 --attack fast_l2 superdeepfool --out runs/race
    python -m benchmarks.ratios runs/race

A row is one attack of another family against the fast attack of the norm. The mean is over the examples that both
fool; below 1 the fast attack is nearer. `p` is Wilcoxon's over all examples, a failure being farther than any success.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tyro

from benchmarks.results import OURS
from cwjax.evaluation.comparison import common_successes, wilcoxon
from cwjax.lab.console import tables
from cwjax.lab.reporting.findings import norm_name

HEADINGS = ("race", "model", "norm", "propagations", "against", "fast %", "its %", "ratio", "p")


def rows_of(folder: Path) -> list[list[str]]:
    """The rows of one race, which has a fast attack in each of its heats."""
    kept = pq.read_table(folder / "race.parquet").to_pylist()
    heats: dict[tuple[str, str, int], dict[str, list[dict[str, Any]]]] = {}
    for row in kept:
        heat = heats.setdefault((row["model"], row["norm"], row["budget"]), {})
        heat.setdefault(row["attack"], []).append(row)
    found = []
    for (model, norm, budget), heat in heats.items():
        distances = {
            name: np.array([row["distance"] for row in sorted(rows, key=lambda row: row["index"])])
            for name, rows in heat.items()
        }
        fast = next(name for name in distances if name in OURS)
        for name in [name for name in distances if name not in OURS]:
            pair = {"fast": distances[fast], "other": distances[name]}
            found.append([folder.name, model, norm_name(norm), f"{budget:,}", name, *compared(**pair)])
    return found


def compared(fast: np.ndarray, other: np.ndarray) -> list[str]:
    """Success of both in per cent, the geometric mean of fast over other where both succeed, and p."""
    both = common_successes({"fast": fast, "other": other}) & (fast > 0) & (other > 0)
    ratio = np.exp(np.log(fast[both] / other[both]).mean()) if both.any() else np.nan
    shares = [f"{np.isfinite(each).mean():.0%}" for each in (fast, other)]
    return [*shares, f"{ratio:.3f}" if both.any() else "–", f"{wilcoxon(fast, other):.2g}"]


def main(folders: tyro.conf.Positional[tuple[Path, ...]]) -> None:
    """Prints the table of some races as Markdown."""
    print("\n".join(tables.markdown(HEADINGS, [row for folder in folders for row in rows_of(folder)])))


if __name__ == "__main__":
    tyro.cli(main)
