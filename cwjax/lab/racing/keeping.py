"""What a race has computed, kept in its folder until something that decides it is another."""

import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cwjax.lab.files import store
from cwjax.lab.racing import tuning
from cwjax.lab.racing.contestants import Contestant, Outcome, Task


def _identity(task: Task, contestant: Contestant, *more: Any) -> str:
    """Of what decides a result."""
    return store.fingerprint(
        {
            "examples": [store.fingerprint(np.asarray(each)) for each in (task.x, task.label, task.target)],
            "model": [store.fingerprint(np.asarray(leaf)) for leaf in jax.tree.leaves(task.model.params)],
            "task": [task.norm, task.budget, task.classes, task.seed, task.confidence, dict(task.settings), *more],
            "source": _version(contestant.source),
        }
    )


def outcome(
    path: Path, task: Task, contestant: Contestant, again: bool, begun: Callable[[], Any] = lambda: None
) -> tuple[Outcome, bool]:
    """The outcome, and whether it was there already; if not, `begun` is called before the contestant runs."""
    identity = _identity(task, contestant)
    if path.exists() and not again:
        with np.load(path) as arrays:
            if str(arrays["identity"]) == identity:
                return Outcome(**{name: _plain(arrays[name]) for name in Outcome._fields}), True
    begun()
    found = contestant.run(task)
    with store.atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, identity=identity, **found._asdict())
    return found, False


def tuned(path: Path, task: Task, name: str, contestant: Contestant, images: np.ndarray, again: bool) -> tuning.Tuned:
    """The step length found for this attack, kept like an outcome."""
    scaled = tuning.scaled(name, contestant.numbers(task.norm), task.settings)
    identity = _identity(task, contestant, scaled, tuning.FACTORS)
    if path.exists() and not again and (kept := store.read_json(path))["identity"] == identity:
        return tuning.Tuned.of(kept)
    found = tuning.tuned(contestant, task, scaled, images)
    store.write_json(path, {"identity": identity, **found.to_json()})
    return found


def _version(source: str) -> str:
    """Of a library its version; of a module of this one, and of a MODULE:FUNCTION of the user's, its text as well."""
    if not source:
        return ""
    module, own, _ = source.partition(":")
    version = source if own else importlib.metadata.version(source.partition(".")[0])
    file = importlib.util.find_spec(module) if own or source.startswith("cwjax.") else None
    return f"{version} {store.fingerprint(Path(str(file.origin)))}" if file else version


def _plain(array: np.ndarray) -> Any:
    return array.item() if array.ndim == 0 else array
