"""How far a sweep has come: on the terminal, and to a tracker with the functions of wandb."""

import contextlib
import importlib
import time
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import cwjax
from cwjax.lab.progress import lasting, progress, say
from cwjax.lab.sweeps.units import Plan, Unit
from cwjax.lab.sweeps.working import Watcher

TRACKERS = ("trackio", "wandb")

_EVERY = 10.0  # seconds between two lines where there is no terminal


class Watch:
    """Adds up what workers tell. Build it with `watched`."""

    def __init__(self, plan: Plan, done: Set[str], report: Any, tracker: Any):
        self._units, self._done, self._report, self._tracker = len(plan.all), 0, report, tracker
        # What was done before this run says nothing of its speed.
        self._began = time.monotonic()
        self._before = sum(unit.stop - unit.start for unit in plan.all if unit.digest in done)
        self.failures: dict[str, str] = {}  # unit -> why
        self._names = {unit.digest: unit.configuration.digest[:12] for unit in plan.all}
        self._examples = self._shown = self._rows = self._found = self._now = 0
        self._all = sum(unit.stop - unit.start for unit in plan.all)

    @property
    def watcher(self) -> Watcher:
        """What to hand to a launcher."""
        return Watcher(turn=self._turn, done=self._unit_done, failed=self._failed)

    def _turn(self, unit: Unit, status: cwjax.Status) -> None:
        size = unit.stop - unit.start
        part = min(size * status.finished // max(status.total, 1), size)
        lanes = min(status.width, status.total - status.finished)
        self._show(self._examples + part, f"lanes {lanes} of {status.width}, {self._successes(status)}")

    def _unit_done(self, unit: Unit, facts: dict[str, Any]) -> None:
        self._done += 1
        self._examples += unit.stop - unit.start
        self._rows += facts["rows"]
        self._found += facts["successes"]
        self._show(self._examples, self._successes())
        if self._tracker is not None:
            names = ("rows", "successes", "gradients", "seconds")
            told = {name: facts[name] for name in names if name in facts}
            told |= {"units": self._done, "success": facts["successes"] / max(facts["rows"], 1)}
            self._tracker.log({f"{self._names[unit.digest]}/{name}": value for name, value in told.items()})

    def _failed(self, unit: Unit, why: str) -> None:
        self.failures[unit.digest] = why
        say(f"Unit {unit.digest[:12]} ({unit.configuration.attack} on {unit.configuration.model}) failed: {why}")

    def _show(self, examples: int, note: str) -> None:
        spent, new = time.monotonic() - self._began, examples - self._before
        if new > 0 and spent > 0:
            rate = new / spent
            note = f"{rate:.3g} examples/s, {lasting((self._all - examples) / rate)} left, {note}"
        step, self._shown = max(examples - self._shown, 0), max(examples, self._shown)
        self._report(step, f"units {self._done}/{self._units}, {note}")

    def _successes(self, status: cwjax.Status | None = None) -> str:
        rows = self._rows + (status.finished if status else 0)
        found = self._found + (min(status.found, status.finished) if status else 0)
        return f"{found / max(rows, 1):.1%} succeeded so far"


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
    total = sum(unit.stop - unit.start for unit in plan.all)
    with _tracked(tracker, plan, folder) as told, progress("sweep: examples", total, every=_EVERY) as report:
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
