"""Races of `races.parquet` run again with today's code, and their rows put in place of the old ones.

    python -m benchmarks.renew budgets-digits-untargeted --norm l2 --attack fast_l2   # runs one attack, writes no row
    python -m benchmarks.renew budgets-digits-untargeted --norm l2                    # the others; rows are replaced

A race keeps no distance of a single example, and optimality compares all attacks on each. So rows are replaced only if
every attack of the race has been run again in that norm. What ran is kept in the folder, as `cwjax race` keeps it.

The attacks, images, budgets and targets are those of the rows. Two things differ from `cwjax race`. An attack is
compiled once for all budgets of a model, where it can be. And no example is looked over with a model that counts its
calls, so the new rows say nothing of the best query. Seconds are not kept: the machine may have other work.
"""

import datetime
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro

import cwjax as cw
from benchmarks.results import ALL, FILE, Row
from cwjax.evaluation import comparison
from cwjax.lab.console.progress import say
from cwjax.lab.files import compiling, environment, store
from cwjax.lab.racing import entries, keeping, racing, standings
from cwjax.lab.racing.contestants import AT_ONCE, Contestant, Outcome, Task, steps_of
from cwjax.lab.subjects import subject_of

MEASURED = ("success %", "mean over common", "mean", "median", "optimality", "forwards", "backwards", "refused", "p")
_SHARING = {"apgd", "apgd_targeted", "sparse_pgd", "l0", "l1", "l2", "linf", "lbfgs", "ead"}  # their steps, in Python

Run = Callable[[Task], Outcome]


def compiled_once(contestant: Contestant, model: cw.Model, norm: str, classes: int, traced: bool = True) -> Run:
    """A contestant of ours that is compiled once for one model, whatever the budget and the goals.

    Args:
      contestant: one that has a `make`.
      model: the classifier.
      norm: a key of `contestants.RACED`.
      classes: how many the model has.
      traced: whether the attack takes a traced number of steps.

    Returns:
      `(task) -> Outcome`, without a curve, without queries and without seconds; the task's own model is not asked.

    Example:
      >>> from cwjax.lab.racing import entries
      >>> run = compiled_once(entries.OURS["fast_l2"], model, "l2", 10)
    """
    assert contestant.make is not None
    make, exact = contestant.make, cw.in_precision(model, "highest")

    def asked(model, keys, x, goal, steps):
        return cw.chunked(cw.batched(make(norm, steps, classes)), AT_ONCE)(model, keys, x, goal)

    program = jax.jit(asked) if traced else jax.jit(asked, static_argnums=4)

    def run(task: Task) -> Outcome:
        keys = jax.random.split(jax.random.key(task.seed), len(task.x))
        result = program(exact, keys, jnp.asarray(task.x), task.goal(), steps_of(task, contestant.cost))
        return Outcome(
            x=np.asarray(result.x),
            forwards=np.asarray(result.forwards, np.int64),
            backwards=np.asarray(result.backwards, np.int64),
            refused=np.zeros(len(task.x), np.int64),
            watched=np.zeros(0, np.int64),
            queried=np.zeros(0),
            curve=np.zeros((len(task.x), 0), np.float32),
            seconds=float("nan"),
            compiling=float("nan"),
        )

    return run


def ran(rows: Sequence[Row], attacks: Sequence[str], folder: Path) -> dict[tuple[str, str, int], standings.Heat]:
    """The heats of some races in one norm, by (race, model, budget). What is kept is not run again."""
    norm, counted = rows[0]["norm"], "l0_elements" if rows[0]["norm"] == "l0" else rows[0]["norm"]
    data = {row["model"]: row["data"] for row in rows if row["model"] != ALL}
    subjects = {name: subject_of(name, _data_of(name, told), None) for name, told in data.items()}
    courses = {_course(row): row for row in rows if row["model"] != ALL}
    heats: dict[tuple[str, str, int], standings.Heat] = {}
    chosen: dict[tuple[str, str], racing.Examples] = {}
    for attack in attacks:
        contestant, runs = entries.OURS[attack], {}
        for row in sorted(courses.values(), key=lambda row: row["budget"]):
            race, name, budget = row["race"], row["model"], row["budget"]
            subject = subjects[name]
            settings = racing.Race(norm=(counted,), targets=row["targets"], examples=row["examples"], seed=row["seed"])
            if (name, race) not in chosen:
                chosen[name, race] = racing.examples_of(subject, settings)
            examples = chosen[name, race]
            heat = standings.Heat(name, norm, budget, examples.source, examples.passed_over, {}, {})
            heat = heats.setdefault((race, name, budget), heat)
            task = racing.task_of(subject, examples, settings, counted, budget)
            if name not in runs:
                runs[name] = compiled_once(contestant, subject.model, counted, task.classes, attack not in _SHARING)
            path = racing.kept_at(folder, subject, settings, counted, budget, attack)
            found, old = keeping.outcome(path, task, contestant._replace(run=runs[name]), again=False)
            heat.entries[attack] = standings.Entry(task.distance(found.x), found)
            say(f"{race}, {norm}, {name}, {budget}, {attack}: {_line(heat.entries[attack])}{' (kept)' * old}")
    return heats


def _data_of(model: str, told: str) -> str:
    """Of the data of a race, those of a model."""
    return next(each for each in told.split(", ") if each.startswith("cifar") == ("cifar" in model) or "," not in told)


def _line(entry: standings.Entry) -> str:
    hit = np.isfinite(entry.distance)
    mean = entry.distance[hit].mean() if hit.any() else np.nan
    return f"{100 * hit.mean():.0f} % at mean {mean:.5g}, {entry.outcome.backwards.mean():.0f} gradients"


def replaced(rows: Sequence[Row], heats: Mapping[tuple[str, str, int], standings.Heat], about: Row) -> list[Row]:
    """The rows, with those of these heats and of their mean over the models as they are now, in order of optimality.

    Args:
      rows: of all races.
      heats: by (race, model, budget), of one norm; each with all attacks of its race.
      about: columns that all new rows share, such as commit and date.

    Returns:
      As many rows as there were.

    Raises:
      ValueError: an attack of a race has not been run again, or a model of it.

    Example:
      >>> rows = replaced(rows, heats, {"commit": "1234567", "changed": "1234567"})
    """
    best = {}
    for race in dict.fromkeys(race for race, _, _ in heats):
        mine = [heat for (name, _, _), heat in heats.items() if name == race]
        best |= {(race, *course): nearest for course, nearest in standings.envelopes(mine).items()}
    found: dict[tuple[str, str, str, int], dict[str, Row]] = {}
    for (race, model, budget), heat in heats.items():
        ranks = standings.standings_of(heat, best[race, model, heat.norm])
        found[race, heat.norm, model, budget] = {
            row["attack"]: {"place": place, **{key: row[key] for key in MEASURED}} for place, row in enumerate(ranks, 1)
        }
    for race, norm, budget in dict.fromkeys((race, norm, budget) for race, norm, _, budget in found):
        each = [
            {attack: row["optimality"] for attack, row in told.items()}
            for (name, _, _, count), told in found.items()
            if (name, count) == (race, budget)
        ]
        means = comparison.global_optimalities(each)
        order = sorted(means, key=lambda attack: -np.nan_to_num(means[attack], nan=-1.0))
        found[race, norm, ALL, budget] = {
            attack: {"place": place, "optimality": means[attack]} for place, attack in enumerate(order, 1)
        }
    asked: dict[tuple[str, str, str, int], set[str]] = {}
    for row in rows:
        asked.setdefault(_course(row), set()).add(row["attack"])
    races = {(race, norm, budget) for race, norm, _, budget in found}
    for course in [course for course in asked if (course[0], course[1], course[3]) in races]:
        if missing := asked[course] - set(found.get(course, {})):
            raise ValueError(f"{', '.join(map(str, course))}: not run again: {', '.join(sorted(missing))}")
    return sorted(
        (
            row if _course(row) not in found else _renewed(row, found[_course(row)][row["attack"]], about)
            for row in rows
        ),
        key=_place_in({_course(row): i for i, row in reversed(list(enumerate(rows)))}),
    )


def _course(row: Row) -> tuple[str, str, str, int]:
    return row["race"], row["norm"], row["model"], row["budget"]


def _renewed(row: Row, told: Row, about: Row) -> Row:
    silent = dict.fromkeys(("seconds", "best query returned %", "no_row"))
    numbers = {key: None if value is None or value != value else _short(value) for key, value in told.items()}
    return row | silent | numbers | {key: value for key, value in about.items() if key in row}


def _short(value: Any) -> Any:
    """Four digits, as the other rows have them."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _place_in(first: Mapping[tuple[str, str, str, int], int]) -> Callable[[Row], tuple[int, int]]:
    return lambda row: (first[_course(row)], row["place"] or 10**6)


def main(
    races: tyro.conf.Positional[tuple[str, ...]],
    *,
    norm: tuple[str, ...] = ("l2",),
    attack: tuple[str, ...] = (),
    budget: tuple[int, ...] = (),
    out: Path = Path("runs/renewed"),
) -> None:
    """Runs races again; with all their attacks, their rows are replaced.

    Args:
      races: their names.
      norm: of l0, l1, l2, linf; L0 in these races counts elements.
      attack: only these, and no row is written; left out: all that have a row.
      budget: only these numbers of propagations, and no row is written; left out: all.
      out: the folder that keeps what ran.
    """
    compiling.keep(compiling.folder())
    table = pq.read_table(FILE)
    rows, whole = table.to_pylist(), not attack and not budget
    commit = subprocess.run(["git", "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True, check=True)
    about = {"commit": commit.stdout.strip(), "changed": commit.stdout.strip()} | environment.describe()
    about |= {"date": datetime.datetime.fromtimestamp(time.time(), datetime.UTC).date().isoformat()}
    about |= dict.fromkeys(("torch", "adv-lib", "foolbox", "torchattacks", "adversarial-robustness-toolbox"))
    for each in norm:
        mine = [row for row in rows if row["race"] in races and row["norm"] == each]
        mine = [row for row in mine if not budget or row["budget"] in budget]
        if not mine:
            raise SystemExit(f"no race of these has rows in {each}")
        names = [name for name in dict.fromkeys(row["attack"] for row in mine) if not attack or name in attack]
        heats = ran(mine, names, out)
        if whole:
            rows = replaced(rows, heats, about)
    if whole:
        with store.atomically(FILE) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), temporary)


if __name__ == "__main__":
    tyro.cli(main)
