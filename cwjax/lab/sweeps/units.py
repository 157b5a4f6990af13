"""The pieces of a sweep: one configuration on one chunk of examples each, named by what decides its rows."""

import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

import cwjax
from cwjax.lab import foreign
from cwjax.lab.attacking import judging, selection
from cwjax.lab.attacking.presets import check_features, resolved
from cwjax.lab.attacking.rows import aimed_at, rows_of
from cwjax.lab.data import Dataset
from cwjax.lab.files import store
from cwjax.lab.subjects import TASK, data_for, dataset_of, model_of
from cwjax.lab.sweeps import grid
from cwjax.lab.sweeps.grid import Configuration, Sweep
from cwjax.models import Model

_SURROUNDING = "lab"  # the folder below cwjax/ whose sources decide nothing, except these
_DECIDING = (
    "lab/attacking/attacking.py",
    "lab/attacking/judging.py",
    "lab/attacking/presets.py",
    "lab/attacking/rows.py",
    "lab/attacking/selection.py",
    "lab/data/features.py",
    "lab/training/nets.py",
)
_COMPUTING = ("jax", "jaxlib", "optax", "numpy")  # packages


class Unit(NamedTuple):
    """One configuration on some consecutive examples."""

    digest: str  # SHA-256 of all that decides its rows
    configuration: Configuration
    start: int  # of its examples among those that its configuration attacks
    stop: int
    chunk: int  # examples that a full unit of the sweep has
    width: int | Literal["auto"]
    checks: bool  # whether to ask if its rows can be believed
    data_folder: Path | None


class Plan(NamedTuple):
    """A sweep, cut up. Units of equal content are one."""

    configurations: list[Configuration]
    units: list[list[Unit]]  # of each configuration, in the order of its examples

    @property
    def all(self) -> list[Unit]:
        """Every unit once."""
        return list({unit.digest: unit for each in self.units for unit in each}.values())


class Content(NamedTuple):
    """A model or data as it was read, and the SHA-256 of what was read."""

    value: Any
    digest: str


def plan(sweeps: Sequence[Sweep], data_folder: Path | None = None) -> Plan:
    """The units of some sweeps. Reads every model and all data.

    Raises:
      ValueError: no such model or setting; more examples than there are; a model that does not fit the data or the
        first chunk, see `cwjax.validate`.
      data.MissingData, data.CorruptData, store.CorruptFile: see `data.load` and `training.load`.
    """
    units: dict[Configuration, list[Unit]] = {}
    for sweep in sweeps:
        for asked in grid.configurations(sweep):
            configuration = _of_data(asked, sweep, data_folder)
            if configuration in units:
                continue
            _check(configuration, sweep, data_folder)
            count, chunk = int(sweep.examples or 0), int(sweep.chunk or 0)
            bounds = [(start, min(start + chunk, count)) for start in range(0, count, chunk)]
            units[configuration] = [
                Unit(
                    digest=digest_of(configuration, start, stop, data_folder),
                    configuration=configuration,
                    start=start,
                    stop=stop,
                    chunk=chunk,
                    width=sweep.width or "auto",
                    checks=sweep.checks and start == 0,
                    data_folder=data_folder,
                )
                for start, stop in bounds
            ]
    return Plan(list(units), list(units.values()))


def _of_data(asked: Configuration, sweep: Sweep, folder: Path | None) -> Configuration:
    """With its data named; on a task without an objective of classes.

    Raises:
      ValueError: the sweep asks for an objective or targets of classes, on a task; or for what features do not have.
    """
    configuration = dataclasses.replace(asked, data=_data_for(asked.data, asked.model))
    dataset = data_named(configuration.data, folder)
    asked_for = {"rounded": configuration.rounded, "restored": configuration.restored}
    check_features((configuration.attack,), dataset.features, configuration.data, **asked_for)
    if dataset.task is None:
        return configuration
    rows_of(dataset.take(slice(0, 1)), configuration.targets, seed=0)  # raises
    told = {"objective": (*sweep.objective, None)[0]} | ({} if sweep.confidence else {"confidence": None})
    wanted = dataclasses.replace(configuration.settings, **told)
    return dataclasses.replace(configuration, settings=resolved((asked.attack,), wanted, dataset.task)[asked.attack])


def digest_of(configuration: Configuration, start: int, stop: int, data_folder: Path | None) -> str:
    """The SHA-256 of the configuration with contents in the place of names, the examples and the code."""
    return store.fingerprint(
        dataclasses.asdict(configuration)
        | {
            "model": model_named(configuration.model).digest,
            "data": _examples_digest(_Source.of(configuration, data_folder), start, stop),
            "code": code(),
        }
    )


@functools.cache
def model_named(name: str) -> Content:
    """The model, read once in a process. Its content is its weights, and the name of its network or the source of the
    module that it is from.
    """
    model, card = _known(name)
    leaves = [store.fingerprint(np.asarray(leaf)) for leaf in jax.tree.leaves(model.params)]
    structure = str(jax.tree.structure(model.params))
    source = card.get("net") or _source_of(name)  # and of a file its bytes, with the options behind its name
    return Content(model, store.fingerprint([leaves, structure, source]))


@functools.cache
def _known(name: str) -> tuple[Model, dict[str, Any]]:
    return model_of(name)


@functools.cache
def _data_for(data: str, name: str) -> str:
    """Of a model by name: see `subjects.data_for`."""
    return data_for(data, name, *_known(name))


@functools.cache
def data_named(name: str, folder: Path | None) -> Dataset:
    """The test images, read once in a process."""
    return dataset_of(name, folder)


def data_aimed(name: str, folder: Path | None, targets: str) -> Dataset:
    """Those of them that have such a goal, see `rows.aimed_at`."""
    return aimed_at(data_named(name, folder), targets)


class _Source(NamedTuple):
    """Where the examples of a configuration are from."""

    data: str
    folder: Path | None
    model: str  # whose right answers are wanted; empty: all images are
    targets: str  # of which a class leaves its own images out

    @classmethod
    def of(cls, configuration: Configuration, folder: Path | None) -> "_Source":
        return cls(
            configuration.data, folder, configuration.model if configuration.only_correct else "", configuration.targets
        )

    def examples(self, start: int, stop: int) -> Dataset:
        """The examples from one place up to another. Raises ValueError where the model gets too few right."""
        dataset = data_aimed(self.data, self.folder, self.targets)
        if not self.model:
            return dataset.take(slice(start, stop))
        in_block = functools.partial(_right_in_block, self.model, self.data, self.folder, self.targets)
        places = selection.first_right(model_named(self.model).value, dataset, stop, in_block)
        return dataset.take(places[start:])


@functools.cache
def _right_in_block(model: str, name: str, folder: Path | None, targets: str, start: int) -> np.ndarray:
    """`selection.right_in_block`, asked once in a process."""
    return selection.right_in_block(model_named(model).value, data_aimed(name, folder, targets), start)


def examples_of(unit: Unit) -> Dataset:
    """The examples of a unit."""
    return _Source.of(unit.configuration, unit.data_folder).examples(unit.start, unit.stop)


def deciding(root: Path) -> list[str]:
    """The sources below a folder of this package that decide a result, in order."""
    names = (file.relative_to(root).as_posix() for file in root.rglob("*.py"))
    return sorted(name for name in names if not name.startswith(f"{_SURROUNDING}/") or name in _DECIDING)


@functools.cache
def code() -> str:
    """The SHA-256 of the sources, and of the versions of packages, that decide a result."""
    digest, root = hashlib.sha256(), Path(cwjax.__file__).parent
    for name in deciding(root):
        digest.update(name.encode() + b"\0" + (root / name).read_bytes() + b"\0")
    versions = [importlib.metadata.version(name) for name in _COMPUTING]
    return store.fingerprint([cwjax.__version__, digest.hexdigest(), versions])


@functools.cache
def _examples_digest(source: _Source, start: int, stop: int) -> str:
    some = source.examples(start, stop)
    arrays, told = [some.images, some.labels, some.index], []
    arrays += [] if some.mask is None else [some.mask]
    arrays += [some.features.told[name] for name in sorted(some.features.told)] if some.features else []
    if some.task:
        mine = judging.entries_of((some.task.goal, some.task.context), some, np.arange(stop - start))
        arrays += [*jax.tree.leaves(mine), np.asarray(True if some.task.mask is None else some.task.mask)]
        told = [str(jax.tree.structure(mine)), _source_of(source.data.removeprefix(TASK))]
    return store.fingerprint([*map(store.fingerprint, arrays), len(some.classes), *told])


def _source_of(function: str) -> str:
    """The source of the module of MODULE:FUNCTION, or the digest of a model's file, with the options behind the name.
    What a module imports is not looked at.
    """
    named = foreign.Named.of(function)
    if "defence" in named.told:  # whose weights are in the digest of the model, and whose sources in that of the code
        return store.fingerprint(dict(named.told))
    if named.told or named.file:
        content = store.fingerprint(Path(named.bare).expanduser()) if named.file else _source_of(named.bare)
        return store.fingerprint([content, dict(named.told)])
    return inspect.getsource(importlib.import_module(function.partition(":")[0]))


def _check(configuration: Configuration, sweep: Sweep, folder: Path | None) -> None:
    """Raises ValueError where the configuration's model does not go with its data, or there are too few examples."""
    targets, count = configuration.targets, int(sweep.examples or 0)
    selection.check_enough(count, data_aimed(configuration.data, folder, targets), targets)
    _validate(configuration.model, configuration.data, min(count, int(sweep.chunk or 0)), folder)


@functools.cache
def _validate(model: str, name: str, count: int, folder: Path | None) -> None:
    """`cwjax.validate` on the first examples, less those that the model answers with NaN: they are a result."""
    some = data_named(name, folder).take(slice(count))
    network: Model = cwjax.in_precision(model_named(model).value, "highest")
    finite = np.isfinite(some.images.reshape(count, -1)).all(1)
    try:
        outputs = judging.said(network, some, np.arange(count), some.images)
        for leaf in jax.tree.leaves(outputs):
            finite = finite & (leaf < np.inf).reshape(count, -1).all(1)  # a class at -inf is switched off
    except (Exception, SystemExit):  # whatever a model may raise: validate says it in words of its own
        pass
    if not finite.any():
        raise ValueError(
            f"--model {model} gives NaN or infinite logits for all of the first {count} examples of {name}"
        )
    judging.validate(network, some.take(np.flatnonzero(finite)))
