"""How far a sweep has come: on the terminal, and to a tracker with the functions of wandb."""

import contextlib
import importlib
import time
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import cwjax
from cwjax.lab.console.progress import lasting, progress, say
from cwjax.lab.sweeps import estimating
from cwjax.lab.sweeps.estimating import Spent
from cwjax.lab.sweeps.units import Plan, Unit
from cwjax.lab.sweeps.working import Watcher

TRACKERS = ("trackio", "wandb")

_EVERY = 10.0  # seconds between two lines where there is no terminal


class Watch:
    """Adds up what workers tell. Build it with `watched`."""

    def __init__(self, plan: Plan, done: Set[str], report: Any, tracker: Any):
        self._plan, self._before, self._report, self._tracker = plan.all, done, report, tracker
        self._began = self._ended = time.monotonic()  # of this run, and of its last unit
        self._done: dict[str, tuple[Unit, Spent | None]] = {}  # by anybody, also before this run
        self._here: list[Unit] = []  # done in this run
        self._worked = 0.0  # seconds that all workers of this run spent on units
        self.failures: dict[str, str] = {}  # unit -> why
        self._names = {unit.digest: unit.configuration.digest[:12] for unit in plan.all}
        self._rows = self._shown = self._told = self._found = 0
        self._all = sum(estimating.rows(unit) for unit in plan.all)

    @property
    def watcher(self) -> Watcher:
        """What to hand to a launcher."""
        return Watcher(
            turn=self._turn, begun=self._unit_begun, checking=self._checking, done=self._unit_done, failed=self._failed
        )

    @property
    def units_done(self) -> int:
        """How many units are done, by anybody, also before this run."""
        return len(self._before | self._done.keys())

    def _unit_begun(self, unit: Unit) -> None:
        if estimating.program(unit) not in map(estimating.program, self._here):
            self._show(self._rows, "compiling the attack", now=True)

    def _turn(self, unit: Unit, status: cwjax.runners.Status) -> None:
        size = estimating.rows(unit)
        part = min(size * status.finished // max(status.total, 1), size)
        lanes = min(status.width, status.total - status.finished)
        at = f"{lanes} rows at once" if lanes else ""
        self._show(self._rows + part, ", ".join(filter(None, (at, self._successes(status)))))

    def _checking(self, unit: Unit, name: str, place: int, of: int) -> None:
        self._show(self._rows + estimating.rows(unit), f"checks {place}/{of}: {name.replace('_', ' ')}", now=not place)

    def _unit_done(self, unit: Unit, facts: dict[str, Any]) -> None:
        spent = Spent.of(facts)
        self._done[unit.digest] = (unit, spent)
        if unit.digest not in self._before:
            self._ended = time.monotonic()
            self._here.append(unit)
            self._worked += sum(spent) if spent else 0.0
        self._rows += estimating.rows(unit)
        self._told += facts["rows"]
        self._found += facts["successes"]
        self._show(self._rows, self._successes(), now=self._rows >= self._all)
        if self._tracker is not None:
            names = ("rows", "successes", "gradients", "seconds")
            told = {name: facts[name] for name in names if name in facts}
            told |= {"units": len(self._done), "success": facts["successes"] / max(facts["rows"], 1)}
            self._tracker.log({f"{self._names[unit.digest]}/{name}": value for name, value in told.items()})

    def _failed(self, unit: Unit, why: str) -> None:
        self.failures[unit.digest] = why
        say(f"Unit {unit.digest[:12]} ({unit.configuration.attack} on {unit.configuration.model}) failed: {why}")

    def _show(self, rows: int, note: str, *, now: bool = False) -> None:
        step, self._shown = max(rows - self._shown, 0), max(rows, self._shown)
        told = [f"units {len(self._done)}/{len(self._plan)}", self._left(), note]
        self._report(step, ", ".join(part for part in told if part), now=now)

    def _left(self) -> str:
        """The time that is left, compiling and checks included: "12 min left"; empty while nothing is known."""
        known = [(unit, spent) for unit, spent in self._done.values() if spent]
        todo = [unit for unit in self._plan if unit.digest not in self._done and unit.digest not in self.failures]
        left = estimating.seconds_left(todo, known, here=self._here) if known and todo else None
        if not left:
            return ""
        # Workers side by side get through more than a second's work in a second.
        workers = max(self._worked / max(self._ended - self._began, 1e-9), 1.0)
        return f"{lasting(max(sum(left.values()) / workers - (time.monotonic() - self._ended), 0.0))} left"

    def _successes(self, status: cwjax.runners.Status | None = None) -> str:
        """The share that succeeded; empty before any row has ended."""
        rows = self._told + (status.finished if status else 0)
        found = self._found + (min(status.found, status.finished) if status else 0)
        return f"{found / rows:.1%} succeeded so far" if rows else ""


@contextlib.contextmanager
def watched(plan: Plan, done: Set[str], folder: Path, tracker: str | None) -> Iterator[Watch]:
    """A Watch that shows its progress while the block runs.

    Args:
      plan: what is worked on.
      done: units of it that were done before.
      folder: of the sweep; its name is that of the tracker's run.
      tracker: a module in TRACKERS, which is told of every unit that is done; or None.

    Raises:
      ValueError: the tracker is not installed.
    """
    total = sum(estimating.rows(unit) for unit in plan.all)
    with _tracked(tracker, plan, folder) as told, progress("sweep: rows", total, every=_EVERY, left=False) as report:
        yield Watch(plan, done, report, told)


@contextlib.contextmanager
def _tracked(name: str | None, plan: Plan, folder: Path) -> Iterator[Any]:
    if name is None:
        yield None
        return
    module = extra(name, "watch")
    configurations = {one.digest[:12]: one.columns for one in plan.configurations}
    run = module.init(project="cwjax", name=folder.name, config=configurations)
    try:
        yield run
    finally:
        run.finish()


def extra(module: str, name: str) -> Any:
    """The module of an extra. Raises ValueError, which names the extra, where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f'{module} is not installed: pip install "cwjax[{name}]" ({error})') from error
