"""What a run or a sweep claims, read from its folder and known to be whole: for `cwjax verify`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

import cwjax
from cwjax.lab.attacking import runs
from cwjax.lab.attacking.presets import PRESETS
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from cwjax.lab.subjects import AUTO
from cwjax.lab.sweeps import results, working

_COLUMNS: dict[str, Callable[[pa.DataType], bool]] = {
    "index": pa.types.is_integer,
    "label": pa.types.is_integer,
    "target": pa.types.is_integer,
    "success": pa.types.is_boolean,
    "distance": pa.types.is_floating,
}
"""Of the table, what a claim is made of; every other column is carried along."""


class Claims(NamedTuple):
    """What one attack claims of R images."""

    name: str
    model: str
    data: str  # or "auto", where the folder does not say: see `subjects.data_for`
    attack: str  # a key of PRESETS
    confidence: float
    table: pa.Table  # R rows
    adversarial: np.ndarray  # float [R, *S]


def read(folder: Path) -> Iterator[Claims]:
    """Of a run one for each attack; of a sweep one for each unit that is done.

    Raises:
      FileNotFoundError: there is no run or sweep, or nothing of the sweep is done.
      store.CorruptFile: what it consists of cannot be read, or does not fit together.
      ValueError: an attack that this version does not know; a run that does not name its model.
    """
    return _of_sweep(folder) if (folder / results.PLAN).is_file() else _of_run(folder)


def _of_run(folder: Path) -> Iterator[Claims]:
    found, about = runs.read(folder)
    told = about.configuration if isinstance(about.configuration, dict) else {}
    if (model := told.get("model")) is None:
        raise ValueError(
            f"the run in {folder} does not name its model, as that of the demo does not: nothing to verify"
        )
    for run in found:
        named = (run.attack, str(model), str(told.get("data") or AUTO), run.attack)
        yield _claim(f"the run in {folder}", *named, run.settings, run.table, run.adversarial)


def _of_sweep(folder: Path) -> Iterator[Claims]:
    done, total = 0, 0
    for total, ((configuration, columns, _), unit, files) in enumerate(results.units(folder), 1):  # noqa: B007
        if files is None:
            continue
        done += 1
        where = f"unit {unit[:12]} of {folder}"
        try:
            table, images = working.table(files), working.arrays(files)["adversarial"]
        except Exception as error:  # whatever reading what is no such file may raise
            raise store.CorruptFile(f"{where} cannot be read ({error!r}): run the sweep again") from error
        named = (f"{configuration} {unit[:12]}", str(columns["model"]), str(columns["data"]), columns["attack"])
        yield _claim(where, *named, columns, table, images)
    if not done:
        raise FileNotFoundError(f"no unit of the sweep in {folder} is done: run it first")
    if done < total:
        say(f"{total - done} of {total} units are not done, or damaged: their rows are not looked at.")


def _claim(
    where: str, name: str, model: str, data: str, attack: Any, settings: Any, table: pa.Table, images: np.ndarray
) -> Claims:
    """The claims, once it is known that everything is there that they are held against. Raises as `read` does."""
    if not isinstance(attack, str) or attack not in PRESETS:
        raise ValueError(
            f"{where} is of the attack {attack!r}, which cwjax {cwjax.__version__} does not have: verify it with the "
            "version that made it"
        )
    damage = [name for name, fits in _COLUMNS.items() if not _is_column(table, name, fits)]
    confidence = (settings.get("confidence") if isinstance(settings, dict) else None) or 0.0
    if not isinstance(confidence, int | float) or not np.isfinite(confidence):
        damage.append("confidence")
    if images.ndim < 2 or len(images) != len(table) or not np.issubdtype(images.dtype, np.floating):
        damage.append("images")
    if damage or not len(table):
        what = f"its {', '.join(damage)} cannot be read" if damage else "it has no rows"
        raise store.CorruptFile(f"{where} is damaged ({what}): run it again")
    return Claims(name, model, data, attack, float(confidence), table, images)


def _is_column(table: pa.Table, name: str, fits: Callable[[pa.DataType], bool]) -> bool:
    """Whether the table has one column of this name, of a type that fits, without gaps."""
    places = table.schema.get_all_field_indices(name)
    return len(places) == 1 and fits(table.schema.field(places[0]).type) and not table[places[0]].null_count
