"""A race: attacks on the same examples, each with the same number of propagations to spend.

    from cwjax.lab import entries, racing

    subject = racing.Subject("mnist_cnn", model, dataset)
    racing.race([subject], entries.OURS, racing.Race(norm=("l2",), budgets=(1000,)), Path("runs/race"))

Every result is kept in the folder, and not computed again while what was asked for stays the same, the version of the
library that the attack comes from, and the file of ours that it is in. Ask for it `again` when you changed another.
"""

import dataclasses
import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

import cwjax as cw
from cwjax.checks import check_count, check_number
from cwjax.lab import standings, store
from cwjax.lab.contestants import DISTANCES, Broken, Contestant, Outcome, Task
from cwjax.lab.data import Dataset
from cwjax.lab.progress import say
from cwjax.metrics import successes
from cwjax.models import Model

Targets = Literal["untargeted", "random", "next"]

_AT_ONCE = 500  # images


@dataclasses.dataclass(frozen=True)
class Race:
    """What is raced for."""

    norm: tuple[Literal["l0", "l1", "l2", "linf"], ...] = ("l2",)  # to be small; one race for each
    attacks: tuple[str, ...] = ()  # by name; none: all that can make the norm small
    budgets: tuple[int, ...] = (100, 300, 1000, 2000)  # propagations an example: a gradient is two of them
    targets: Targets = "untargeted"  # random: a wrong class drawn for each example; next: the class after its own
    confidence: float = 0.0  # logits by which the goal has to be met; of every attack, see `cwjax.confident`
    examples: int = 50  # the first test images that the model answers rightly
    seed: int = 0  # of the targets drawn, and of the attacks
    again: tuple[str, ...] = ()  # attacks to run once more, though their results are kept


class Subject(NamedTuple):
    """A model to race on."""

    name: str
    model: Model
    dataset: Dataset  # the examples are taken from


def race(
    subjects: Sequence[Subject], contestants: Mapping[str, Contestant], settings: Race, folder: Path
) -> list[standings.Standing]:
    """Runs every contestant on every model at every budget, and writes the standings.

    A contestant whose numbers are not to be had, or not to be believed, has a line that says why, and no row.

    Args:
      subjects: models, with different names.
      contestants: by name.
      settings: what is raced for.
      folder: to write race.md, race.parquet and figures to; results are kept in `folder/kept`.

    Raises:
      ValueError: settings or names that do not fit.
      OSError: `folder` cannot be written to.
    """
    _check(subjects, contestants, settings)
    store.check_folder(folder)
    heats = []
    for subject in subjects:
        examples = examples_of(subject, settings)
        for norm in settings.norm:
            heats += _heats(subject, examples, contestants, settings, norm, folder)
    return standings.write(heats, _about(subjects, settings), folder)


class Examples(NamedTuple):
    """What a model is asked about."""

    x: np.ndarray  # float32 [B, *S]
    label: np.ndarray  # int32 [B]
    target: np.ndarray  # int32 [B]; -1: untargeted
    source: np.ndarray  # int64 [B]: their places in the source's own order
    passed_over: int  # examples on the way to these that the model answers wrongly


def examples_of(subject: Subject, settings: Race) -> Examples:
    """The first examples that the model answers rightly, with their targets."""
    dataset = subject.dataset
    places = _right(subject.model, dataset, settings.examples)
    if len(places) < settings.examples:
        raise ValueError(
            f"--examples {settings.examples} is more than the {len(places)} test images of {dataset.name} that "
            f"{subject.name} answers rightly"
        )
    label, classes = dataset.labels[places], len(dataset.classes)
    away = np.random.default_rng(settings.seed).integers(1, classes, len(places))
    target = {"untargeted": np.full(len(places), -1), "random": (label + away) % classes, "next": (label + 1) % classes}
    return Examples(
        x=dataset.images[places],
        label=label,
        target=target[settings.targets].astype(np.int32),
        source=dataset.index[places],
        passed_over=int(places[-1]) + 1 - len(places),
    )


def _right(model: Model, dataset: Dataset, most: int) -> np.ndarray:
    """The places of the first examples that the model answers rightly."""
    answered, places = jax.jit(successes), np.zeros(0, np.int64)
    for first in range(0, len(dataset.labels), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        wrong = answered(cw.in_precision(model, "highest"), dataset.images[some], cw.untargeted(dataset.labels[some]))
        places = np.concatenate([places, first + np.flatnonzero(~np.asarray(wrong))])
        if len(places) >= most:
            break
    return places[:most]


def _heats(subject, examples, contestants, settings, norm, folder) -> list[standings.Heat]:
    """The results of one model and norm: a heat for each budget."""
    kind = "untargeted" if settings.targets == "untargeted" else "targeted"
    names = settings.attacks or tuple(name for name, each in contestants.items() if kind in each.kinds)
    names = [name for name in names if norm in contestants[name].norms and kind in contestants[name].kinds]
    heats = []
    for budget in settings.budgets:
        task = Task(
            model=subject.model,
            x=examples.x,
            label=examples.label,
            target=examples.target,
            norm=norm,
            budget=budget,
            classes=len(subject.dataset.classes),
            seed=settings.seed,
            confidence=settings.confidence,
        )
        heat = standings.Heat(subject.name, norm, budget, examples.source, examples.passed_over, {}, {})
        for name in names:
            where = f"{subject.name}, {norm}, {settings.targets}, {budget} propagations: {name}"
            path = folder / "kept" / _file(f"{subject.name}-{norm}-{settings.targets}-{budget}-{name}.npz")
            try:
                outcome, old = _kept(path, task, contestants[name], name in settings.again)
            except Broken as error:
                heat.broken[name] = str(error)
                say(f"{where}: no row: {error}")
                continue
            distance = task.distance(outcome.x)
            heat.entries[name] = standings.Entry(distance, outcome)
            say(f"{where}: {standings.line(distance, outcome)}{' (kept)' if old else ''}")
        heats.append(heat)
    return heats


def _kept(path: Path, task: Task, contestant: Contestant, again: bool) -> tuple[Outcome, bool]:
    """The outcome, and whether it was there already."""
    identity = store.fingerprint(
        {
            "examples": [store.fingerprint(np.asarray(each)) for each in (task.x, task.label, task.target)],
            "model": [store.fingerprint(np.asarray(leaf)) for leaf in jax.tree.leaves(task.model.params)],
            "task": [task.norm, task.budget, task.classes, task.seed, task.confidence],
            "source": _version(contestant.source),
        }
    )
    if path.exists() and not again:
        with np.load(path) as arrays:
            if str(arrays["identity"]) == identity:
                return Outcome(**{name: _plain(arrays[name]) for name in Outcome._fields}), True
    outcome = contestant.run(task)
    with store.atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, identity=identity, **outcome._asdict())
    return outcome, False


def _version(source: str) -> str:
    """Of a library its version, and of a module of this one its text as well."""
    if not source:
        return ""
    version = importlib.metadata.version(source.partition(".")[0])
    file = importlib.util.find_spec(source) if source.startswith("cwjax.") else None
    return f"{version} {store.fingerprint(Path(str(file.origin)))}" if file else version


def _plain(array: np.ndarray) -> Any:
    return array.item() if array.ndim == 0 else array


def _file(name: str) -> str:
    """The name with nothing in it that a file may not have."""
    return re.sub(r"[^\w.-]+", "_", name)


def _check(subjects, contestants, settings) -> None:
    names = [subject.name for subject in subjects]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a race needs models with different names, got {' '.join(names) or 'none'}")
    for name in (*settings.attacks, *settings.again):
        if name not in contestants:
            raise ValueError(f"unknown attack {name!r}: choose one of {', '.join(contestants)}")
    for what, given in (("--norm", settings.norm), ("--attacks", settings.attacks), ("--budgets", settings.budgets)):
        if len(set(given)) < len(given):
            raise ValueError(f"{what} takes different ones, got {' '.join(map(str, given))}")
    for norm in settings.norm:
        if norm not in DISTANCES:
            raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(DISTANCES)}")
    if not settings.norm or not settings.budgets:
        raise ValueError("a race needs a --norm and a number of --budgets")
    for budget in settings.budgets:
        check_count("--budgets", budget, least=2)
    check_count("--examples", settings.examples)
    check_number("--confidence", settings.confidence, least=0)
    check_count("--seed", settings.seed, least=0, most=2**32 - 1)


def _about(subjects, settings) -> dict[str, str]:
    versions = {}
    for name in ("adv-lib", "foolbox", "torchattacks", "adversarial-robustness-toolbox", "torch"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    told = {key: value for key, value in dataclasses.asdict(settings).items() if key not in ("again", "attacks")}
    told = {key: ", ".join(map(str, value)) if isinstance(value, tuple) else str(value) for key, value in told.items()}
    return told | {"data": ", ".join(dict.fromkeys(subject.dataset.name for subject in subjects))} | versions
