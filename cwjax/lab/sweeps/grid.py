"""What a sweep is asked for: axes of values, and the configurations that they span.

The same frozen dataclass is the command line (`--confidence 0 10 20`), the file (`confidence = [0, 10, 20]`) and what
is hashed.
"""

import dataclasses
import itertools
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cwjax.arguments import check_count, check_number
from cwjax.lab import defending
from cwjax.lab.attacking import presets
from cwjax.lab.attacking.presets import setting
from cwjax.lab.attacking.request import Request
from cwjax.lab.attacking.rows import METAVAR, Targets, check_targets
from cwjax.lab.console import parsing
from cwjax.lab.console.parsing import optional
from cwjax.lab.files import store
from cwjax.lab.subjects import AUTO

EXAMPLES = CHUNK = 100
Precision = Literal["bfloat16", "tensorfloat32", "highest"]


def _several(kind: Any) -> str:
    return f"{{{','.join(get_args(kind))}}}"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Axes, each with any number of values; and what all configurations share. An axis that is left out has one value:
    of a setting the attack's own.
    """

    # see `cwjax attack`; options of a model of another framework stand behind its name: net.onnx,layout=NCHW,mean=0.5
    model: Annotated[tuple[str, ...], optional("[STR ...]")] = ()
    # whose test images; auto: that of each model, see `cwjax attack`
    data: Annotated[tuple[str, ...], optional("[STR ...]", "auto")] = ()
    # of each model: names of defences, and none: what a defence brings is seen beside it; see `cwjax attack`
    defence: Annotated[tuple[str, ...], optional("[STR ...]", "none")] = ()
    # by name, see `cwjax attack`
    attack: Annotated[tuple[str, ...], optional("[STR ...]", "l2")] = ()
    # see `cwjax attack`
    targets: Annotated[tuple[Targets, ...], optional(f"[{METAVAR} ...]", "untargeted")] = ()
    # the first test images
    examples: Annotated[int | None, optional("INT", str(EXAMPLES))] = None
    # examples in a unit, which is what a fault can cost
    chunk: Annotated[int | None, optional("INT", str(CHUNK))] = None
    only_correct: bool = False  # leave out images that the model gets wrong before any attack
    checks: bool = True  # ask of the first unit of each configuration whether its numbers can be believed
    # of the targets drawn and of the attack
    seed: Annotated[tuple[int, ...], optional("[INT ...]", "0")] = ()
    # of the search
    precision: Annotated[tuple[Precision, ...], optional(f"[{_several(Precision)} ...]", "highest")] = ()
    # rows attacked at once
    width: Annotated[int | None, optional("INT", "as `cwjax attack` takes")] = None
    # Each setting goes to the attacks that have it.
    objective: Annotated[tuple[str, ...], setting("objective", several=True)] = ()
    box: Annotated[tuple[str, ...], setting("box", several=True)] = ()
    optimizer: Annotated[tuple[str, ...], setting("optimizer", several=True)] = ()
    confidence: Annotated[tuple[float, ...], setting("confidence", several=True)] = ()
    steps: Annotated[tuple[int, ...], setting("steps", several=True)] = ()
    search_steps: Annotated[tuple[int, ...], setting("search_steps", several=True)] = ()
    initial_c: Annotated[tuple[float, ...], setting("initial_c", several=True)] = ()
    largest_c: Annotated[tuple[float, ...], setting("largest_c", several=True)] = ()
    learning_rate: Annotated[tuple[float, ...], setting("learning_rate", several=True)] = ()
    starts: Annotated[tuple[int, ...], setting("starts", several=True)] = ()
    radius: Annotated[tuple[float, ...], setting("radius", several=True)] = ()
    rounded: bool = False  # 8-bit pixels, and those repaired that this breaks
    restored: bool = False  # changes undone that the goal does not need


_SETTINGS = tuple(field.name for field in dataclasses.fields(presets.Settings))
_DEFAULTS = {"data": (AUTO,), "defence": (defending.NONE,), "attack": ("l2",), "targets": ("untargeted",), "seed": (0,)}
_DEFAULTS |= {"precision": ("highest",), "examples": EXAMPLES, "chunk": CHUNK}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration(Request):
    """One value of every axis: what an attack is asked for, its settings complete, of a model and images by name."""

    model: str
    data: str  # "auto" only until `units.plan` has asked the model
    only_correct: bool = False

    @property
    def digest(self) -> str:
        """The SHA-256 of all values."""
        return store.fingerprint(dataclasses.asdict(self))

    @property
    def columns(self) -> dict[str, Any]:
        """The values under the names of the axes."""
        flat = dataclasses.asdict(self)
        settings = flat.pop("settings")
        return {name: flat.pop(name) for name in ("model", "data", "targets", "seed", "attack")} | flat | settings


def read(file: Path | None, told: Sweep = Sweep()) -> tuple[Sweep, ...]:
    """The sweeps of a TOML file: one, or one for each of its `[[grid]]` tables on top of what stands above them.

    Args:
      file: keys are the fields of Sweep; an axis takes a value or a list of values. None: no file.
      told: what the command line says, which comes before what the file says.

    Raises:
      ValueError: the file is no TOML, or says what no sweep has; something is missing or out of range.
      OSError: it cannot be read.
    """
    tables = [_table(file, table) for table in _tables(file)] if file else [Sweep()]
    return tuple(_complete(over(told, table)) for table in tables)


def configurations(sweep: Sweep) -> list[Configuration]:
    """Every combination, in the order of the axes, the last one fastest. Combinations that differ only in settings
    that their attack does not have are one.

    Raises:
      ValueError: see `presets.resolved`.
    """
    axes = {name: getattr(sweep, name) for name in _SETTINGS if getattr(sweep, name)}
    first = presets.Settings(**{name: values[0] for name, values in axes.items()})
    presets.resolved(sweep.attack, first)  # says which attack goes without which setting
    found: dict[Configuration, None] = {}
    subjects = [_subject(*each) for each in itertools.product(sweep.model, sweep.data, sweep.defence)]
    for (model, data), targets, seed, precision, attack in itertools.product(
        subjects, sweep.targets, sweep.seed, sweep.precision, sweep.attack
    ):
        having = {name: axes[name] for name in axes if getattr(presets.PRESETS[attack].own, name) is not None}
        for values in itertools.product(*having.values()):
            told = presets.Settings(**dict(zip(having, values, strict=True)))
            settings = presets.resolved((attack,), told)[attack]
            request = (attack, settings, targets, seed, precision, sweep.rounded, sweep.restored)
            found[Configuration(*request, model=model, data=data, only_correct=sweep.only_correct)] = None
    return list(found)


def _subject(model: str, data: str, defence: str) -> tuple[str, str]:
    """The model's name with its defence, and the data that is then asked for."""
    if defence == defending.NONE:
        return model, data
    return defending.named(model, defence, None if data == AUTO else data), AUTO


def differing(columns: Sequence[dict[str, Any]]) -> list[str]:
    """The axes that tell these configurations' columns apart: those with several values for one attack."""
    attacks = {one["attack"] for one in columns}
    own = [[one for one in columns if one["attack"] == attack] for attack in attacks]
    names = [name for name in columns[0] if any(len({one[name] for one in some}) > 1 for some in own)]
    return [*(["attack"] if len(attacks) > 1 else []), *names]


def _tables(file: Path) -> list[dict[str, Any]]:
    try:
        content = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no TOML file: {error}") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'there is no file {file}: write one with lines such as attack = ["fast_l2"] and confidence = [0, 10], or '
            "leave it out and give the axes as options, such as --attack fast_l2 --confidence 0 10"
        ) from error
    except OSError as error:
        raise OSError(f"cannot read {file}: {error.strerror}") from error
    grids = content.pop("grid", [{}])
    if not isinstance(grids, list) or not all(isinstance(table, dict) for table in grids):
        raise ValueError(f"{file}: grid must be tables that are each headed [[grid]]")
    return [content | table for table in grids]


def _table(file: Path, table: dict[str, Any]) -> Sweep:
    """The table, read as the flags that it stands for."""
    flags = []
    for name, value in table.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            flags.append(flag if value else flag.replace("--", "--no-", 1))
            continue
        values = value if isinstance(value, list) else [value]
        if bad := [each for each in values if isinstance(each, bool) or not isinstance(each, str | int | float)]:
            raise ValueError(f"{file}: {name} takes text and numbers, got {bad[0]!r}")
        flags += [flag, *map(str, values)]
    try:
        sweep = parsing.read_type(Sweep, flags)
        for targets in sweep.targets:
            check_targets(targets)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return sweep


def over(told: Sweep, below: Sweep) -> Sweep:
    """What is told, and the rest from below."""
    empty = Sweep()
    given = {name: value for name, value in dataclasses.asdict(told).items() if value != getattr(empty, name)}
    return dataclasses.replace(below, **given)


def _complete(sweep: Sweep) -> Sweep:
    """With the values of what was left out, but for settings. Raises ValueError where one is wrong."""
    missing = {name: value for name, value in _DEFAULTS.items() if getattr(sweep, name) in ((), None)}
    sweep = dataclasses.replace(sweep, **missing)
    if not sweep.model:
        raise ValueError("a sweep needs a --model, such as zoo:mnist_cnn: see `cwjax attack --help`")
    for name in ("examples", "chunk", *(["width"] if sweep.width is not None else [])):
        check_number(f"--{name}", getattr(sweep, name), least=1)
    for targets in sweep.targets:
        check_targets(targets)
    for seed in sweep.seed:
        check_count("--seed", seed, least=0, most=2**32 - 1)
    axes: dict[str, Sequence[Any]] = {name: value for name, value in vars(sweep).items() if isinstance(value, tuple)}
    for name, values in axes.items():
        if len(set(values)) < len(values):
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag} takes different values, got {' '.join(map(str, values))}")
    return sweep
