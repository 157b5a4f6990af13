"""The attacks that the command line knows by name, and what each can be told."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import cwjax as cw
from cwjax.arguments import check_number
from cwjax.attacks import registry
from cwjax.base import Attack, Search
from cwjax.lab.console import spelling
from cwjax.lab.console.parsing import optional
from cwjax.lab.console.progress import say
from cwjax.lab.data.features import Features
from cwjax.tasks import Task

MEANINGS = {
    "objective": ("STR", "the paper's f1, f2, f3, f4, f5, f6 or f7: what says how far the goal is from being met"),
    "box": ("STR", "how values stay in [0, 1]: change_of_variables (a tanh, as in the paper), projected or clipped"),
    "optimizer": ("STR", "gradient_descent, momentum, nesterov or adam"),
    "confidence": ("FLOAT", "by how many logits an adversarial example must lead (kappa)"),
    "steps": ("INT", "gradient steps; l2, l1 and lbfgs: in a round, at the most; l0 and linf: at one weight c"),
    "search_steps": ("INT", "rounds of the search over c, the weight of the objective against the distance"),
    "initial_c": ("FLOAT", "the weight c of the first round: a larger c favours success, a smaller one a small change"),
    "largest_c": ("FLOAT", "weights c from here up are not tried"),
    "learning_rate": ("FLOAT", "the optimiser's"),
    "starts": ("INT", "starting points, the first of them the plain one"),
    "radius": (
        "FLOAT",
        "of the L2 ball around the plain start that the others are drawn from, with pixels from 0 to 1",
    ),
}
"""Setting -> what to give, and what it means."""


def setting(name: str, *, several: bool = False) -> Any:
    """What `--help` shows of a setting: its meaning, and each attack's own value. For `typing.Annotated`.

    Args:
      name: of the setting.
      several: whether it takes several values.
    """
    metavar, meaning = MEANINGS[name]
    return optional(f"[{metavar} ...]" if several else metavar, lambda: own_values(name), help=meaning)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What an attack can be told, see MEANINGS. None is the attack's own value, that of the released code (see
    PRESETS).
    """

    objective: Annotated[str | None, setting("objective")] = None
    box: Annotated[str | None, setting("box")] = None
    optimizer: Annotated[str | None, setting("optimizer")] = None
    confidence: Annotated[float | None, setting("confidence")] = None
    steps: Annotated[int | None, setting("steps")] = None
    search_steps: Annotated[int | None, setting("search_steps")] = None
    initial_c: Annotated[float | None, setting("initial_c")] = None
    largest_c: Annotated[float | None, setting("largest_c")] = None
    learning_rate: Annotated[float | None, setting("learning_rate")] = None
    starts: Annotated[int | None, setting("starts")] = None
    radius: Annotated[float | None, setting("radius")] = None


class Preset(NamedTuple):
    """An attack of `cwjax.attacks.ATTACKS` that the command line knows."""

    make: Callable[..., Attack]  # takes its settings as `attack_of` gives them
    own: Settings  # its own value of every setting; None: it has no such setting


def _searching(preset: Callable[..., Attack]) -> Callable[..., Attack]:
    """An attack that searches for the weight c."""

    def make(*, search_steps: Any, initial_c: Any, **common: Any) -> Attack:
        return preset(search=cw.search.binary_search(search_steps, initial_c=initial_c), **common)

    return make


def _shrinking(preset: Callable[..., Attack], search: Callable[..., Search]) -> Callable[..., Attack]:
    """An attack that shrinks its problem, and doubles the weight c on the way."""

    def make(*, initial_c: Any, **common: Any) -> Attack:
        return preset(search=search(initial_c=initial_c), **common)

    return make


_HINGED = "f6"  # is 0 where the goal is met
_PAPER = Settings(objective=_HINGED, box="change_of_variables", optimizer="adam", confidence=0.0, starts=1, radius=0.0)
_L2 = dataclasses.replace(_PAPER, steps=10_000, search_steps=9, initial_c=1e-3, learning_rate=1e-2)
_L0 = dataclasses.replace(_PAPER, confidence=0.01, steps=1000, initial_c=1e-3, largest_c=2e6, learning_rate=1e-2)
_LBFGS = Settings(objective="f1", box="projected", confidence=0.0, steps=1000, search_steps=9, initial_c=1e-2)
_FAST = Settings(confidence=0.0, steps=300, starts=1, radius=0.0)
_LINF = dataclasses.replace(_PAPER, steps=1000, initial_c=1e-5, largest_c=20.0, learning_rate=5e-3)

_PIXELS = cw.distances.l0(channel_axis=-1)  # images are [H, W, C]: see `lab.data.Dataset`
_L0_OF_PICTURES = functools.partial(cw.l0, distance=_PIXELS)
_SHRINK_PICTURES = functools.partial(cw.search.shrink_mask, channel_axis=-1)

PRESETS = {
    "l2": Preset(make=_searching(cw.l2), own=_L2),
    "l1": Preset(make=_searching(cw.l1), own=_L2),
    "l0": Preset(make=_shrinking(_L0_OF_PICTURES, _SHRINK_PICTURES), own=_L0),
    "linf": Preset(make=_shrinking(cw.linf, cw.search.shrink_tau), own=_LINF),
    "lbfgs": Preset(make=_searching(cw.lbfgs), own=dataclasses.replace(_LBFGS, starts=1, radius=0.0)),
    "fast_l2": Preset(make=functools.partial(cw.fast, "l2"), own=_FAST),
    "fast_l1": Preset(make=functools.partial(cw.fast, "l1"), own=_FAST),
    "fast_linf": Preset(make=functools.partial(cw.fast, "linf"), own=_FAST),
    "fast_l0": Preset(make=functools.partial(cw.fast, "l0", distance=_PIXELS), own=_FAST),
}
"""By name, with the numbers of the released code where it has them."""

_NUMBERS = {"confidence", "steps", "search_steps", "initial_c", "largest_c", "learning_rate", "radius"}  # traced
_CHOICES: dict[str, Mapping[str, Any]] = {
    "objective": cw.objectives.OBJECTIVES,
    "box": cw.boxes.BOXES,
    "optimizer": cw.optimizers.OPTIMIZERS,
}
_LIMITS: dict[str, dict[str, Any]] = {
    "confidence": {"least": 0},
    "steps": {"least": 1},
    "search_steps": {"least": 1},
    "initial_c": {"least": 1e-30, "most": 1e30},  # neither zero nor infinite in float32
    "learning_rate": {"least": 0, "above": True},
    "starts": {"least": 1, "most": 1000},
    "radius": {"least": 0},
}


def norm_of(attack: str) -> str:
    """The norm that an attack of the command line makes small."""
    (norm,) = registry.ATTACKS[attack].norms
    return norm


def own_values(name: str) -> str:
    """The value of a setting that each attack has by itself: "10000 (l2, l1), 300 (fast_l2)", or "0" if all agree."""
    values: dict[str, list[str]] = {}
    for attack, preset in PRESETS.items():
        if (value := getattr(preset.own, name)) is not None:
            shown = f"{value:g}" if isinstance(value, float) else str(value)  # a comma would be broken at
            values.setdefault(shown, []).append(attack)
    if [len(attacks) for attacks in values.values()] == [len(PRESETS)]:
        return next(iter(values))
    return ", ".join(f"{value} ({', '.join(attacks)})" for value, attacks in values.items())


def resolved(attacks: Sequence[str], settings: Settings, task: Task | None = None) -> dict[str, Settings]:
    """For every attack named, the value of each setting that it has: the one given, or else its own.

    Of several attacks, each takes those of the settings given that it has; a line says which have to do without. An
    attack on a task has no setting `objective`: the task has its own.

    Raises:
      ValueError: an attack, objective, box or optimiser that is unknown; an attack named twice; a setting that none of
        the attacks has, or that the task does not leave open; a number out of range.
    """
    if task and settings.objective is not None:
        raise ValueError(
            f"--objective {settings.objective} is for classes: the task {task.name!r} has an objective of its own"
        )
    if task and task.fixed_confidence is not None and settings.confidence not in (None, task.fixed_confidence):
        raise ValueError(
            f"--confidence {settings.confidence:g}: the objective of the task {task.name!r} is fixed at "
            f"{task.fixed_confidence:g}; give the task a function that makes its objective"
        )
    for name in attacks:
        _check_attack(name)
    if len(set(attacks)) != len(attacks) or not attacks:
        raise ValueError(f"--attack takes one name or several different ones, got {' '.join(attacks) or 'none'}")
    told = given(settings)
    for setting in told:
        lacking = [name for name in attacks if setting not in given(PRESETS[name].own)]
        having = [name for name in attacks if name not in lacking]
        if not having:
            known = {_flag(name): None for attack in attacks for name in given(PRESETS[attack].own)}
            raise ValueError(
                f"{_flag(setting)} is no setting of {' or '.join(attacks)}, which takes {', '.join(known)}"
            )
        if lacking:
            say(f"{_flag(setting)} goes to {' and '.join(having)} alone: it is no setting of {' or '.join(lacking)}.")
    complete = {}
    for name in attacks:
        own = given(PRESETS[name].own)
        complete[name] = Settings(**own | {setting: value for setting, value in told.items() if setting in own})
        _check(complete[name])
        if task:
            fixed = task.fixed_confidence
            own = {} if fixed is None else {"confidence": fixed}
            complete[name] = dataclasses.replace(complete[name], objective=None, **own)
    return complete


def check_features(
    attacks: Sequence[str], features: Features | None, data: str = "", *, rounded: bool = False, restored: bool = False
) -> None:
    """Raises ValueError where inputs are features of the data of that name, and what is asked for is for images; or
    where features have costs, and an attack's norm takes none.
    """
    if features is None:
        return
    if rounded:
        raise ValueError(f"--rounded is for images of 8 bits, and {data} has features: say their levels in the file")
    if restored:
        raise ValueError(f"--restored is for images, and {data} has features: repairing them undoes what is not needed")
    for name in attacks:
        if features.priced and norm_of(name) not in ("l0", "l1"):
            raise ValueError(
                f"features have costs, which attacks in L0 and L1 keep small: --attack {name} is in neither"
            )


def attack_of(
    name: str, settings: Settings, task: Task | None = None, features: Features | None = None, **numbers: Any
) -> Attack:
    """The attack with settings that `resolved` has completed; numbers given beside them may be traced. Features that
    have costs give it its distance.

    The objective is that of the settings, or the task's. Of an attack without the setting it is one that goes on
    falling once the goal is met.
    """
    parts = given(settings) | numbers
    starts, radius, confidence = parts.pop("starts"), parts.pop("radius"), parts.pop("confidence")
    if task:
        parts["objective"] = task.objective_of(confidence, hinged=PRESETS[name].own.objective == _HINGED)
    elif "objective" in parts:
        parts["objective"] = cw.objectives.OBJECTIVES[parts["objective"]](confidence)
    else:
        parts["objective"] = cw.losses.softened_margin(confidence)
    if "box" in parts:
        parts["box"] = cw.boxes.BOXES[parts["box"]]()
    if "optimizer" in parts:
        parts["optimizer"] = cw.optimizers.OPTIMIZERS[parts["optimizer"]](parts.pop("learning_rate"))
    if features and features.priced:
        parts["distance"] = features.distance(norm_of(name))
    attack = PRESETS[name].make(**parts)
    return cw.restarted(attack, starts, radius) if starts > 1 else attack


def given(settings: Settings) -> dict[str, Any]:
    """The settings that are not None."""
    return {name: value for name, value in dataclasses.asdict(settings).items() if value is not None}


def split(settings: Settings) -> tuple[Settings, dict[str, Any]]:
    """The settings without their numbers, which decide the program, and the numbers, which are its arguments."""
    fixed = given(settings)
    numbers = {setting: fixed.pop(setting) for setting in _NUMBERS & fixed.keys()}
    return Settings(**fixed), numbers


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def _check_choice(what: str, name: str, choices: Mapping[str, Any]) -> None:
    if name not in choices:
        raise ValueError(f"unknown {what} {name!r}: {spelling.choices(name, choices)}")


def _check_attack(name: str) -> None:
    if name in registry.ATTACKS and name not in PRESETS:
        known = f"here are {', '.join(PRESETS)}"
        raise ValueError(f"--attack {name} is for Python (cwjax.attacks) and `cwjax race --attack {name}`; {known}")
    _check_choice("attack", name, PRESETS)


def _check(settings: Settings) -> None:
    """Raises ValueError, naming the setting, where one is out of range."""
    told = given(settings)
    for setting in told.keys() & _CHOICES.keys():
        _check_choice(setting, told[setting], _CHOICES[setting])
    for setting in [name for name in _LIMITS if name in told]:
        check_number(_flag(setting), told[setting], **_LIMITS[setting])
    if "largest_c" in told:
        check_number("--largest-c", told["largest_c"], least=told["initial_c"], above=True)
    starts, radius = told["starts"], told["radius"]
    if (starts > 1) != (radius > 0):
        raise ValueError(f"--starts above 1 and a --radius above 0 go together: got {starts} and {radius:g}")
    if told["steps"] * told.get("search_steps", 1) * starts >= 2**31:
        factors = [f"{_flag(name)} {told[name]}" for name in ("steps", "search_steps", "starts") if name in told]
        raise ValueError(f"{' times '.join(factors)} is beyond counting")
