"""`cwjax sweep` and `cwjax results`."""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.table import Table

from cwjax.lab.attacking.presets import norm_of
from cwjax.lab.console import tables
from cwjax.lab.console.parsing import DataFolder, optional
from cwjax.lab.console.progress import lasting, say, show
from cwjax.lab.files import outputs, store
from cwjax.lab.reporting import verdicts
from cwjax.lab.reporting.findings import MISCLASSIFIED, WITHOUT, norm_name, of_successes
from cwjax.lab.reporting.verdicts import Verdict
from cwjax.lab.sweeps import estimating, grid, outcomes, results, units, working
from cwjax.lab.sweeps.launching import Launch, check, launch
from cwjax.lab.sweeps.units import Plan
from cwjax.lab.sweeps.vault import Vault
from cwjax.lab.sweeps.watching import watched
from cwjax.words import shortened

_NAMED = 12  # configurations that are named on a line
_ANOTHER = "{} holds another sweep: its units stay, and the table becomes that of this one."
_COPY = re.compile(r"\s*copy\b.*\bto\s+'([^']+)'", re.IGNORECASE | re.DOTALL)  # a question that writes a file


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
    off goes on with the same command. Writes OUT/results.parquet at the end: see `cwjax results`. For instance:

        cwjax sweep --model zoo:mnist_cnn --attack fast_l2 --confidence 0 5 10 --examples 100 --out runs/grid

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
    outputs.check(out, "sweep", resumed=True)
    asked = grid.read(file, settings)
    another = results.has_other_axes(itertools.chain(*map(grid.configurations, asked)), out)
    if another:
        say(_ANOTHER.format(out))
    plan = units.plan(asked, data_folder)
    vault = Vault(out)
    done = {unit.digest: facts for unit in plan.all if (facts := vault.facts(unit.digest)) is not None}
    if dry_run:
        show(_estimate(plan, done))
        return
    with working.disk(out):
        same = results.is_of(plan, out)
        if not same and not another and (out / results.PLAN).is_file():
            say(_ANOTHER.format(out))
        if len(done) < len(plan.all) or not same:
            outputs.forget(out, ())
        results.record(plan, out)
    say(f"{len(plan.configurations)} configurations, {len(plan.all)} units, of which {len(done)} are done: {out}")
    with watched(plan, done.keys(), out, track) as watch:
        try:
            launch(launcher, out, plan.all, watch.watcher)
        except KeyboardInterrupt:
            kept = watch.units_done
            are = "is" if kept == 1 else "are"
            raise KeyboardInterrupt(f"{kept} of {len(plan.all)} units {are} done and kept") from None
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
    say(f"Table: {out / results.TABLE}")
    say(f'Next:  cwjax results {out} "select index, label, prediction, distance from results limit 5"')
    say(f"       cwjax report {out}")
    say(f"       cwjax verify {out}")
    say(f"       cwjax cover --model {plan.configurations[0].model} --suite {out} --out {out}/cover")


def answer(
    folder: tyro.conf.Positional[Path], sql: tyro.conf.Positional[Annotated[str | None, optional("[SQL]")]] = None
) -> None:
    """Ask about the results of a sweep, which may still be running, in SQL (DuckDB's); or of a run of `cwjax attack`,
    `cwjax race` or `cwjax generate`.

    The table is called results. Of a sweep it has a row for each configuration, example and target, with the columns of
    `cwjax attack` and those of the sweep's axes. These are about 40: name those that you want, because "select *" shows
    all of them side by side. Where the answer has several columns of one name, as a join of the table with itself
    has, the second and third get _1 and _2: distance, distance_1. For instance, a line for each configuration, the
    columns that there are, a mean, and all rows as a CSV file:

        cwjax results runs/grid

        cwjax results runs/grid "describe results"

        cwjax results runs/grid "select confidence, avg(l2) from results where success group by all order by all"

        cwjax results runs/grid "copy results to 'grid.csv'"

    Args:
      folder: that `cwjax sweep`, `cwjax attack`, `cwjax race` or `cwjax generate` wrote.
      sql: the question. Left out: a line for each configuration, or for each attack.
    """
    table, missing = results.query(folder, sql)
    headings, columns = table.column_names, [column.to_pylist() for column in table.columns]
    found: dict[int, Verdict] = {}
    names: dict[int, str] = {}
    whole_sweep = sql is None and (folder / results.PLAN).is_file()
    if whole_sweep:
        found, names = results.beliefs(folder), _names(folder)
        headings, columns = _overview(headings, columns, folder, found)
    if (copied := _COPY.match(sql or "")) and headings == ["Count"]:
        say(f"{copied[1]} written: {columns[0][0]:,} rows")
    else:
        show(tables.drawn(headings, (map(_text, row) for row in zip(*columns, strict=True))))
    if sql is None and "success %" in headings and (said := of_successes(table.to_pylist())):
        say(said)
    _say_beliefs(found, names)
    if missing.units:
        absent = sorted(names.keys() - set(columns[0])) if names else []
        nothing = f" Nothing is done of {_several(absent, names)}." if absent else ""
        say(f"{missing.units} of {missing.of} units are not done yet: their rows are not in this table.{nothing}")


def _names(folder: Path) -> dict[int, str]:
    """What tells each configuration of the sweep apart, by its place."""
    planned = [each.columns for each in results.planned(folder)]
    apart = grid.differing(planned)
    return {place: outcomes.label(each, apart) for place, each in enumerate(planned, 1)}


def _several(places: Sequence[int], names: Mapping[int, str]) -> str:
    """Configurations by their numbers and names: "2 (fast_l2, confidence 5), 3 (…)"."""
    return ", ".join(shortened([f"{place} ({names[place]})" for place in places], _NAMED))


def _overview(
    headings: list[str], columns: list[list[Any]], folder: Path, found: dict[int, Verdict]
) -> tuple[list[str], list[list[Any]]]:
    """The line of each configuration with its number, what the checks said, and the norm of its distances."""
    asked = {each.digest: (place, each) for place, each in enumerate(results.planned(folder), 1)}
    mine = [asked[digest] for digest in columns[headings.index("configuration")]]
    norms = [norm_name(norm_of(each.columns["attack"])) for _, each in mine]
    more: dict[str, list[Any]] = {"#": [place for place, _ in mine]}
    own = dict(zip(headings, columns, strict=True))
    del own["configuration"]
    if found:
        own["checks"] = [_in_a_word(found.get(place)) for place, _ in mine]
    if len(set(norms)) > 1:
        own["norm"] = norms
    if not any(own[MISCLASSIFIED]):
        del own[MISCLASSIFIED], own[WITHOUT]
    named = {"mean distance": f"mean {norms[0]}", "median distance": f"median {norms[0]}"} if "norm" not in own else {}
    more |= {named.get(name, name): values for name, values in own.items()}
    return list(more), list(more.values())


def _in_a_word(verdict: Verdict | None) -> str | None:
    """What the checks said: "fail: weaker_wins", "pass"."""
    if verdict is None:
        return None
    return ": ".join([verdict.verdict, *([", ".join(verdict.blamed)] if verdict.blamed else [])])


def _say_beliefs(found: dict[int, Verdict], names: Mapping[int, str]) -> None:
    """The verdicts of all configurations, by their numbers and names; and why and what to do, where one is not a pass.

    Args:
      found: by the number of the configuration.
      names: of all, by their numbers.
    """
    for group in verdicts.grouped(found):
        which = _several(group.places, names)
        say(f"{group.meaning}: {len(group.places)} of {len(found)} configurations: {which}.")
        if group.verdict in ("fail", "warn"):
            for place in group.places[:_NAMED]:
                for line in group.loud[place]:
                    say(f"  {place}: {line}")


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _estimate(plan: Plan, done: Mapping[str, Mapping[str, Any]]) -> Table:
    """A line for each configuration: its units, and what is left of it at the most. `done`: the facts of units."""
    differing = grid.differing([configuration.columns for configuration in plan.configurations])
    table = Table("#", *differing, "units", "done", "gradients left", "time left here")
    total, seconds, bounded = 0, 0.0, True
    spent = [(unit, told) for unit in plan.all if (told := estimating.Spent.of(done.get(unit.digest) or {}))]
    todo = [unit for unit in plan.all if unit.digest not in done]
    each = estimating.seconds_left(todo, spent, guess=estimating.guess) or {}
    for place, (configuration, own) in enumerate(zip(plan.configurations, plan.units, strict=True), 1):
        left = [unit for unit in own if unit.digest not in done]
        counts = [estimating.gradients(unit) for unit in left]
        known = [count for count in counts if count is not None]
        most, lasts = sum(known), sum((each.pop(unit.digest, 0.0) for unit in left), 0.0)  # a unit of two counts once
        total, seconds, bounded = total + most, seconds + lasts, bounded and len(known) == len(counts)
        columns = configuration.columns
        shown = [f"≤ {most:,}", lasting(lasts)] if len(known) == len(counts) else ["unbounded"] * 2
        cells = (_text(columns[name]) for name in differing)
        units_of_it = (str(len(own)), str(len(own) - len(left)))
        table.add_row(str(place), *cells, *units_of_it, *shown)
    included = "compiling and checks" if any(unit.checks for unit in plan.all) else "compiling"
    more = "" if bounded else " and those of attacks that end when they can shrink no more"
    table.caption = (
        f"at most {total:,} gradients{more}: they take about {lasting(seconds)} here, {included} included, "
        "and less where programs are kept from an earlier run"
    )
    return table
