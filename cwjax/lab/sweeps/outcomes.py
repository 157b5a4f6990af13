"""What came of each configuration of a sweep: its rows, and its line of the report's table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from cwjax.evaluation import comparison
from cwjax.lab.attacking.presets import norm_of
from cwjax.lab.reporting.findings import (
    MISCLASSIFIED,
    NORMS,
    WITHOUT,
    arrays_of,
    headed,
    of_task,
    setting,
    sums,
    two_means,
)
from cwjax.lab.reporting.verdicts import Verdict
from cwjax.lab.sweeps import results
from cwjax.lab.sweeps.grid import differing
from cwjax.lab.sweeps.results import Missing

VARIED = ("objective", "box")  # by an ablation
_SHORT = 60  # letters of a label


def label(axes: Mapping[str, Any], apart: Sequence[str]) -> str:
    """A configuration by the axes `apart`, in a line: see `GridPoint.label`."""
    values = {name: axes[name] for name in apart if axes[name] is not None}
    told = [value if isinstance(value, str) else f"{name} {setting(value)}" for name, value in values.items()]
    line = " ".join(", ".join(told or [axes["attack"]]).split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"


class GridPoint(NamedTuple):
    """One configuration, of which at least one unit is done."""

    place: int  # from 1, in the order of the sweep
    digest: str  # twelve digits
    axes: dict[str, Any]  # None: its attack has no such setting
    apart: tuple[str, ...]  # the axes that tell the sweep's configurations apart
    norm: str
    units: list[str]  # their digests
    missing: int  # units that are not done
    verdict: Verdict | None  # of its first unit; None: nobody checked
    table: pa.Table
    columns: dict[str, np.ndarray]  # of the table, those that every attack has

    def label(self, *without: str) -> str:
        """What tells it apart, in a line: "fast_l2, confidence 10". Texts stand alone, numbers with their axis."""
        return label(self.axes, [name for name in self.apart if name not in without])

    def task(self) -> tuple[tuple[str, Any], ...]:
        """What was asked for, whatever the model and the attack: distances of other tasks are no comparison."""
        return tuple((name, self.axes[name]) for name in ("data", "targets", "confidence"))


def read(folder: Path) -> tuple[list[GridPoint], Missing]:
    """The configurations of which something is done, in the order of the sweep; and which units are missing. Raises as
    `results.table` does.
    """
    whole, missing = results.table(folder)
    planned, verdicts = results.planned(folder), results.beliefs(folder)
    apart = tuple(differing([each.columns for each in planned]))
    owner, found = np.array(whole["configuration"].to_pylist()), []
    for place, (digest, axes, units) in enumerate(planned, 1):
        table = whole.filter(pa.array(owner == digest))
        if len(table):
            one = GridPoint(
                place=place,
                digest=digest,
                axes=axes,
                apart=apart,
                norm=norm_of(axes["attack"]),
                units=units,
                missing=len(units) - len(set(table["unit"].to_pylist())),
                verdict=verdicts.get(place),
                table=table,
                columns=arrays_of(table),
            )
            found.append(one)
    return found, missing


def rows(outcomes: Sequence[GridPoint]) -> list[dict[str, Any]]:
    """The lines of the table, heading -> value: nan or None where there is nothing to say.

    "mean over common" is over the examples that all fool: those configurations with the same norm, examples, targets
    and confidence that are complete and fool at least half.
    """
    common = _common_means(outcomes)
    checked = any(each.verdict for each in outcomes)
    lines = []
    for each in outcomes:
        told = sums(each.norm, each.columns, np.arange(len(each.table)))
        line: dict[str, Any] = {"#": each.place} | {name: setting(each.axes[name]) for name in each.apart}
        if checked:
            line["checks"] = each.verdict.verdict if each.verdict else None
        names = ("norm", "rows", "success %", "mean distance", "median distance", MISCLASSIFIED, WITHOUT)
        line |= {name: told[name] for name in names}
        line |= {"mean over common": common.get(each.place, np.nan), "gradients an attack": _whole(told["backwards"])}
        lines.append(line | {"finite %": 100 * float(each.columns["finite"].mean())})
    return headed(lines, task=any(of_task(each.columns) for each in outcomes))


def misclassified(outcomes: Sequence[GridPoint]) -> list[str]:
    """Both means of each configuration with images that the model gets wrong anyway, in sentences."""
    told = {each.place: two_means(each.norm, each.columns) for each in outcomes}
    return [f"Configuration {place}: {sentence}" for place, sentence in told.items() if sentence]


def of_norms(outcomes: Sequence[GridPoint]) -> dict[str, list[GridPoint]]:
    """The configurations by their norm."""
    found = {norm: [each for each in outcomes if each.norm == norm] for norm in NORMS}
    return {norm: some for norm, some in found.items() if some}


def ablations(outcomes: Sequence[GridPoint]) -> list[list[GridPoint]]:
    """Groups of configurations that differ in their objective and box, and in nothing else."""
    groups: dict[str, list[GridPoint]] = {}
    for each in outcomes:
        rest = {name: value for name, value in each.axes.items() if name not in VARIED}
        groups.setdefault(repr(rest), []).append(each)
    return [some for some in groups.values() if all(len({each.axes[name] for each in some}) > 1 for name in VARIED)]


def _common_means(outcomes: Sequence[GridPoint]) -> dict[int, float]:
    """By place: see `rows`."""
    groups: dict[tuple, dict[int, np.ndarray]] = {}
    for each in outcomes:
        columns = each.columns
        distance = np.where(columns["success"], columns["distance"], np.inf)
        if each.missing or np.isfinite(distance).mean() < 0.5:
            continue
        chosen = each.axes["targets"] in ("best", "worst")  # the attack chooses the target
        goal = np.stack([columns["index"], np.zeros_like(columns["index"]) if chosen else columns["target"]])
        order = np.lexsort(goal[::-1])
        same = (each.norm, each.task(), goal[:, order].tobytes())
        groups.setdefault(same, {})[each.place] = distance[order]
    means: dict[int, float] = {}
    for some in groups.values():
        named = comparison.common_means({str(place): distance for place, distance in some.items()})
        means |= {int(place): value for place, value in named.items()}
    return means


def _whole(value: float) -> int | float:
    """As an int, if it is one."""
    return int(value) if value.is_integer() else value
