"""Doing the units: one, or all that nobody has done."""

import contextlib
import dataclasses
import errno
import functools
import io
import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import cwjax
from cwjax.lab.attacking import attacking
from cwjax.lab.attacking.rows import Attacked, rows_of
from cwjax.lab.files import compiling, environment
from cwjax.lab.reporting import verdicts
from cwjax.lab.reporting.verdicts import Verdict
from cwjax.lab.sweeps import leases, units
from cwjax.lab.sweeps.events import Events
from cwjax.lab.sweeps.units import Unit
from cwjax.lab.sweeps.vault import Vault

ROWS, ARRAYS = "rows.parquet", "arrays.npz"

_PAUSE = 1.0  # seconds between two looks at units that others are at
_ROOM = 2  # bytes of free disk for each byte of a unit's images, before it is begun


class Full(OSError):  # noqa: N818 - it says what is the matter
    """The disk is full; the message says what to do."""


class Watcher(NamedTuple):
    """Whom a worker tells. Every function may do nothing."""

    turn: Callable[[Unit, cwjax.runners.Status], Any] = lambda unit, status: None  # a turn of the engine is over
    begun: Callable[[Unit], Any] = lambda unit: None  # a unit is begun by this worker
    checking: Callable[[Unit, str, int, int], Any] = lambda unit, name, place, of: None  # see `cwjax.diagnose`
    done: Callable[[Unit, dict[str, Any]], Any] = lambda unit, facts: None  # a unit is, with its facts; by anybody
    failed: Callable[[Unit, str], Any] = lambda unit, why: None  # a unit raised an error, and is given up


def work(folder: Path, todo: Sequence[Unit], watcher: Watcher = Watcher()) -> None:
    """Does the units, each unless it is done; waits for those that another worker is at, and does what one that has
    died was at. Returns when all are done or have failed here.

    Args:
      folder: of the sweep.
      todo: units, in this order.
      watcher: is told what happens.

    Raises:
      Full: the disk is full. What is done is kept.
      OSError: the folder cannot be written to.
    """
    vault, left = Vault(folder), list(todo)
    while left:
        waiting = []
        for unit in left:
            if not vault.has(unit.digest):
                with disk(folder), leases.held(folder / "leases", unit.digest) as mine:
                    why = _tried(unit, vault, watcher) if mine and not vault.has(unit.digest) else None
                if why:
                    watcher.failed(unit, why)
                    continue
            facts = vault.facts(unit.digest) if vault.has(unit.digest) else None
            if facts is None:
                waiting.append(unit)
            else:
                watcher.done(unit, facts)
        if len(waiting) == len(left):
            time.sleep(_PAUSE)
        left = waiting
    leases.tidy(folder / "leases", vault.has)


def attacked(unit: Unit, watcher: Watcher = Watcher()) -> Attacked:
    """What the unit's attack gives on its examples; the watcher is told how far it is.

    Raises:
      ValueError: this machine has another model, other data or other code than the one that named the unit.
    """
    configuration = unit.configuration
    if units.digest_of(configuration, unit.start, unit.stop, unit.data_folder) != unit.digest:
        raise ValueError(
            f"{platform.node()} has another {configuration.model}, {configuration.data} or cwjax than the machine that "
            "planned this sweep: give both the same"
        )
    return attacking.compute(
        units.model_named(configuration.model).value,
        units.examples_of(unit),
        configuration,
        width=unit.width,
        watch=functools.partial(watcher.turn, unit),
        room=unit.chunk,
        checks=unit.checks,
        checking=functools.partial(watcher.checking, unit),
    )


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[None]:
    """While the block runs, a disk without space is an error that says what to do: Full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Full(
            f"the disk of {folder} is full: what is done is kept and nothing is half-written; free some space and run "
            "the same command again"
        ) from error


def _tried(unit: Unit, vault: Vault, watcher: Watcher) -> str | None:
    """Does the unit and keeps what came of it. What went wrong, if it raised an error of its own."""
    events, began = Events(vault.folder), time.monotonic()
    vault.sweep_up(unit.digest)
    if compiling.crowded():
        attacking.forget()
    events.tell("began", unit=unit.digest)
    watcher.begun(unit)
    try:
        _preflight(unit, vault)
        result = attacked(unit, watcher)
        facts = _facts(unit, result) | {"seconds": time.monotonic() - began} | _spent(result.seconds)
        kept = vault.put(unit.digest, _files(result), facts)
    except OSError as error:
        events.tell("stopped", unit=unit.digest, why=str(error))
        raise
    except Exception as error:  # of this unit; the others may do better
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        events.tell("failed", unit=unit.digest, why=why)
        return why
    except BaseException:
        events.tell("stopped", unit=unit.digest)
        raise
    events.tell("done" if kept else "was done", unit=unit.digest, **facts)
    return None


def _preflight(unit: Unit, vault: Vault) -> None:
    """Raises OSError where the disk has no room for what the unit will write."""
    dataset, configuration = units.examples_of(unit), unit.configuration
    rows = len(rows_of(dataset, configuration.targets, seed=configuration.seed).place)
    if shutil.disk_usage(vault.folder).free < _ROOM * rows * dataset.images[0].nbytes:
        raise OSError(errno.ENOSPC, "no space left")


def _files(result: Attacked) -> dict[str, bytes]:
    rows, arrays = io.BytesIO(), io.BytesIO()
    pq.write_table(result.table, rows)
    names = {name: result.table[name].to_numpy() for name in ("index", "target")}
    np.savez_compressed(arrays, adversarial=result.adversarial, **names)
    found = {ROWS: rows.getvalue(), ARRAYS: arrays.getvalue()}
    if result.diagnosis:
        found[verdicts.FILE] = json.dumps(result.diagnosis.to_json()).encode()
    return found


def _facts(unit: Unit, result: Attacked) -> dict[str, Any]:
    """How the rows came to be: what is no part of the results, and nobody compares."""
    success = result.table["success"].to_numpy()
    return {
        "rows": len(success),
        "successes": int(success.sum()),
        "gradients": int(result.table["backwards"].to_numpy().sum()),
        "configuration": dataclasses.asdict(unit.configuration),
        "examples": [unit.start, unit.stop],
        "host": platform.node(),
        "environment": environment.describe(),
    }


def _spent(seconds: Mapping[str, float]) -> dict[str, float]:
    """What a unit spent on compiling, and on its checks without theirs; the rest of its seconds went to its rows."""
    if "checks" not in seconds:
        return {"compiling": seconds["compile"]}
    of_checks = seconds["compiling of the checks"]
    checks = {"checks": seconds["checks"] - of_checks, "compiling of the checks": of_checks}
    return {"compiling": seconds["compile"]} | checks


def table(files: dict[str, bytes]) -> pa.Table:
    """The rows of a unit's files."""
    return pq.read_table(io.BytesIO(files[ROWS]))


def arrays(files: dict[str, bytes]) -> dict[str, np.ndarray]:
    """The images of a unit's files, with the index and target of each."""
    with np.load(io.BytesIO(files[ARRAYS])) as kept:
        return dict(kept)


def verdict(files: dict[str, bytes]) -> Verdict | None:
    """Whether the rows of a unit's files can be believed; None where nobody asked."""
    return verdicts.of(json.loads(files[verdicts.FILE])) if verdicts.FILE in files else None
