"""The rows of an attack run: which examples towards which targets, and what became of them, as a table and as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import cwjax as cw
from cwjax.base import LabelGoal
from cwjax.lab.attacking import judging
from cwjax.lab.console.progress import say
from cwjax.lab.data import Dataset
from cwjax.lab.files import store
from cwjax.lab.reporting.findings import CHANGED

DRAWN = ("drawn_clean", "drawn_adversarial")  # how the names of a task's pictures begin; an attack's name follows

TARGETS = ("untargeted", "random", "average", "best", "worst", "all")
Targets = str
"""One of TARGETS; or a class by its number, such as "7": every image of another class is to be taken for it."""
METAVAR = f"{{{','.join(TARGETS)}}}|CLASS"


class Rows(NamedTuple):
    """What to attack: one entry for every example and target."""

    place: np.ndarray  # int64 [R]: of the example in the data set given
    label: np.ndarray  # int32 [R]
    target: np.ndarray  # int32 [R]; -1 where untargeted, and of a task

    def goal(self) -> LabelGoal:
        """The goals of all rows, in classes."""
        if (self.target < 0).all():
            return cw.untargeted(self.label)
        return cw.targeted(self.target, labels=self.label)


class Attacked(NamedTuple):
    """The rows with what became of them under one attack."""

    attack: str  # its name in PRESETS
    settings: dict[str, Any]  # as used; None: it has no such setting
    table: pa.Table
    clean: np.ndarray  # float32 [R, *S]
    adversarial: np.ndarray  # float32 [R, *S]: the clean image where the attack failed
    seconds: dict[str, float]  # "compile", "attack" and, if there were any, "rounding" and "checks"
    diagnosis: cw.evaluation.Diagnosis | None = (
        None  # of all rows, also where only extremes are kept; None: nobody checked
    )
    drawn: tuple[np.ndarray, np.ndarray] | None = None  # of a task: pictures of its first rows, clean and adversarial


def check_targets(targets: Targets, words: Sequence[str] = TARGETS) -> None:
    """Raises ValueError where it is none of these words, and no number of a class."""
    if targets not in words and not (targets.isascii() and targets.isdecimal()):
        raise ValueError(
            f"--targets {targets} is not known: choose one of {', '.join(words)}, or the number of a class"
        )


def aimed_at(dataset: Dataset, targets: Targets) -> Dataset:
    """The data set without the images that have no such goal: those of the very class that all others are to become.

    Raises:
      ValueError: the data set has no such class, or is of a task.
    """
    if not targets.isdecimal():
        return dataset
    if dataset.task:
        raise ValueError(_brings_its_own(dataset.task.name, targets))
    if int(targets) >= len(dataset.classes):
        raise ValueError(f"--targets {targets} is no class of {dataset.name}: they are 0 to {len(dataset.classes) - 1}")
    return dataset.take(np.flatnonzero(dataset.labels != int(targets)))


def _brings_its_own(task: str, targets: Targets) -> str:
    return f"--targets {targets} is for classes: the task {task!r} brings its own goals"


def rows_of(dataset: Dataset, targets: Targets, *, seed: int) -> Rows:
    """One row an example (untargeted, a goal of its own, or a wrong class drawn for it), or one for each of its wrong
    classes.

    Args:
      dataset: the examples.
      targets: "untargeted"; "random" and "average", one wrong class drawn uniformly for each example, which is the
        paper's average case; "best", "worst" and "all", every wrong class; the number of a class that no example has,
        see `aimed_at`.
      seed: of the draw, which depends on it and the example's `index` and on no other example.

    Raises:
      ValueError: targets other than "untargeted", of a task.
    """
    if dataset.task and targets != "untargeted":
        raise ValueError(_brings_its_own(dataset.task.name, targets))
    count, classes, labels = len(dataset.labels), len(dataset.classes), dataset.labels
    places = np.arange(count)
    if targets == "untargeted":
        return Rows(places, labels, np.full(count, -1, np.int32))
    if targets.isdecimal():
        return Rows(places, labels, np.full(count, int(targets), np.int32))
    if targets in ("random", "average"):
        draws = [np.random.default_rng((seed, index)).integers(1, classes) for index in dataset.index.tolist()]
        away = np.asarray(draws, np.int64)
        return Rows(places, labels, ((labels + away) % classes).astype(np.int32))
    away = np.tile(np.arange(1, classes), count)
    places, labels = np.repeat(places, classes - 1), np.repeat(labels, classes - 1)
    return Rows(places, labels, ((labels + away) % classes).astype(np.int32))


def keys_of(dataset: Dataset, rows: Rows, *, seed: int) -> jax.Array:
    """The random key of every row [R]: of the seed, the example's `index` and the target, and of no other row."""
    return _keys(np.uint32(seed), dataset.index[rows.place].astype(np.uint32), (rows.target + 1).astype(np.uint32))


@jax.jit
def _keys(seed, index, target):
    key = jax.random.key(seed)
    return jax.vmap(lambda index, target: jax.random.fold_in(jax.random.fold_in(key, index), target))(index, target)


def write(attacked: Sequence[Attacked], folder: Path) -> None:
    """Writes `results.parquet`, one row an attack, example and target, and `adversarial.npz`, the images in the same
    order, and of a task the pictures of its first rows.
    """
    table = pa.concat_tables([each.table for each in attacked])
    with store.atomically(folder / "results.parquet") as temporary:
        pq.write_table(table, temporary)
    adversarial, clean = (
        np.concatenate([getattr(each, name) for each in attacked]) for name in ("adversarial", "clean")
    )
    columns = {name: table[name].to_numpy() for name in ("index", "label", "target", "success")}
    columns["attack"] = np.array(table["attack"].to_pylist())  # as text, where Arrow would give objects
    columns |= {
        f"{when}_{each.attack}": pictures
        for each in attacked
        if each.drawn is not None
        for when, pictures in zip(DRAWN, each.drawn, strict=True)
    }
    with store.atomically(folder / "adversarial.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, adversarial=adversarial, clean=clean, **columns)


def table_of(model, dataset, attack, rows, goal, clean, adversarial, result, more) -> pa.Table:
    """One row for each entry; margin and prediction are those of the saved image, through the model alone."""
    before = judging.said(model, dataset, np.arange(len(dataset.labels)), dataset.images)
    before = judging.judged(dataset, jax.tree.map(lambda leaf: leaf[rows.place], before), goal)
    after = judging.judged(dataset, judging.said(model, dataset, rows.place, adversarial), goal)
    columns: dict[str, Any] = {
        "attack": [attack] * len(clean),
        "index": dataset.index[rows.place],
        "label": rows.label,
        "target": rows.target,
        "clean_prediction": before.answer,
        "prediction": after.answer,
        "success": result.success,
        "distance": result.distance,
        **{name: np.asarray(value) for name, value in cw.metrics.norms(clean, adversarial, channel_axis=-1).items()},
        "margin": after.margin,
        "c": result.c,
        "forwards": result.forwards,
        "backwards": result.backwards,
        "finite": result.finite,
        **more,
    }
    if dataset.names:
        columns["name"] = [dataset.names[place] for place in rows.place]
    if dataset.features:
        pairs = zip(clean, adversarial, strict=True)
        columns[CHANGED] = [dataset.features.changes(before, after) for before, after in pairs]
    if dataset.task:
        columns |= judging.words_of(dataset.task, goal, before, after)
    if lost := int((result.success & ~after.met).sum()):
        say(f"Warning: {lost} successes do not survive a second look at their saved images. Does the model compute in")
        say("less than float32, or at random? Ask for a --confidence above its own rounding.")
    return pa.table(columns)


def places_of(table: pa.Table, dataset: Dataset) -> np.ndarray:
    """Where in the data set the images of these rows lie, int64 [R]. Raises ValueError where it has other images."""
    index, order = table["index"].to_numpy(), np.argsort(dataset.index)
    places = order[np.searchsorted(dataset.index, index, sorter=order) % len(order)]
    same = np.array_equal(dataset.index[places], index)
    if not same or not np.array_equal(dataset.labels[places], table["label"].to_numpy()):
        raise ValueError("the data has other images than those that were attacked")
    return places


def extreme(table: pa.Table, *, worst: bool) -> tuple[pa.Table, np.ndarray]:
    """For each example the row of its hardest target (a failure, if there is one), or of its easiest, and those rows'
    places. Its passes are those of all its targets: that is what the choice cost.
    """
    index, distance = table["index"].to_numpy(), table["distance"].to_numpy()
    order = np.argsort(-distance if worst else distance, kind="stable")
    kept = np.sort(order[np.unique(index[order], return_index=True)[1]])
    example = np.unique(index, return_inverse=True)[1]
    chosen = table.take(kept)
    for name in ("forwards", "backwards"):
        spent = np.bincount(example, weights=table[name].to_numpy())[example[kept]]
        chosen = chosen.set_column(chosen.column_names.index(name), name, pa.array(spent.astype(np.int32)))
    return chosen, kept
