"""A race: attacks on the same examples, each with the same number of propagations to spend.

    from cwjax.lab.racing import entries, racing

    subject = racing.Subject("mnist_cnn", model, dataset)
    racing.race([subject], entries.OURS, racing.Race(norm=("l2",), budgets=(1000,)), Path("runs/race"))

Every result is kept in the folder, and not computed again while what was asked for stays the same, the version of the
library that the attack comes from, and the file of ours, or yours, that it is in. Ask for it `again` when you changed
another.
"""

import dataclasses
import functools
import importlib.metadata
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np

from cwjax.arguments import check_count, check_number
from cwjax.lab.attacking.rows import aimed_at, check_targets
from cwjax.lab.attacking.selection import first_right
from cwjax.lab.console.parsing import optional
from cwjax.lab.console.progress import say, show
from cwjax.lab.data import Dataset
from cwjax.lab.files import store
from cwjax.lab.racing import keeping, standings, tuning
from cwjax.lab.racing.contestants import RACED, Broken, Contestant, Make, Task
from cwjax.models import Model

TARGETS = ("untargeted", "random", "next")
_LEGEND = (
    "Rows are in the order of optimality. 1: on every example as near as the nearest that any attack came; 0: never "
    "that near. mean over common: over the examples that all attacks fool which fool at least half."
)


@dataclasses.dataclass(frozen=True)
class Race:
    """What is raced for."""

    # to be small; one race for each. l0 counts pixels, and l0_elements every channel of a pixel
    norm: tuple[Literal["l0", "l0_elements", "l1", "l2", "linf"], ...] = ("l2",)
    # by name, or MODULE:FUNCTION, an attack of your own; left out: every attack above that can make the norm small
    attack: Annotated[tuple[str, ...], optional("[STR ...]", "all of the library's")] = ()
    budgets: tuple[int, ...] = (100, 300, 1000, 2000)  # propagations an example: a gradient is two of them
    # random: a wrong class drawn for each example; next: the class after its own; or the number of a class: examples
    # are then of the others
    targets: Annotated[str, optional(f"{{{','.join(TARGETS)}}}|CLASS", "untargeted")] = "untargeted"
    confidence: float = 0.0  # logits by which the goal has to be met; of every attack, see `cwjax.confident`
    examples: int = 50  # the first test images that the model answers rightly
    seed: int = 0  # of the targets drawn, and of the attacks
    # attacks to run once more, though their results are kept
    again: Annotated[tuple[str, ...], optional("[STR ...]", "none")] = ()
    # numbers of attacks, such as fmn.first_step=0.03, instead of their own
    set: Annotated[tuple[str, ...], optional("[STR ...]", "none")] = ()
    # attacks whose step length is found first, on images that nobody is judged on
    tune: Annotated[tuple[str, ...], optional("[STR ...]", "none")] = ()
    tuning: int = 20  # how many images that is done on: the next that the model answers rightly


class Subject(NamedTuple):
    """A model to race on."""

    name: str
    model: Model
    dataset: Dataset  # the examples are taken from


def race(
    subjects: Sequence[Subject], contestants: Mapping[str, Contestant], settings: Race, folder: Path
) -> list[standings.Standing]:
    """Runs every contestant on every model at every budget, and writes the standings.

    A contestant whose numbers are missing, or not to be believed, has a line that says why, and no row.

    Args:
      subjects: models, with different names.
      contestants: by name.
      settings: what is raced for.
      folder: to write race.md, race.parquet and figures to; results are kept in `folder/kept`.

    Raises:
      ValueError: settings or names that do not fit.
      OSError: `folder` cannot be written to.
    """
    told = _check(subjects, contestants, settings)
    subjects = [each._replace(dataset=aimed_at(each.dataset, settings.targets)) for each in subjects]
    store.check_folder(folder)
    heats = []
    for subject in subjects:
        examples = examples_of(subject, settings)
        apart = apart_of(subject, settings) if settings.tune else None
        store.make_folder(folder)
        for norm in settings.norm:
            heats += _heats(subject, examples, apart, contestants, settings, told, norm, folder)
    return standings.write(heats, _about(subjects, settings), folder)


def tell(rows: Sequence[standings.Standing], folder: Path) -> None:
    """Prints the standings at the largest budgets, and where the others are."""
    for table in standings.finals(rows):
        show(table)
    say(_LEGEND)
    say(f"Standings: {folder / 'race.md'} has those of all budgets, and says what the columns mean.")
    say("Next:      the same command with more attacks or more --budgets: what ran is kept, and does not run again")


class Examples(NamedTuple):
    """What a model is asked about."""

    x: np.ndarray  # float32 [B, *S]
    label: np.ndarray  # int32 [B]
    target: np.ndarray  # int32 [B]; -1: untargeted
    source: np.ndarray  # int64 [B]: their places in the source's own order
    passed_over: int  # examples on the way to these that the model answers wrongly


def examples_of(subject: Subject, settings: Race) -> Examples:
    """The first examples that the model answers rightly, with their targets."""
    places = first_right(subject.model, subject.dataset, settings.examples)
    return _asked(subject, settings, places, np.random.default_rng(settings.seed))


def apart_of(subject: Subject, settings: Race) -> Examples:
    """The examples that step lengths are found on: the next that the model answers rightly, after those of the race."""
    asked = f"--examples {settings.examples} with --tuning {settings.tuning}"
    places = first_right(subject.model, subject.dataset, settings.examples + settings.tuning, asked=asked)
    return _asked(subject, settings, places[settings.examples :], np.random.default_rng((settings.seed, 1)))


def _asked(subject: Subject, settings: Race, places: np.ndarray, rng: np.random.Generator) -> Examples:
    dataset = subject.dataset
    label, classes = dataset.labels[places], len(dataset.classes)
    away = rng.integers(1, classes, len(places))
    target = {"untargeted": np.full(len(places), -1), "random": (label + away) % classes, "next": (label + 1) % classes}
    if settings.targets not in target:
        target[settings.targets] = np.full(len(places), int(settings.targets))
    return Examples(
        x=dataset.images[places],
        label=label,
        target=target[settings.targets].astype(np.int32),
        source=dataset.index[places],
        passed_over=int(places[-1]) + 1 - len(places),
    )


def _heats(subject, examples, apart, contestants, settings, told, norm, folder) -> list[standings.Heat]:
    """The results of one model and norm: a heat for each budget."""
    heats = []
    for budget in settings.budgets:
        task = task_of(subject, examples, settings, norm, budget)
        heat = standings.Heat(subject.name, norm, budget, examples.source, examples.passed_over, {}, {})
        about = f"{subject.name}, {norm}, {settings.targets}, {budget} propagations"
        for name in _names(contestants, settings, norm):
            contestant, again, tuned = contestants[name], name in settings.again, None
            path = kept_at(folder, subject, settings, norm, budget, name)
            mine = task._replace(settings=told.get(name, {}))
            try:
                if name in settings.tune:
                    other = task_of(subject, apart, settings, norm, budget)._replace(settings=mine.settings)
                    tuned = keeping.tuned(path.with_suffix(".tuned.json"), other, name, contestant, apart.source, again)
                    mine = mine._replace(settings={**mine.settings, **tuned.chosen})
                    say(f"{about}: {name}: {tuned.line()}")
                begun = functools.partial(say, f"{about}: {name}: compiling, then running")
                outcome, old = keeping.outcome(path, mine, contestant, again, begun)
            except Broken as error:
                heat.broken[name] = str(error)
                say(f"{about}: {name}: no row: {error}")
                continue
            distance = mine.distance(outcome.x)
            step = tuning.step_of(contestant.numbers(norm))
            heat.entries[name] = standings.Entry(distance, outcome, mine.settings, tuned, step)
            say(f"{about}: {name}: {standings.line(distance, outcome)}{' (kept)' if old else ''}")
        if warning := standings.warning(heat):
            say(f"Warning: {about}: {warning}")
        heats.append(heat)
    return heats


def task_of(subject: Subject, examples: Examples, settings: Race, norm: str, budget: int) -> Task:
    """The task of a contestant: these examples, with that many propagations for each."""
    return Task(
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


def _names(contestants: Mapping[str, Contestant], settings: Race, norm: str) -> list[str]:
    """Who takes part in a race for this norm."""
    kind = "untargeted" if settings.targets == "untargeted" else "targeted"
    return [
        name
        for name in settings.attack or contestants
        if norm in contestants[name].norms and kind in contestants[name].kinds
    ]


def kept_at(folder: Path, subject: Subject, settings: Race, norm: str, budget: int, name: str) -> Path:
    """The file of a contestant's results, in the folder of its race."""
    about = f"{subject.name}-{norm}-{settings.targets}-{budget}-{name}.npz"
    return folder / "kept" / re.sub(r"[^\w.-]+", "_", about)  # nothing that a file may not have


def _check(subjects, contestants, settings) -> dict[str, tuning.Settings]:
    """The numbers that are set, by attack; raises ValueError where anything does not fit."""
    names = [subject.name for subject in subjects]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a race needs models with different names, got {' '.join(names) or 'none'}")
    for name in (*settings.attack, *settings.again):
        if name not in contestants:
            raise ValueError(f"unknown attack {name!r}: choose one of {', '.join(contestants)}, or MODULE:FUNCTION")
    several = {"--norm": settings.norm, "--attack": settings.attack, "--budgets": settings.budgets}
    for what, given in (several | {"--tune": settings.tune}).items():
        if len(set(given)) < len(given):
            raise ValueError(f"{what} takes different ones, got {' '.join(map(str, given))}")
    for norm in settings.norm:
        if norm not in RACED:
            raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(RACED)}")
    if not settings.norm or not settings.budgets:
        raise ValueError("a race needs a --norm and a number of --budgets")
    for budget in settings.budgets:
        check_count("--budgets", budget, least=2)
    check_targets(settings.targets, TARGETS)
    check_count("--examples", settings.examples)
    check_count("--tuning", settings.tuning)
    check_number("--confidence", settings.confidence, least=0)
    check_count("--seed", settings.seed, least=0, most=2**32 - 1)
    racing = dict.fromkeys(name for norm in settings.norm for name in _names(contestants, settings, norm))
    told = tuning.told(settings.set, contestants, racing)
    tuning.check(settings.tune, contestants, racing, told)
    for norm, budget in itertools.product(settings.norm, settings.budgets):
        for name in _names(contestants, settings, norm):
            if (make := contestants[name].make) and (name in told or ":" in name):
                _made(subjects, contestants[name], make, told.get(name, {}), norm, budget, name)
    return told


def _made(
    subjects, contestant: Contestant, make: Make, told: tuning.Settings, norm: str, budget: int, name: str
) -> None:
    """Makes the attack as the race will. Raises ValueError where it cannot be made with what the user gives."""
    for classes in {len(subject.dataset.classes) for subject in subjects}:
        steps = max(budget // contestant.cost(classes), 1)
        try:
            make(norm, steps, classes, **told)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} with {tuning.shown(told)}: {error}" if told else str(error)) from error


def _about(subjects, settings) -> dict[str, str]:
    versions = {}
    for name in ("adv-lib", "foolbox", "torchattacks", "adversarial-robustness-toolbox", "torch"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    silent = ("again", "attack", *(() if settings.tune else ("tuning",)))
    told = {key: value for key, value in dataclasses.asdict(settings).items() if key not in silent}
    told = {key: ", ".join(map(str, value)) if isinstance(value, tuple) else str(value) for key, value in told.items()}
    return (
        {key: value for key, value in told.items() if value}
        | {"data": ", ".join(dict.fromkeys(subject.dataset.name for subject in subjects))}
        | versions
    )
