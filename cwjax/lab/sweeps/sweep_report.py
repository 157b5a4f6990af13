"""A sweep as a page to read: `report.html`, which needs no other file, and its Markdown form `report.md`.

from cwjax.lab.sweeps import sweep_report

sweep_report.write(Path("runs/grid"), Path("runs/grid"))  # -> report.html, report.md, figures/*.png in runs/grid
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cwjax.lab.attacking import judging, runs
from cwjax.lab.attacking.rows import places_of
from cwjax.lab.data import CorruptData, Dataset, MissingData
from cwjax.lab.files import store
from cwjax.lab.reporting import pictures, rendering, verdicts
from cwjax.lab.reporting.findings import (
    Run,
    arrays_of,
    cases_of,
    headed,
    norm_name,
    norms_of,
    of_successes,
    of_task,
    setting,
    shown,
    sums,
)
from cwjax.lab.reporting.pictures import Picture
from cwjax.lab.reporting.verdicts import Verdict
from cwjax.lab.sweeps import charts, outcomes, units, working
from cwjax.lab.sweeps.outcomes import GridPoint
from cwjax.lab.sweeps.results import Missing
from cwjax.lab.sweeps.vault import Vault

MOST_PICTURED = 24  # configurations with pictures of their own: each is some 100 KB

_EXAMPLES = 6  # in the pictures of a configuration
_SOUGHT = 60  # rows among which those are looked for


class Section(NamedTuple):
    """What the page says of one configuration."""

    place: int
    label: str
    digest: str
    rows: list[dict[str, str]]  # how it came out, one a case
    settings: dict[str, str]
    pictures: list[Picture]
    verdict: Verdict | None


def write(folder: Path, out: Path, data_folder: Path | None = None) -> Path:
    """Writes the report of the sweep in `folder`, whose units need not all be done, into `out`.

    Args:
      folder: of the sweep.
      out: made if need be. What an earlier report wrote there is replaced.
      data_folder: where the clean images are kept. Configurations whose images are missing have no pictures.

    Returns:
      The path of report.html.

    Raises:
      FileNotFoundError: there is no sweep in the folder, or nothing of it is done.
      store.CorruptFile: what the sweep consists of cannot be read.
      OSError: `out` cannot be made or written to.
    """
    store.check_folder(out)
    found, missing = outcomes.read(folder)
    norms, rows = outcomes.of_norms(found), outcomes.rows(found)
    elements = {each.axes["data"]: _elements(each.axes["data"], data_folder) for each in found}
    common = next(iter(elements.values())) if len({*elements.values()}) == 1 else "elements"
    drawn, complaints = _pictures(found[:MOST_PICTURED], Vault(folder), data_folder, elements)
    sections = [_section(each, drawn.get(each.place, [])) for each in found]
    kinds = {
        "Objectives and boxes": charts.ablation,
        "Success within a distance": functools.partial(charts.curves, elements=common),
        "Distance against gradients": charts.costs,
    }
    figures = {
        heading: shots
        for heading, draw in kinds.items()
        if (shots := {norm_name(norm): shot for norm, some in norms.items() if (shot := draw(norm, some))})
    }
    content = {
        "title": f"Sweep {folder.resolve().name}",
        "tally": _tally(found, missing),
        "missing": _missing(found, missing),
        "complaints": complaints,
        "believed": verdicts.grouped({each.place: each.verdict for each in found if each.verdict}),
        "rows": [shown(row) for row in rows],
        "of_successes": of_successes(rows),
        "misclassified": outcomes.misclassified(found)[:MOST_PICTURED],
        "figures": figures,
        "sections": sections,
        "pictured": MOST_PICTURED,
        "environment": _environment(found, Vault(folder)),
        "norms": norms_of(common),
        "elements": common,
    }
    shots = [shot for some in figures.values() for shot in some.values()]
    shots += [shot for section in sections for shot in section.pictures]
    return rendering.put({shot.file: shot.png for shot in shots} | rendering.pages("sweep", content), out)


def _section(each: GridPoint, drawn: list[Picture]) -> Section:
    lines = []
    for case, picked in cases_of(each.columns).items():
        lines.append({"case": case.removesuffix(" case"), **sums(each.norm, each.columns, picked)})
    lines = [shown(row) for row in headed(lines, task=of_task(each.columns))]
    told = {name: setting(value) for name, value in each.axes.items() if value is not None}
    told["units"] = f"{len(each.units) - each.missing} of {len(each.units)}"
    return Section(each.place, each.label(), each.digest, lines, told, drawn, each.verdict)


def _pictures(
    found: Sequence[GridPoint], vault: Vault, data_folder: Path | None, elements: Mapping[str, str]
) -> tuple[dict[int, list[Picture]], dict[str, str]]:
    """The security curve of each configuration, and some examples unless they are features, by its place; and of data
    without pictures, why.
    """
    drawn, complaints = {}, {}
    for each in found:
        data = each.axes["data"]
        run = _bare(each)._replace(elements=elements[data])
        shots = [pictures.curve(run, each.columns)]
        if data not in complaints and run.elements != "features":
            try:
                run = _with_images(run, each, vault, units.data_named(data, data_folder))
            except (MissingData, CorruptData, ValueError, OSError) as error:
                complaints[data] = " ".join(str(error).split())
        if len(run.table):
            shots.append(pictures.strip(run, arrays_of(run.table), _EXAMPLES))
        drawn[each.place] = [
            shot._replace(file=shot.file.replace(f"/{run.attack}-", f"/{each.place}-{run.attack}-"))
            for shot in shots
            if shot
        ]
    return drawn, complaints


def _elements(data: str, data_folder: Path | None) -> str:
    """What the inputs of that data consist of; pixels where it cannot be had."""
    try:
        return runs.elements(units.data_named(data, data_folder))
    except (MissingData, CorruptData, ValueError, OSError):
        return "pixels"


def _bare(each: GridPoint) -> Run:
    """The configuration without rows and images."""
    none = np.zeros((0, 1, 1, 1), np.float32)
    return Run(each.axes["attack"], each.norm, each.axes, each.table.slice(0, 0), none, none, (), {})


def _with_images(run: Run, each: GridPoint, vault: Vault, dataset: Dataset) -> Run:
    """The run with the first of the configuration's rows, and their images. Raises ValueError where the data has other
    images.
    """
    parts: list[np.ndarray] = []
    for digest in each.units:
        if sum(map(len, parts)) >= _SOUGHT:
            break
        if (files := vault.get(digest)) is not None:
            parts.append(working.arrays(files)["adversarial"])
    adversarial = np.concatenate(parts)
    table = each.table.slice(0, len(adversarial))
    places = places_of(table, dataset)
    run = run._replace(table=table, clean=dataset.images[places], adversarial=adversarial, classes=dataset.classes)
    if not dataset.task:
        return run
    drawn = judging.drawn(units.model_named(each.axes["model"]).value, dataset, places, run.clean, adversarial)
    return run._replace(task=dataset.task.name, drawn=drawn)


def _tally(found: Sequence[GridPoint], missing: Missing) -> str:
    attacks = sum(len(each.table) for each in found)
    succeeded = sum(int(each.columns["success"].sum()) for each in found)
    spent = sum(int(each.columns["backwards"].sum()) for each in found)
    return (
        f"{len(found):,} configuration{'s' * (len(found) != 1)} in {missing.of:,} unit{'s' * (missing.of != 1)}: "
        f"{attacks:,} attacks, of which {succeeded:,} succeeded, in {spent:,} gradients."
    )


def _missing(found: Sequence[GridPoint], missing: Missing) -> str:
    """Which units are missing, in a sentence; empty if none is."""
    if not missing.units:
        return ""
    some = [str(each.place) for each in found if each.missing]
    partly = f" Incomplete: configuration{'s' * (len(some) != 1)} {', '.join(some)}." if some else ""
    return (
        f"{missing.units:,} of {missing.of:,} units are not done yet: what follows is without them.{partly} "
        "Configurations that nothing is done of are left out."
    )


def _environment(found: Sequence[GridPoint], vault: Vault) -> dict[str, str]:
    """Where the first unit of each configuration was done, each thing as it was said, several where they differ."""
    told: dict[str, dict[str, None]] = {}
    for each in found:
        done = [name for name in each.units if vault.has(name)][:1]
        facts: dict[str, Any] = (vault.facts(done[0]) if done else None) or {}
        for name, value in facts.get("environment", {}).items():
            told.setdefault(name, {})[str(value)] = None
    return {name: "; ".join(values) for name, values in told.items()}
