"""`cwjax sweep` and `cwjax results`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.table import Table

from cwjax.lab import store, verdicts
from cwjax.lab.parsing import DataFolder, optional
from cwjax.lab.progress import lasting, say, show
from cwjax.lab.sweeps import estimating, grid, results, units, working
from cwjax.lab.sweeps.launching import Launch, check, launch
from cwjax.lab.sweeps.units import Plan
from cwjax.lab.sweeps.vault import Vault
from cwjax.lab.sweeps.watching import watched

_NAMED = 12  # configurations that are named on a line


def sweep(
    file: tyro.conf.Positional[Annotated[Path | None, optional("[FILE]")]] = None,
    settings: tyro.conf.OmitArgPrefixes[grid.Sweep] = grid.Sweep(),
    launcher: tyro.conf.OmitArgPrefixes[Launch] = Launch(),
    *,
    out: Path,
    dry_run: bool = False,
    track: Annotated[Literal["trackio", "wandb"] | None, optional("{trackio,wandb}")] = None,
    data_folder: DataFolder = None,
) -> None:
    """Attack with every combination of models, data, attacks, settings, targets and seeds; whatever happens, go on.

    The work is cut into units, one configuration on one chunk of examples each. What is done is kept, in OUT/units, and
    never done again, by this run or another in the same folder at the same time; a run that was stopped, killed or cut
    off goes on with the same command. Writes OUT/results.parquet at the end: see `cwjax results`.

    Args:
      file: a TOML file with the values of every axis, such as confidence = [0, 10, 20]. Its [[grid]] tables are grids
        of their own on top of what stands above them. What the command line says comes before what the file says.
      settings: axes, each with any number of values.
      launcher: where to run.
      out: the folder of the sweep, such as runs/NAME.
      dry_run: say what would be done and how long it may take, and do nothing.
      track: tell this tracker of every unit; left out: none.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data).
    """
    check(launcher)
    store.check_folder(out)
    plan = units.plan(grid.read(file, settings), data_folder)
    vault = Vault(out)
    done = {unit.digest for unit in plan.all if vault.facts(unit.digest) is not None}
    if dry_run:
        show(_estimate(plan, done))
        return
    with working.disk(out):
        results.record(plan, out)
    say(f"{len(plan.configurations)} configurations, {len(plan.all)} units, of which {len(done)} are done: {out}")
    with watched(plan, done, out, track) as watch:
        launch(launcher, out, plan.all, watch.watcher)
    if watch.failures:
        why = next(iter(watch.failures.values()))
        raise ValueError(
            f"{len(watch.failures)} of {len(plan.all)} units failed, the first for {why}; the others are kept, and the "
            "same command tries these again"
        )
    with working.disk(out):
        missing = results.write(out)
    if missing.units:
        raise store.CorruptFile(f"{missing.units} units are damaged: run the same command again")
    answer(out)
    for _, meaning, places in verdicts.grouped(results.beliefs(out)):
        some = [*map(str, places[:_NAMED]), *(["…"] if len(places) > _NAMED else [])]
        say(f"{meaning}: {len(places)} of {len(plan.configurations)} configurations ({', '.join(some)}).")
    say(f"Table: {out / results.TABLE}")
    say(f'Next:  cwjax results {out} "select * from results limit 5"')
    say(f"       cwjax report {out}")


def answer(folder: tyro.conf.Positional[Path], sql: tyro.conf.Positional[Annotated[str | None, optional("[SQL]")]] = None) -> None:
    """Ask about the results of a sweep, which may still be running, in SQL (DuckDB's).

    The table is called results: a row for each configuration, example and target, with the columns of `cwjax attack`
    and those of the sweep's axes.

    Args:
      folder: the folder of the sweep.
      sql: the question, such as "select confidence, avg(l2) from results where success group by all". Left out: a line
        for each configuration.
    """
    table, missing = results.query(folder, sql)
    shown = Table(*table.column_names)
    for row in table.to_pylist():
        shown.add_row(*(_text(value) for value in row.values()))
    show(shown)
    if missing.units:
        say(f"{missing.units} of {missing.of} units are not done yet: their rows are not in this table.")


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _estimate(plan: Plan, done: set[str]) -> Table:
    """A line for each configuration: its units, and what is left of it at the most."""
    differing = grid.differing([configuration.columns for configuration in plan.configurations])
    table = Table("configuration", *differing, "units", "done", "gradients left", "time left here")
    total, seconds, bounded = 0, 0.0, True
    for configuration, own in zip(plan.configurations, plan.units, strict=True):
        left = [unit for unit in own if unit.digest not in done]
        counts = [estimating.gradients(unit) for unit in left]
        known = [count for count in counts if count is not None]
        most = sum(known)
        each = estimating.seconds(configuration.model, configuration.data, own[0].data_folder) if most else 0.0
        total, seconds, bounded = total + most, seconds + most * each, bounded and len(known) == len(counts)
        columns = configuration.columns
        shown = [f"≤ {most:,}", f"{lasting(most * each)}"] if len(known) == len(counts) else ["unbounded"] * 2
        cells = (_text(columns[name]) for name in differing)
        table.add_row(configuration.digest[:12], *cells, str(len(own)), str(len(own) - len(left)), *shown)
    more = "" if bounded else " and those of attacks that end when they can shrink no more"
    table.caption = f"at most {total:,} gradients{more}: they take {lasting(seconds)} here, and compiling comes on top"
    return table
