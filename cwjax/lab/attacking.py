"""Attack some images of a data set towards some targets, and keep one row of results for each."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow as pa
import pyarrow.parquet as pq

import cwjax as cw
from cwjax.base import Attack, Goal, Result
from cwjax.checks import check_number
from cwjax.lab import store
from cwjax.lab.data import Dataset
from cwjax.lab.progress import progress, say
from cwjax.models import Model

Targets = Literal["untargeted", "random", "average", "best", "worst", "all"]

_STEPS_A_CALL = 50  # between two looks at the progress


@dataclasses.dataclass(frozen=True)
class Settings:
    """An attack and its numbers. The defaults are the paper's."""

    attack: str = "l2"  # which attack: l2
    confidence: float = 0.0  # by how many logits an adversarial example must lead (kappa)
    steps: int = 10_000  # gradient steps in a round, at the most
    search_steps: int = 9  # rounds of the search over c
    initial_c: float = 1e-3  # the weight c of the first round
    learning_rate: float = 1e-2  # Adam's

    def check(self) -> None:
        """Raises ValueError, naming the number, where one is out of range."""
        if self.attack not in ATTACKS:
            raise ValueError(f"unknown attack {self.attack!r}: choose one of {', '.join(ATTACKS)}")
        check_number("--confidence", self.confidence, least=0)
        check_number("--steps", self.steps, least=1)
        check_number("--search-steps", self.search_steps, least=1)
        check_number("--initial-c", self.initial_c, least=0, above=True)
        check_number("--learning-rate", self.learning_rate, least=0, above=True)
        if self.steps * self.search_steps >= 2**31:
            raise ValueError(f"--steps {self.steps} times --search-steps {self.search_steps} is beyond counting")


class Kind(NamedTuple):
    """An attack by name."""

    make: Callable[[Settings], Attack]
    norm: str  # that it minimises


def _l2(settings: Settings) -> Attack:
    return cw.l2(
        objective=cw.logit_margin(settings.confidence),
        optimizer=optax.adam(settings.learning_rate),
        search=cw.binary_search(settings.search_steps, initial_c=settings.initial_c),
        steps=settings.steps,
    )


ATTACKS = {"l2": Kind(make=_l2, norm="l2")}


class Rows(NamedTuple):
    """What to attack: one entry for every example and target."""

    place: np.ndarray  # int64 [R]: of the example in the data set given
    label: np.ndarray  # int32 [R]
    target: np.ndarray  # int32 [R]; -1 where untargeted

    def goal(self) -> Goal:
        """The goals of all rows."""
        if (self.target < 0).all():
            return cw.untargeted(self.label)
        return cw.targeted(self.target, labels=self.label)


class Attacked(NamedTuple):
    """The rows with what became of them."""

    table: pa.Table
    clean: np.ndarray  # float32 [R, *S]
    adversarial: np.ndarray  # float32 [R, *S]: the clean image where the attack failed
    seconds: dict[str, float]  # "compile" and "attack"


def rows_of(dataset: Dataset, targets: Targets, *, seed: int) -> Rows:
    """One row an example (untargeted, or a wrong class drawn for it), or one for each of its wrong classes.

    Args:
      dataset: the examples.
      targets: "untargeted"; "random" and "average", one wrong class drawn uniformly for each example, which is the
        paper's average case; "best", "worst" and "all", every wrong class.
      seed: of the draw.
    """
    count, classes, labels = len(dataset.labels), len(dataset.classes), dataset.labels
    places = np.arange(count)
    if targets == "untargeted":
        return Rows(places, labels, np.full(count, -1, np.int32))
    if targets in ("random", "average"):
        away = np.random.default_rng(seed).integers(1, classes, count)
        return Rows(places, labels, ((labels + away) % classes).astype(np.int32))
    away = np.tile(np.arange(1, classes), count)
    places, labels = np.repeat(places, classes - 1), np.repeat(labels, classes - 1)
    return Rows(places, labels, ((labels + away) % classes).astype(np.int32))


def run(
    model: Model, dataset: Dataset, settings: Settings, *, targets: Targets, seed: int = 0, width: int = 128
) -> Attacked:
    """Attacks every example of the data set, `width` rows at a time, with progress.

    Args:
      model: takes images in [0, 1].
      dataset: the examples.
      settings: the attack.
      targets: see `rows_of`; with "best" and "worst" only each example's easiest or hardest target is kept.
      seed: of the targets drawn and of the attack.
      width: rows in one batch.

    Raises:
      ValueError: settings, images, labels or model that `Settings.check` or `cwjax.validate` refuse.
    """
    settings.check()
    check_number("--width", width, least=1)
    check_number("--seed", seed, least=0, most=2**32 - 1)
    rows = rows_of(dataset, targets, seed=seed)
    goal = rows.goal()
    cw.validate(model, dataset.images, cw.untargeted(dataset.labels))
    kind = ATTACKS[settings.attack]
    result, seconds = _in_batches(kind.make(settings), model, dataset.images, rows.place, goal, settings, seed, width)

    clean, adversarial = dataset.images[rows.place], np.asarray(result.x)
    table = _table(model, dataset, rows, goal, clean, adversarial, result)
    if targets in ("best", "worst"):
        table, kept = _extreme(table, worst=targets == "worst")
        clean, adversarial = clean[kept], adversarial[kept]
    return Attacked(table=table, clean=clean, adversarial=adversarial, seconds=seconds)


def write(attacked: Attacked, folder: Path) -> None:
    """Writes `results.parquet`, one row an example and target, and `adversarial.npz`, the images in the same order."""
    with store.atomically(folder / "results.parquet") as temporary:
        pq.write_table(attacked.table, temporary)
    columns = {name: attacked.table[name].to_numpy() for name in ("index", "label", "target", "success")}
    with store.atomically(folder / "adversarial.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, adversarial=attacked.adversarial, clean=attacked.clean, **columns)


def _in_batches(attack, model, images, places, goal, settings, seed, width) -> tuple[Result, dict[str, float]]:
    """The attack on all rows; the last batch is filled up with the first rows again, so that there is one program."""
    begin, advance, result = (jax.jit(piece) for piece in cw.lanes(attack))
    count, width = len(places), min(width, len(places))
    keys = jax.random.split(jax.random.key(seed), count)
    most = settings.steps * settings.search_steps  # steps of a row; one that ends sooner has none to come
    parts, successes, compiled, started = [], 0, None, time.monotonic()
    compiling = 0.0
    with progress(f"attacking {count} rows, gradient steps", count * most, every=10.0) as report:
        for start in range(0, count, width):
            chosen, real = np.arange(start, start + width) % count, min(width, count - start)
            x, goals = jnp.asarray(images[places[chosen]]), jax.tree.map(lambda leaf, at=chosen: leaf[at], goal)
            states, spent, over = begin(keys[chosen], x, goals), 0, False
            if compiled is None:
                compiled = advance.lower(model, x, goals, states, _STEPS_A_CALL).compile()
                compiling = time.monotonic() - started
            while not over:
                states = compiled(model, x, goals, states, _STEPS_A_CALL)
                now = states.progress
                done, forwards, distance = (
                    np.asarray(leaf)[:real] for leaf in (now.done, now.forwards, now.best.distance)
                )
                over, total = done.all(), int(np.where(done, most, forwards).sum())
                report(total - spent, f"{successes + np.isfinite(distance).sum()} succeeded so far")
                spent = total
            parts.append(jax.tree.map(lambda leaf, real=real: np.asarray(leaf)[:real], result(states)))
            successes += int(parts[-1].success.sum())
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    return joined, {"compile": compiling, "attack": time.monotonic() - started - compiling}


def _table(model, dataset, rows, goal, clean, adversarial, result) -> pa.Table:
    """One row for each entry; margin and prediction are those of the saved image, through the model alone."""
    logits = jnp.asarray(_logits(model, adversarial))
    columns: dict[str, Any] = {
        "index": dataset.index[rows.place],
        "label": rows.label,
        "target": rows.target,
        "clean_prediction": _logits(model, dataset.images).argmax(-1).astype(np.int32)[rows.place],
        "prediction": np.asarray(logits.argmax(-1), np.int32),
        "success": result.success,
        "distance": result.distance,
        **{name: np.asarray(value) for name, value in cw.metrics.norms(clean, adversarial).items()},
        "margin": np.asarray(jax.vmap(cw.margin)(logits, goal)),
        "c": result.c,
        "forwards": result.forwards,
        "backwards": result.backwards,
        "finite": result.finite,
    }
    if lost := int((result.success & ~(columns["margin"] > 0)).sum()):
        say(f"Warning: {lost} successes do not survive a second look at their saved images. Does the model compute in")
        say("less than float32, or at random? Ask for a --confidence above its own rounding.")
    return pa.table(columns)


@jax.jit
def _answers(model: Model, x: jax.Array) -> jax.Array:
    return model.apply(model.params, x)


def _logits(model: Model, x: np.ndarray) -> np.ndarray:
    """Logits of many images, float32 [R, K], at the highest precision that the device has."""
    with jax.default_matmul_precision("highest"):
        parts = [_answers(model, jnp.asarray(x[i : i + 500])) for i in range(0, len(x), 500)]
    return np.concatenate([np.asarray(part, np.float32) for part in parts])


def _extreme(table: pa.Table, *, worst: bool) -> tuple[pa.Table, np.ndarray]:
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
