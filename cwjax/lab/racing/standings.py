"""The standings of a race: tables, pictures, and one row for every attack and example."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table
from rich.text import Text

from cwjax.evaluation import comparison
from cwjax.lab.console import tables
from cwjax.lab.files import environment, store
from cwjax.lab.racing import drawing, tuning
from cwjax.lab.racing.contestants import Outcome
from cwjax.lab.racing.tuning import Settings, Tuned
from cwjax.lab.reporting.findings import NORMS, number, shown

Standing = dict[str, Any]
"""A row of a table, heading -> value; nan where there is nothing to say."""

_SAME = 1e-3  # relative: distances that differ by less are one


def raced(norm: str) -> str:
    """What a race is for, to read: a key of `contestants.RACED`."""
    counted = {"l0": "L0 (pixels)", "l0_elements": "L0 (elements)"}
    return counted[norm] if norm in counted else NORMS[norm][0]


class Entry(NamedTuple):
    """What a contestant came to."""

    distance: np.ndarray  # float64 [B]: of what it returned; inf where that does not meet the goal
    outcome: Outcome
    settings: Settings = MappingProxyType({})  # its numbers that are not its own
    tuned: Tuned | None = None  # how its step length was found; None: it is the attack's own, or the user's
    step: str | None = None  # the name of its step length

    @property
    def told(self) -> str:
        """Its numbers that are not its own, to read."""
        return tuning.shown(self.settings) + " (tuned)" * bool(self.tuned)


class Heat(NamedTuple):
    """All contestants on one model, at one budget."""

    model: str
    norm: str
    budget: int  # propagations an example
    source: np.ndarray  # int64 [B]: the places of the examples in the source's own order
    passed_over: int  # examples on the way to these that the model answers wrongly
    entries: dict[str, Entry]
    broken: dict[str, str]  # contestant -> why it has no row


def line(distance: np.ndarray, outcome: Outcome) -> str:
    """What a contestant came to, in a line."""
    hit = np.isfinite(distance)
    mean = number(float(distance[hit].mean())) if hit.any() else "–"
    passes = float((outcome.forwards + outcome.backwards).mean())
    return (
        f"{100 * hit.mean():.0f} % at mean {mean}, {passes:,.0f} propagations, {outcome.seconds:.1f} s "
        f"and {outcome.compiling:.1f} s compiling"
    )


def warning(heat: Heat) -> str:
    """Which attacks it is not fair to race against as they are, see `tuning.warning`; empty if there are none."""
    shares = {name: float(np.isfinite(entry.distance).mean()) for name, entry in heat.entries.items()}
    steps = {name: entry.step for name, entry in heat.entries.items() if entry.step and not entry.tuned}
    return tuning.warning(shares, steps)


def standings_of(heat: Heat, best: np.ndarray) -> list[Standing]:
    """A row a contestant, the nearest to the envelope first.

    The mean over common successes leaves out attacks that fool less than half of the examples: they would leave too
    little in common.

    Args:
      heat: the contestants.
      best: the envelope of all attacks, at all budgets.
    """
    distances = {name: entry.distance for name, entry in heat.entries.items()}
    optimality = {name: comparison.local_optimality(distance, best) for name, distance in distances.items()}
    order = sorted(distances, key=lambda name: (-np.nan_to_num(optimality[name], nan=-1.0), distances[name].sum()))
    strong = {name: distance for name, distance in distances.items() if np.isfinite(distance).mean() >= 0.5}
    common = comparison.common_means(strong) if strong else {}
    rows = []
    for name in order:
        entry = heat.entries[name]
        distance, outcome = entry.distance, entry.outcome
        hit = np.isfinite(distance)
        found, returned = outcome.queried, distance[outcome.watched]
        kept = np.isclose(found, returned, rtol=_SAME, atol=0) if len(found) else np.array([np.nan])
        rows.append(
            {
                "attack": name,
                "settings": entry.told,
                "success %": 100 * float(hit.mean()),
                "mean over common": common.get(name, np.nan),
                "mean": float(distance[hit].mean()) if hit.any() else np.nan,
                "median": float(np.median(distance)),
                "optimality": optimality[name],
                "forwards": float(outcome.forwards.mean()),
                "backwards": float(outcome.backwards.mean()),
                "refused": float(outcome.refused.mean()),
                "best query returned %": 100 * float(kept.mean()),
                "p": comparison.wilcoxon(distance, distances[order[0]]) if rows else np.nan,
                "seconds": outcome.seconds,
            }
        )
    return rows


def envelopes(heats: Sequence[Heat]) -> dict[tuple[str, str], np.ndarray]:
    """By model and norm: the smallest distance of each example under any attack at any budget."""
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for heat in heats:
        mine = {f"{name} {heat.budget}": entry.distance for name, entry in heat.entries.items()}
        found.setdefault((heat.model, heat.norm), {}).update(mine)
    return {course: comparison.envelope(distances) for course, distances in found.items() if distances}


def write(heats: Sequence[Heat], about: Mapping[str, str], folder: Path) -> list[Standing]:
    """Writes race.md, race.parquet, race.json and figures/, and returns all rows with their model, norm and budget."""
    best = envelopes(heats)
    rows = [
        {**_course(heat), **row}
        for heat in heats
        if heat.entries
        for row in standings_of(heat, best[heat.model, heat.norm])
    ]
    shots = {}
    for model, norm in best:
        mine = [row for row in rows if (row["model"], row["norm"]) == (model, norm)]
        reached = best[model, norm]
        last = max((heat for heat in heats if (heat.model, heat.norm) == (model, norm)), key=lambda heat: heat.budget)
        farthest = float(reached[np.isfinite(reached)].max(initial=0.0))
        shots[model, norm] = drawing.race(model, norm, raced(norm), _racers(last, mine), farthest=farthest)
    for picture in shots.values():
        with store.atomically(folder / picture.file) as temporary:
            temporary.write_bytes(picture.png)
    with store.atomically(folder / "race.md") as temporary:
        temporary.write_text(_markdown(heats, rows, shots, about), encoding="utf-8")
    with store.atomically(folder / "race.parquet") as temporary:
        pq.write_table(_table(heats), temporary)
    plain = [{key: None if value != value else value for key, value in row.items()} for row in rows]
    warned = [{**_course(heat), "warning": said} for heat in heats if (said := warning(heat))]
    tuned = [
        {**_course(heat), "attack": name, **entry.tuned.to_json()}
        for heat in heats
        for name, entry in heat.entries.items()
        if entry.tuned
    ]
    store.write_json(folder / "race.json", {"about": dict(about), "rows": plain, "warnings": warned, "tuned": tuned})
    return rows


def _course(heat: Heat) -> dict[str, Any]:
    return {"model": heat.model, "norm": heat.norm, "budget": heat.budget}


def _racers(heat: Heat, rows: Sequence[Standing]) -> dict[str, drawing.Racer]:
    """The contestants of the heat, which has the largest budget, as they are ranked there."""
    racers = {}
    for name in [row["attack"] for row in rows if row["budget"] == heat.budget]:
        distance, outcome, *_ = heat.entries[name]
        steps = outcome.curve.shape[1]
        racers[name] = drawing.Racer(
            distance=distance,
            optimality={row["budget"]: row["optimality"] for row in rows if row["attack"] == name},
            curve=outcome.curve if steps else None,
            propagations=heat.budget / max(steps, 1),
        )
    return racers


def _table(heats: Sequence[Heat]) -> pa.Table:
    parts = []
    for heat in heats:
        for name, entry in heat.entries.items():
            distance, outcome = entry.distance, entry.outcome
            queried = np.full(len(distance), np.nan)
            queried[outcome.watched] = outcome.queried
            told = _course(heat) | {"attack": name, "settings": entry.told}
            columns = {key: [value] * len(distance) for key, value in told.items()}
            columns |= {"index": heat.source, "success": np.isfinite(distance), "distance": distance}
            columns |= {"forwards": outcome.forwards, "backwards": outcome.backwards, "refused": outcome.refused}
            parts.append(pa.table(columns | {"queried": queried}))
    return pa.concat_tables(parts) if parts else pa.table({})


_LEGEND = """\
- *settings*: numbers that are not the attack's own. *tuned*: found on other images.
- *mean over common*: the mean distance over the examples that all attacks fool which fool at least half.
- *mean*: the mean distance over an attack's own successes.
- *median*: the median distance over all examples. A failure is infinitely far.
- *optimality*: local optimality. 1: on every example as near as the nearest that any attack came, at any of these
  budgets. 0: never that near. Rows are in its order.
- *forwards*, *backwards*: passes an image, counted outside the attack.
- *refused*: passes an image that the attack asked for beyond its budget. They were answered as if they led nowhere.
- *best query returned %*: how many of the examples looked at returned the nearest adversarial example that was ever
  asked about. All examples of an attack of another library are looked at; of an attack of this one two, at the first
  budget on the first model.
- *p*: paired Wilcoxon signed-rank test against the first row.
- *seconds*: on all examples, without compiling.
"""


def _markdown(heats, rows, shots, about) -> str:
    lines = ["# A race", ""]
    several = len({heat.model for heat in heats}) > 1
    for norm in dict.fromkeys(heat.norm for heat in heats) if several else ():
        lines += [f"## {raced(norm)}, all models: global optimality", "", *_global(rows, norm), ""]
    for model, norm in dict.fromkeys((heat.model, heat.norm) for heat in heats):
        mine = [heat for heat in heats if (heat.model, heat.norm) == (model, norm)]
        count = (
            f"{len(mine[0].source)} examples; {mine[0].passed_over} that the model answers wrongly were passed over."
        )
        lines += [f"## {raced(norm)} on {model}", "", count, ""]
        if (model, norm) in shots:
            picture = shots[model, norm]
            lines += [f"![{picture.alt}]({picture.file})", "", picture.caption, ""]
        for heat in mine:
            some = [row for row in rows if (row["model"], row["norm"], row["budget"]) == (model, norm, heat.budget)]
            lines += [f"### {heat.budget:,} propagations", "", *_ranked(some), ""]
            lines += [f"- {name}: no row: {' '.join(why.split())}" for name, why in heat.broken.items()]
            lines += [""] * bool(heat.broken)
            lines += [f"> **Warning.** {said}", ""] if (said := warning(heat)) else []
    lines += [*_tuned(heats), "## What the columns mean", "", _LEGEND]
    told = dict(about) | environment.describe()
    lines += ["## How it was run", "", *tables.markdown(["", "value"], told.items()), ""]
    return "\n".join(lines)


_SHORTLY = ("success %", "mean over common", "median", "optimality", "seconds")  # headings on the terminal


def finals(rows: Sequence[Standing]) -> list[Table]:
    """For the terminal: a table for each model and norm, at its largest budget."""
    found = []
    for model, norm in dict.fromkeys((row["model"], row["norm"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["norm"]) == (model, norm)]
        last = max(row["budget"] for row in mine)
        cells = [
            [str(place), row["attack"], *(shown(row)[heading] for heading in _SHORTLY)]
            for place, row in enumerate((row for row in mine if row["budget"] == last), 1)
        ]
        table = tables.drawn(["#", "attack", *_SHORTLY], cells)
        table.title = Text(f"{raced(norm)} on {model}, {last:,} propagations")
        found.append(table)
    return found


def _tuned(heats: Sequence[Heat]) -> list[str]:
    """How step lengths were found, if any were."""
    found = [
        ([heat.model, raced(heat.norm), f"{heat.budget:,}", name], entry.tuned)
        for heat in heats
        for name, entry in heat.entries.items()
        if entry.tuned
    ]
    cells = [[*course, *each.cells()] for course, each in found]
    headings = ["model", "norm", "propagations", "attack", *tuning.HEADINGS]
    return (
        ["## Step lengths found on other images", "", tuning.TEXT, *tables.markdown(headings, cells), ""]
        if cells
        else []
    )


def _ranked(rows: Sequence[Standing]) -> list[str]:
    """The contestants of a heat as a Markdown table."""
    if not rows:
        return ["Nobody has a row."]
    silent = ("model", "norm", "budget", *(["settings"] if not any(row["settings"] for row in rows) else []))
    headings = [heading for heading in rows[0] if heading not in silent]
    cells = [[str(place), *(shown(row)[heading] for heading in headings)] for place, row in enumerate(rows, 1)]
    return tables.markdown(["#", *headings], cells)


def _global(rows: Sequence[Standing], norm: str) -> list[str]:
    """Each attack's optimality on every model and their mean, at each budget."""
    mine = [row for row in rows if row["norm"] == norm]
    models, lines = list(dict.fromkeys(row["model"] for row in mine)), []
    for budget in dict.fromkeys(row["budget"] for row in mine):
        each = {
            model: {
                row["attack"]: row["optimality"] for row in mine if (row["model"], row["budget"]) == (model, budget)
            }
            for model in models
        }
        means = comparison.global_optimalities(each.values())
        order = sorted(means, key=functools.partial(_place, means))
        cells = [
            [str(place), name, *map(number, (means[name], *(each[model].get(name, np.nan) for model in models)))]
            for place, name in enumerate(order, 1)
        ]
        headings = tables.distinct(["#", "attack", "global", *models])
        lines += [f"### {budget:,} propagations", "", *tables.markdown(headings, cells), ""]
    return lines


def _place(values: Mapping[str, float], name: str) -> float:
    return -np.nan_to_num(values[name], nan=-1.0)
