"""Progress on long work: a bar on a terminal, plain lines elsewhere."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console()


def say(text: str) -> None:
    """Prints a line as it is, however long."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def show(table: Table) -> None:
    """Prints the table as wide as it is: a line that the terminal breaks can be read, and a column cut short cannot."""
    width = console.measure(table, options=console.options.update(width=10_000)).maximum
    Console(file=console.file, width=max(width, console.width)).print(table)


@contextlib.contextmanager
def progress(
    what: str, total: int, *, done: int = 0, every: float = 5.0, first: str = "", left: bool = True
) -> Iterator[Callable[..., None]]:
    """A function to call as `advance(steps, note, now)` while the block runs; `now`: not to be left out.

    Args:
      what: is being done, such as "training".
      total: steps in all.
      done: steps that are already behind, when work is resumed.
      every: seconds between lines, at the least, where there is no terminal; the last step always has its line.
      first: what is being done before the first step, such as "compiling"; where there is no terminal, a line says so.
      left: whether to say how long the rest takes, if all steps take as long as those since the first; otherwise the
        note may say it.
    """
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            *((TextColumn("gone,"), TimeRemainingColumn(), TextColumn("left")) if left else (TextColumn("gone"),)),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=total, completed=done, note=first)
            yield lambda steps=1, note="", now=False: bar.update(task, advance=steps, note=note)
        return

    begin = last = time.monotonic()
    since: tuple[int, float] | None = None  # the first steps' end: compiling and the like are behind
    if first:
        say(f"{what} {done}/{total}  {first}")

    def advance(steps: int = 1, note: str = "", now: bool = False) -> None:
        nonlocal done, last, since
        done += steps
        time_now = time.monotonic()
        if since is None and steps:
            since = done, time_now
        if now or time_now - last >= every or (done >= total and steps):
            last = time_now
            rest = ""
            if left and since and since[0] < done < total:
                rest = f", about {lasting((time_now - since[1]) * (total - done) / (done - since[0]))} left"
            say(f"{what} {done}/{total} after {time_now - begin:.0f} s{rest}  {note}")

    yield advance


def lasting(seconds: float) -> str:
    """The time as "40 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
