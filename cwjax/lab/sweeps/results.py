"""The table of a sweep: every row of every configuration, in order, with nothing in it that depends on how it was run.

from cwjax.lab.sweeps import results

table = results.table(Path("runs/grid"))         # a pyarrow.Table; .to_pandas() of it is a DataFrame
results.query(Path("runs/grid"), "select attack, confidence, avg(l2) from results where success group by all")
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from cwjax.lab.attacking import presets
from cwjax.lab.console import tables
from cwjax.lab.files import outputs, store
from cwjax.lab.reporting.verdicts import Verdict
from cwjax.lab.subjects import AUTO, TASK
from cwjax.lab.sweeps import working
from cwjax.lab.sweeps.grid import Configuration, differing
from cwjax.lab.sweeps.units import Plan
from cwjax.lab.sweeps.vault import Vault

PLAN, TABLE = "sweep.json", "results.parquet"
_KINDS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_SUMS = """count(*) as rows, round(100 * avg(success::int), 2) as "success %",
round(avg(distance) filter (success), 4) as "mean distance", round(median(distance) filter (success), 4) as
"median distance", sum((clean_prediction <> label)::int)::int as misclassified,
round(avg(distance) filter (success and clean_prediction = label), 4) as "mean without them",
sum(backwards)::bigint as "gradients in all" from results group by all order by min(row)"""


_ROWS_OF = {
    "attack": ("results.parquet", ("attack",)),
    "race": ("race.parquet", ("model", "norm", "budget", "attack")),
    "generate": ("tests.parquet", ("met",)),
}
"""A command that writes one table -> its file, and what its lines are grouped by where nothing was asked."""
_RUN_SUMS = """count(*) as rows, round(100 * avg(success::int), 2) as "success %",
round(avg(distance) filter (success), 4) as "mean distance",
round(median(distance) filter (success), 4) as "median distance" """


class Missing(NamedTuple):
    """Units that the table lacks."""

    units: int
    of: int


class Planned(NamedTuple):
    """One configuration of a sweep, as it was written down."""

    digest: str  # twelve digits of its SHA-256
    columns: dict[str, Any]  # its axes
    units: list[str]  # their digests, in the order of their examples


def record(plan: Plan, folder: Path) -> None:
    """Writes down which units the table is made of."""
    store.write_json(folder / PLAN, _told(plan))


def is_of(plan: Plan, folder: Path) -> bool:
    """Whether the folder holds this very sweep, so that what was made of it still is of it."""
    try:
        return store.read_json(folder / PLAN) == json.loads(json.dumps(_told(plan)))
    except (FileNotFoundError, store.CorruptFile):
        return False


def _told(plan: Plan) -> dict[str, Any]:
    entries = [
        {
            "digest": configuration.digest,
            "configuration": dataclasses.asdict(configuration),
            "units": [unit.digest for unit in units],
        }
        for configuration, units in zip(plan.configurations, plan.units, strict=True)
    ]
    return {"configurations": entries}


def planned(folder: Path) -> list[Planned]:
    """The configurations of the sweep, in its order. Raises as `table` does."""
    path = folder / PLAN
    if not path.is_file():
        raise outputs.none_there(folder, "sweep", "sweep")
    try:
        return [_planned(entry) for entry in store.read_json(path)["configurations"]]
    except (KeyError, TypeError, ValueError) as error:
        raise store.CorruptFile(f"{path} is damaged ({error!r}): run the sweep again") from error


def _planned(entry: dict[str, Any]) -> Planned:
    """One configuration of those that `record` wrote. Raises KeyError, TypeError or ValueError where it is none."""
    told, units = entry["configuration"], entry["units"]
    if store.fingerprint(told) != entry["digest"]:
        raise ValueError("a configuration is not what was written down")
    configuration = Configuration(**told | {"settings": presets.Settings(**told["settings"])})
    if configuration.attack not in presets.PRESETS:
        raise ValueError(f"there is no attack {configuration.attack}")
    if not units or not all(re.fullmatch(r"[0-9a-f]{64}", unit) for unit in units):
        raise ValueError("a unit's name is none")
    return Planned(entry["digest"][:12], configuration.columns, units)


def units(folder: Path) -> Iterator[tuple[Planned, str, dict[str, bytes] | None]]:
    """Every unit of the sweep: its configuration, its digest and its files; None where it is not done, or damaged.
    Raises as `table` does.
    """
    vault = Vault(folder)
    for configuration in planned(folder):
        for unit in configuration.units:
            yield configuration, unit, vault.get(unit)


def table(folder: Path) -> tuple[pa.Table, Missing]:
    """The rows that are done, and how many units are missing. Every unit is checked; those that are not what was kept
    are put into quarantine, and are missing.

    Rows come in the order of the configurations, their examples and targets. Beside the columns of `cwjax attack` there
    are `row` (int64, the row's place), `configuration` and `unit` (twelve digits of their SHA-256) and the axes of the
    sweep; null where an attack has no such setting.

    Raises:
      FileNotFoundError: there is no sweep in the folder.
      store.CorruptFile: what the sweep consists of cannot be read.
    """
    parts, total = [], 0
    for total, ((digest, columns, _), unit, files) in enumerate(units(folder), 1):  # noqa: B007
        if files is not None:
            parts.append(_described(working.table(files), {"configuration": digest, "unit": unit[:12]} | columns))
    if not parts:
        raise FileNotFoundError(f"no unit of the sweep in {folder} is done: run it first")
    try:
        whole = pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        raise store.CorruptFile(f"the units in {folder} do not fit together ({error}): run the sweep again") from error
    return whole.add_column(0, "row", pa.array(range(len(whole)), pa.int64())), Missing(total - len(parts), total)


def beliefs(folder: Path) -> dict[int, Verdict]:
    """Whether the numbers of a configuration can be believed, by its place in the sweep, from 1: those of which the
    first unit is done, and was checked. Raises as `table` does.
    """
    found, vault = {}, Vault(folder)
    for place, (_, _, units) in enumerate(planned(folder), 1):
        files = vault.get(units[0])
        if files and (verdict := working.verdict(files)):
            found[place] = verdict
    return found


def write(folder: Path) -> Missing:
    """Writes the table as FOLDER/results.parquet."""
    whole, missing = table(folder)
    with store.atomically(folder / TABLE) as temporary:
        pq.write_table(whole, temporary)
    return missing


class Run(NamedTuple):
    """What a command other than `cwjax sweep` left."""

    table: pa.Table
    groups: tuple[str, ...]  # columns


def of_run(folder: Path) -> Run | None:
    """The rows of an attack, a race or generated tests; None where the folder holds none of these. Raises
    store.CorruptFile where they cannot be read.
    """
    for command in outputs.commands_of(folder):
        if command in _ROWS_OF:
            file, groups = _ROWS_OF[command]
            try:
                return Run(pq.read_table(folder / file), groups)
            except (OSError, pa.ArrowException) as error:
                raise store.CorruptFile(f"{folder / file} cannot be read ({error}): run it again") from error
    return None


def has_other_axes(asked: Iterable[Configuration], folder: Path) -> bool:
    """Whether the folder holds a sweep of other configurations than these, as far as that is known before any model is
    read: of data alone that is named. Of tasks it is not known.
    """
    try:
        kept = [each.columns for each in planned(folder)]
    except (FileNotFoundError, store.CorruptFile):
        return False
    if any(each["data"].startswith(TASK) for each in kept):
        return False
    told = [each.columns for each in asked]
    named = all(each["data"] != AUTO for each in told)

    def axes(columns: dict[str, Any]) -> str:
        return json.dumps(columns if named else columns | {"data": AUTO})

    return set(map(axes, kept)) != set(map(axes, told))


def query(folder: Path, sql: str | None = None) -> tuple[pa.Table, Missing]:
    """What DuckDB answers, asked about the table `results`; and which units that lacks.

    Its columns have names of their own: of several called `distance`, as a join has, the second is `distance_1`. See
    `tables.distinct`.

    Args:
      folder: of the sweep, or of `cwjax attack`, `race` or `generate`: then the table is that of its Parquet file.
      sql: the question; None: a line for each configuration, with the axes along which they differ.

    Raises:
      ValueError: DuckDB does not understand the question.
      FileNotFoundError, store.CorruptFile: see `table`.
    """
    import duckdb

    run = of_run(folder)
    results, missing = table(folder) if run is None else (run.table, Missing(0, 0))
    if sql is None and run:
        sums = _RUN_SUMS if "success" in run.table.column_names else "count(*) as rows"
        sql = f"select {', '.join(run.groups)}, {sums} from results group by all order by all"
    elif sql is None:
        axes = differing([each.columns for each in planned(folder)])
        sql = f"select {', '.join(['configuration', *axes])}, {_SUMS}"
    with duckdb.connect() as connection:
        connection.register("results", results)
        try:
            answer = connection.sql(sql)
            found = pa.table({}) if answer is None else answer.to_arrow_table()  # None: it was no question
            return found.rename_columns(tables.distinct(found.column_names)), missing
        except duckdb.Error as error:
            columns = f'all columns: cwjax results {folder} "describe results"'
            raise ValueError(f"DuckDB: {' '.join(str(error).split())}; {columns}") from error


def _axes() -> dict[str, pa.DataType]:
    """The columns that a configuration gives, and their types."""
    hints = get_type_hints(Configuration)
    plain = {name: _KINDS.get(hint, pa.string()) for name, hint in hints.items() if name != "settings"}
    return plain | {name: _KINDS[get_args(hint)[0]] for name, hint in get_type_hints(presets.Settings).items()}


def _described(rows: pa.Table, columns: dict[str, Any]) -> pa.Table:
    """The rows with the configuration's columns before their own."""
    kinds = {"configuration": pa.string(), "unit": pa.string()} | _axes()
    own = rows.drop_columns([name for name in columns if name in rows.column_names])
    given = [pa.array([value] * len(rows), kinds[name]) for name, value in columns.items()]
    return pa.table([*given, *own.columns], names=tables.distinct([*columns, *own.column_names]))
