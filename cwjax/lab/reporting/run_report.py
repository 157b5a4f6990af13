"""One attack, or several on the same images, as a page to read: `report.html`, which needs no other file, and its
Markdown form `report.md`.

    from cwjax.lab.reporting import run_report

    run_report.write([l2, l0], about, Path("runs/first"))  # -> report.html, report.md, figures/*.png in runs/first

The words that do not depend on the run are in `templates/`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cwjax.lab.reporting import pictures, rendering, restored_rows
from cwjax.lab.reporting.findings import (
    About,
    Run,
    before_any_attack,
    changed_rows,
    columns_of,
    headed,
    median_of,
    norms_of,
    number,
    of_successes,
    rounding_row,
    searches_c,
    setting_rows,
    shown,
    summary_rows,
    verdict,
    word_rows,
)
from cwjax.lab.reporting.verdicts import UNCHECKED, Verdict

_OF_CARD = {
    "data": "data trained on",
    "images": "SHA-256 of the images trained on",
    "labels": "SHA-256 of their labels",
    "dtype": "weights stored as",
    "taught": "data that the defence learnt from",
}

__all__ = ["About", "Run", "shown", "summary_rows", "write"]


def write(runs: Sequence[Run], about: About, folder: Path, believed: Mapping[str, Verdict] | None = None) -> Path:
    """Write report.html, report.md and figures/ into `folder`, replacing what an earlier call wrote there.

    Each file appears whole or not at all, and none is touched before all of them are drawn.

    Args:
      runs: one for each attack, in the order in which they are shown.
      about: what they have in common.
      folder: made if need be.
      believed: whether the numbers of an attack can be believed, by its name, as `verdicts.read` tells.

    Returns:
      The path of report.html.

    Raises:
      ValueError: there is no run; two have one name; a run has no rows, lacks a column, or has another number of images
        than of rows.
      OSError: `folder`, which the message names, cannot be made or written to.
    """
    names = [run.attack for run in runs]
    if not runs or len({run.name for run in runs}) < len(runs) or not all(name.isidentifier() for name in names):
        raise ValueError(f"a report needs attacks with different names, such as l2 and l0; got {names}")
    columns = [columns_of(run) for run in runs]
    each = list(zip(runs, columns, strict=True))
    grids = {run.name: pictures.examples(run, found) for run, found in each if not run.features}
    curves = {run.name: pictures.curve(run, found) for run, found in each}
    training = pictures.training(about.history)

    finite = np.concatenate([found["finite"] for found in columns])
    stages = {f"{run.name}: {stage} (seconds)": number(spent) for run in runs for stage, spent in run.seconds.items()}
    tables = {
        "Configuration": _called(about.configuration, {"data": "data attacked"}),
        "Model": _called(about.model, _OF_CARD),
        "How it was run": about.environment | stages,
    }
    lines = headed([row for run in runs for row in summary_rows(run)], task=bool(runs[0].task))
    cases = len(lines) > len(runs)
    verdict_of_first = next((believed[run.attack] for run in runs if believed and run.attack in believed), None)
    content = {
        "about": about,
        "runs": runs,
        "believed": {run.name: believed[run.attack] for run in runs if believed and run.attack in believed},
        "verdicts": {run.name: verdict(run, found) for run, found in each},
        "unchecked": UNCHECKED,
        "misclassified": " ".join(before_any_attack(runs)),
        "attempts": len(finite),
        "broken": np.concatenate([found["index"] for found in columns])[~finite].tolist(),
        "rows": [shown({name: value for name, value in row.items() if cases or name != "case"}) for row in lines],
        "of_successes": of_successes(lines),
        "cases": cases,
        "task": runs[0].task,
        "asked": verdict_of_first.asked if verdict_of_first else {},
        "rounded_to": "Features on their levels" if runs[0].features else "Rounding to 8 bits",
        "rounding": [shown(row) for run in runs if (row := rounding_row(run))],
        "restoring": [shown(row) for run in runs if (row := restored_rows.row(run))],
        "words": {run.name: word_rows(run, found) for run, found in each if run.task},
        "changed": {run.name: rows for run, found in each if run.features and (rows := changed_rows(run, found))},
        "sections": ({"Examples": grids} if grids else {}) | {"Success within a distance": curves},
        "training": training,
        "settings": setting_rows(runs),
        "tables": {heading: rows for heading, entries in tables.items() if (rows := rendering.flat(entries))},
        "norms": norms_of(runs[0].elements),
        "medians": {
            "c": _medians([(run, found) for run, found in each if searches_c(run)], "c", named=len(runs) > 1),
            "margin": _medians(each, "margin", named=len(runs) > 1),
        },
    }
    shots = [picture for picture in (*grids.values(), *curves.values(), training) if picture is not None]
    files = {picture.file: picture.png for picture in shots}
    return rendering.put(files | rendering.pages("report", content), folder)


def _called(entries: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The entries under names that can be told from those of another table."""
    return {names.get(name, name): value for name, value in entries.items()}


def _medians(each: Sequence[tuple[Run, dict[str, np.ndarray]]], name: str, *, named: bool) -> str:
    """Of each attack's successes: "0.1", or with their names "0.1 (L2), 0.2 (L0)"; empty of none."""
    values = [(number(median_of(columns, name)), run.name) for run, columns in each]
    return ", ".join(f"{value} ({attack})" if named else value for value, attack in values)
