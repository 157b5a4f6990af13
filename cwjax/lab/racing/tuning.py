"""Fair rivals: numbers of an attack that the user sets, and step lengths that are found on images kept apart.

An attack whose step length suits one network may be blind on another, and whoever races against it there has shown
nothing. `--set fmn.first_step=0.03` gives an attack a number; `--tune fmn` finds its step length, for each network,
norm and budget, on images that are not judged: the next that the network answers rightly.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.lab.racing.contestants import AT_ONCE, DECIDED, Contestant, Numbers, Task, steps_of
from cwjax.lab.reporting.findings import number

FACTORS = tuple(10.0 ** (place // 2) * (3.0 if place % 2 else 1.0) for place in range(-16, 17))
"""What an attack's own step length may be multiplied by: 1e-8, 3e-8, 1e-7, … 1e8.

Some three times the one before: within that of the best, the distances that an attack reaches change by a few per cent
(0.6 to 4 for FMN and a plain normalised gradient on a small network of digits).
"""

_OWN, _FIRST = 16, 4
"""The place of 1 in FACTORS, and how far either way the first look goes: to a hundredth and a hundred times. It goes
on at an end that is the best."""

FAIR = 0.9
"""The share of examples below which a rival is warned of, where another attack fools all."""

TEXT = """\
The step lengths of these attacks were found for each network, norm and budget, on images that nobody is judged on: the
next that the network answers rightly after those of the race (their places are in race.json). Tried: an attack's own
step length times 0.01, 0.03, 0.1, … 100, and further where the best was at an end. Chosen: the one with the smallest
median distance of all images, those not fooled being infinitely far. A last step length changes by the same factor.
"""
HEADINGS = ("images", "its own", "chosen", "successes at median distance, by step length")

_STEPS = ("step", "rate")  # how the name of a step length ends


Settings: TypeAlias = Mapping[str, float | int]
"""Numbers of an attack, by the names of its keyword arguments."""


class Trial(NamedTuple):
    """One step length, on the images that are kept apart."""

    numbers: dict[str, float | int]  # the step length, and the one that it falls to, if there is such a number
    successes: int
    median: float  # distance of all images, those that are not fooled being infinitely far

    @property
    def told(self) -> str:
        """To read: "20 at 0.8800"."""
        return f"{self.successes} at {number(self.median) if math.isfinite(self.median) else '∞'}"


class Tuned(NamedTuple):
    """How a step length was found."""

    own: dict[str, float | int]  # the attack's own
    chosen: dict[str, float | int]
    trials: list[Trial]
    images: list[int]  # their places in the data's own order

    def line(self) -> str:
        """What was found, in a line."""
        results = {shown(trial.numbers): trial.told for trial in self.trials}
        before, after = (f"{numbers}: {results[numbers]}" for numbers in (shown(self.own), shown(self.chosen)))
        return f"tuned on {len(self.images)} images that are not judged. Chosen {after}. Its own {before}"

    def cells(self) -> list[str]:
        """What was found, below HEADINGS."""
        results = [f"{next(iter(trial.numbers.values())):g}: {trial.told}" for trial in self.trials]
        return [str(len(self.images)), shown(self.own), shown(self.chosen), "; ".join(results)]

    def to_json(self) -> dict[str, Any]:
        """For `of`, and for people."""
        trials = [
            {**trial._asdict(), "median": trial.median if math.isfinite(trial.median) else None}
            for trial in self.trials
        ]
        return {**self._asdict(), "trials": trials}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Tuned":
        """What `to_json` told."""
        trials = [
            Trial(each["numbers"], each["successes"], math.inf if each["median"] is None else each["median"])
            for each in told["trials"]
        ]
        return cls(told["own"], told["chosen"], trials, told["images"])


def shown(numbers: Settings) -> str:
    """Numbers to read: "first_step=0.03, last_step=0.0003"."""
    return ", ".join(f"{name}={value:g}" for name, value in numbers.items())


def warning(shares: Mapping[str, float], steps: Mapping[str, str]) -> str:
    """Which attacks it is not fair to race against as they are, in some sentences; empty if there are none.

    They fool fewer than nine in ten examples where another fools all. A minimum-norm attack can fool every example: one
    that does not has a step length that does not suit the model, or too few steps.

    Args:
      shares: of the examples that each attack fools.
      steps: the name of the step length of each attack that has one, and was not tuned.
    """
    best = next((name for name, share in shares.items() if share == 1), None)
    weak = {name: share for name, share in shares.items() if share < FAIR}
    if best is None or not weak:
        return ""
    blunt = [name for name in weak if name in steps]
    advice = "Give them more propagations, or other numbers by --set."
    if blunt:
        one = f"{blunt[0]}.{steps[blunt[0]]}"
        advice = f"Find a step length that suits the model by --tune {' '.join(blunt)}, or give one by --set {one}=…"
    told = ", ".join(f"{name} ({100 * share:.0f} %)" for name, share in weak.items())
    least = f"{100 * FAIR:.0f} %"
    return f"{best} fools all examples; fewer than {least} are fooled by {told}. The race is not fair yet. {advice}"


def told(given: Sequence[str], contestants: Mapping[str, Contestant], names: Collection[str]) -> dict[str, Settings]:
    """The numbers that the user sets, by attack.

    Args:
      given: ATTACK.ARGUMENT=NUMBER, such as "fmn.first_step=0.03".
      contestants: by name.
      names: of those that take part.

    Raises:
      ValueError: one that is not that; an attack that takes no part, or has no such number; a number set twice.
    """
    found: dict[str, dict[str, float | int]] = {}
    for text in given:
        left, equals, value = text.partition("=")
        name, dot, argument = left.rpartition(".")
        if not (equals and dot and name and argument):
            raise ValueError(f"--set {text}: write ATTACK.ARGUMENT=NUMBER, such as fmn.first_step=0.03")
        _check_part(f"--set {text}", name, names)
        numbers = {key: own for norm in contestants[name].norms for key, own in contestants[name].numbers(norm).items()}
        if argument in DECIDED:
            raise ValueError(f"--set {text}: the race itself decides {', '.join(DECIDED)}")
        if argument not in numbers:
            known = f"it takes {', '.join(numbers)}" if numbers else "it takes none"
            raise ValueError(f"--set {text}: {name} takes no number called {argument!r}: {known}")
        if argument in found.setdefault(name, {}):
            raise ValueError(f"--set {text}: {name}.{argument} is set twice")
        found[name][argument] = _number(f"--set {text}", value, numbers[argument])
    return dict(found)


def _check_part(flag: str, name: str, names: Collection[str]) -> None:
    if name not in names:
        raise ValueError(f"{flag}: no attack called {name!r} takes part in this race: choose one of {', '.join(names)}")


def _number(flag: str, text: str, own: float | int | None) -> float | int:
    """The number, whole where the attack's own is."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{flag}: {text!r} is not a number")
    if value.is_integer() and not isinstance(own, float):
        return int(value)
    if isinstance(own, int):
        raise ValueError(f"{flag}: {text!r} is not a whole number")
    return value


def step_of(numbers: Numbers) -> str | None:
    """The name of an attack's step length: the first of its numbers whose name ends in "step" or "rate"."""
    return next((name for name in numbers if name.endswith(_STEPS)), None)


def check(
    wanted: Sequence[str],
    contestants: Mapping[str, Contestant],
    names: Collection[str],
    settings: Mapping[str, Settings],
) -> None:
    """Raises ValueError, naming --tune, unless all of these attacks take part and have a step length."""
    for name in wanted:
        _check_part(f"--tune {name}", name, names)
        for norm in contestants[name].norms:
            scaled(name, contestants[name].numbers(norm), settings.get(name, {}))


def scaled(name: str, own: Numbers, settings: Settings) -> dict[str, float | int]:
    """An attack's step length, and the one that it falls to: first_step and last_step change by the same factor.

    Args:
      name: of the attack.
      own: its numbers.
      settings: those that the user sets. A step length that is set is where the search begins; a last one stays.

    Raises:
      ValueError: it has no step length, or one without a value.
    """
    step, numbers = step_of(own), {**own, **settings}
    if step is None:
        has = f"its numbers are {', '.join(own)}" if own else "and it has no numbers"
        raise ValueError(f"--tune {name}: none of its numbers is a step length, whose name ends in step or rate: {has}")
    last = step.replace("first_", "last_", 1)
    found = {key: value for key in (step, last) if (value := numbers.get(key)) is not None}
    if not found.get(step):
        raise ValueError(f"--tune {name}: its {step} has no value to begin at: give it one by --set {name}.{step}=…")
    return {key: value for key, value in found.items() if key == step or key not in settings}


def tuned(contestant: Contestant, task: Task, scaled: Settings, images: np.ndarray) -> Tuned:
    """The step length with the smallest median distance of all images, those not fooled being infinitely far. One that
    fools a single image more, and takes the others twice as far, is not better.

    All are tried by one program, of which the step length is an argument.

    Args:
      contestant: with `make`.
      task: on the images that are kept apart, with what the user sets.
      scaled: the step length, see `scaled`.
      images: their places in the data's own order.
    """
    make, steps = contestant.make, steps_of(task, contestant.cost)
    assert make is not None
    keys, model = jax.random.split(jax.random.key(task.seed), len(task.x)), cw.in_precision(task.model, "highest")

    @jax.jit
    def run(model: Any, keys: Any, x: Any, goal: Any, numbers: Any) -> Any:
        attack = cw.confident(make(task.norm, steps, task.classes, **{**task.settings, **numbers}), task.confidence)
        return cw.chunked(cw.traced(attack, steps), AT_ONCE)(model, keys, x, goal)[0].x

    def tried(place: int) -> Trial:
        numbers = {name: FACTORS[place] * own for name, own in scaled.items()}
        found = task.distance(np.asarray(run(model, keys, jnp.asarray(task.x), task.goal(), numbers)))
        return Trial(numbers, int(np.isfinite(found).sum()), float(np.quantile(found, 0.5, method="higher")))

    def worse(place: int) -> tuple[float, int, int]:
        return trials[place].median, -trials[place].successes, abs(place - _OWN)

    trials = {place: tried(place) for place in range(_OWN - _FIRST, _OWN + _FIRST + 1)}
    best = min(trials, key=worse)
    while best in (min(trials), max(trials)) and trials[best].successes and 0 < best < len(FACTORS) - 1:
        further = best + (1 if best == max(trials) else -1)
        trials[further] = tried(further)
        best = min(trials, key=worse)
    return Tuned(dict(scaled), trials[best].numbers, [trials[place] for place in sorted(trials)], images.tolist())
