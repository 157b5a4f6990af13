"""What each system of `cwjax generate` can be told, and what it takes where nothing is said."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from cwjax.arguments import check_count, check_number
from cwjax.coverage import suspicion
from cwjax.generation.deeproad import WEATHERS
from cwjax.generation.transforms import TRANSFORMS
from cwjax.lab.console import spelling
from cwjax.lab.console.parsing import optional

CONSTRAINTS = ("light", "occlusion", "blackout")
CRITERIA = ("nc", "nbc", "ssc")
NORMS = ("linf", "l0")
TRANSLATIONS = ("colours", "operator")
UNITS = ("channel mean", "channel maximum", "element")
MEASURES = {"ochiai": suspicion.ochiai, "tarantula": suspicion.tarantula, "d_star": suspicion.d_star}
FUZZERS = ("deephunter", "tensorfuzz")
METHODS = {"deeptest": ("sampled", "slopes", "guided"), "deepfault": ("synthesis", "pgd")}
SOLVERS = ("none", "highs")

MEANINGS = {
    "constraint": ("STR", "what may change: light, occlusion or blackout"),
    "patch": ("INT", "a side of the patch of occlusion and blackout, in pixels"),
    "step": ("FLOAT", "the length of a step"),
    "steps": ("INT", "gradients for a test"),
    "target": ("INT", "which model is to leave its answer, from 1"),
    "coverage_weight": ("FLOAT", "how much a neuron that nothing has activated counts"),
    "transforms": ("[STR ...]", f"of images: {', '.join(TRANSFORMS)}"),
    "method": (
        "STR",
        "deeptest: sampled, slopes, or guided by coverage; deepfault: synthesis (the paper's one step), or pgd",
    ),
    "tries": ("INT", "parameters drawn for a transform; of guided: images made from a seed, at most"),
    "weathers": ("[STR ...]", f"to which images are taken: {', '.join(WEATHERS)}"),
    "translation": ("STR", "by moved colours (one matrix, learnt from unpaired images), or by the operator itself"),
    "rejected": ("FLOAT", "the share of images that the validator turns away although they are of the data"),
    "norm": ("STR", "in which tests are near: linf or l0 (few pixels)"),
    "strength": ("INT", "neurons of a pattern (t)"),
    "radius": ("FLOAT", "how far a test may be from its seed, in L-infinity"),
    "rounds": ("INT", "how often a requirement is tried; of fuzzing: parents taken, for a batch of seeds"),
    "seeds": ("INT", "how many inputs the search starts from"),
    "unit": ("STR", "what a neuron is: 'channel mean', 'channel maximum' or element"),
    "criterion": ("STR", "nc (neurons), nbc (boundaries) or ssc (pairs of signs)"),
    "solver": ("STR", "highs: a linear program looks for what gradients did not find; for --unit element"),
    "suspects": ("INT", "suspicious neurons of a class"),
    "measure": ("STR", f"of suspicion: {', '.join(MEASURES)}"),
    "epsilon": ("FLOAT", "how far an element may change"),
    "fuzzer": ("STR", "deephunter or tensorfuzz"),
    "mutants": ("INT", "of each parent"),
}
"""Setting -> what to give, and what it means."""


class Own(NamedTuple):
    """A system's settings with the values that they have by themselves."""

    values: dict[str, Any]
    models: str  # "one", or "two or more"
    value: Any  # of its neurons: "before" or "after" the activation function; None: it reads none
    what: str  # what is asked for, in a report


OWN: dict[str, Own] = {
    "deepxplore": Own(
        {"constraint": "light", "patch": 10, "step": 10.0, "steps": 20, "target": 1, "coverage_weight": 0.1},
        "two or more",
        "after",
        "inputs on which the models disagree",
    ),
    "deeptest": Own(
        {"transforms": tuple(TRANSFORMS), "method": "sampled", "tries": 50, "steps": 20},
        "one",
        "after",
        "transforms that break a label",
    ),
    "deepct": Own(
        {"strength": 2, "radius": 0.3, "steps": 20, "rounds": 2, "seeds": 20, "unit": "channel mean"},
        "one",
        "before",
        "patterns of neurons that the seeds leave",
    ),
    "deepconcolic": Own(
        {"criterion": "nc", "norm": "linf", "radius": 0.3, "steps": 20, "rounds": 2, "seeds": 1}
        | {"unit": "channel mean", "solver": "none"},
        "one",
        "before",
        "neurons, boundaries or pairs of signs",
    ),
    "deepfault": Own(
        {"suspects": 10, "measure": "ochiai", "epsilon": 0.1, "method": "synthesis", "step": 1.0, "steps": 20},
        "one",
        "after",
        "inputs that raise suspicious neurons until the label falls",
    ),
    "deeproad": Own(
        {"weathers": tuple(WEATHERS), "translation": "colours", "rejected": 0.05},
        "one",
        "after",
        "weathers that break a label",
    ),
    "fuzzing": Own(
        {"fuzzer": "deephunter", "rounds": 50, "mutants": 20},
        "one",
        "after",
        "valid mutants that are answered wrongly",
    ),
}
"""By system."""

_CHOICES: dict[str, Any] = {
    "constraint": CONSTRAINTS,
    "criterion": CRITERIA,
    "unit": UNITS,
    "measure": tuple(MEASURES),
    "fuzzer": FUZZERS,
    "solver": SOLVERS,
    "norm": NORMS,
    "translation": TRANSLATIONS,
}
_COUNTS = ("patch", "steps", "target", "tries", "strength", "rounds", "seeds", "suspects", "mutants")
_POSITIVE = ("step", "radius", "epsilon")


def setting(name: str) -> Any:
    """What `--help` shows of a setting. For `typing.Annotated`."""
    metavar, meaning = MEANINGS[name]
    return optional(metavar, lambda: _own_values(name), help=meaning)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a system can be told, see MEANINGS. None is the system's own value, see OWN."""

    constraint: Annotated[str | None, setting("constraint")] = None
    patch: Annotated[int | None, setting("patch")] = None
    step: Annotated[float | None, setting("step")] = None
    steps: Annotated[int | None, setting("steps")] = None
    target: Annotated[int | None, setting("target")] = None
    coverage_weight: Annotated[float | None, setting("coverage_weight")] = None
    transforms: Annotated[tuple[str, ...], setting("transforms")] = ()
    weathers: Annotated[tuple[str, ...], setting("weathers")] = ()
    translation: Annotated[str | None, setting("translation")] = None
    rejected: Annotated[float | None, setting("rejected")] = None
    norm: Annotated[str | None, setting("norm")] = None
    method: Annotated[str | None, setting("method")] = None
    tries: Annotated[int | None, setting("tries")] = None
    strength: Annotated[int | None, setting("strength")] = None
    radius: Annotated[float | None, setting("radius")] = None
    rounds: Annotated[int | None, setting("rounds")] = None
    seeds: Annotated[int | None, setting("seeds")] = None
    unit: Annotated[str | None, setting("unit")] = None
    criterion: Annotated[str | None, setting("criterion")] = None
    solver: Annotated[str | None, setting("solver")] = None
    suspects: Annotated[int | None, setting("suspects")] = None
    measure: Annotated[str | None, setting("measure")] = None
    epsilon: Annotated[float | None, setting("epsilon")] = None
    fuzzer: Annotated[str | None, setting("fuzzer")] = None
    mutants: Annotated[int | None, setting("mutants")] = None


def resolved(system: str, settings: Settings) -> dict[str, Any]:
    """Every setting of the system that means something here: the value given, or its own.

    Raises:
      ValueError: an unknown system or choice, a setting that the system does not have or that another one makes
        meaningless, or a number out of range.
    """
    if system not in OWN:
        raise ValueError(f"unknown system {system!r}: {spelling.choices(system, OWN)}")
    given = {name: value for name, value in dataclasses.asdict(settings).items() if value not in (None, ())}
    own = OWN[system].values
    for name in given.keys() - own.keys():
        raise ValueError(f"{_flag(name)} is no setting of {system}, which takes {', '.join(map(_flag, own))}")
    found = own | given
    for name in found.keys() & _CHOICES.keys():
        _check_choice(_flag(name), found[name], _CHOICES[name])
    if "method" in found:
        _check_choice("--method", found["method"], METHODS[system])
    for several, choices in (("transforms", TRANSFORMS), ("weathers", WEATHERS)):
        for name in found.get(several, ()):
            _check_choice(_flag(several), name, choices)
    if found.get("method") == "guided" and len(set(found["transforms"])) < 2:
        raise ValueError("--method guided changes an image by two transforms at once: name two --transforms or more")
    for name in found.keys() & set(_COUNTS):
        check_count(_flag(name), found[name], most=5 if name == "strength" else float("inf"))
    for name in found.keys() & set(_POSITIVE):
        check_number(_flag(name), found[name], least=0, above=True)
    if "rejected" in found:
        check_number("--rejected", found["rejected"], least=0, most=0.99)
    if "coverage_weight" in found:
        check_number("--coverage-weight", found["coverage_weight"], least=0)
    for name, because in _idle(system, found).items():
        if name in given:
            raise ValueError(f"{_flag(name)} does nothing with {because}: leave it out")
        found.pop(name)
    return found


def _idle(system: str, found: Mapping[str, Any]) -> dict[str, str]:
    """Settings that another one makes meaningless, and which one that is."""
    idle = {}
    if found.get("constraint") == "light":
        idle["patch"] = "--constraint light"
    if system == "deeptest":
        idle["tries" if found["method"] == "slopes" else "steps"] = f"--method {found['method']}"
    if found.get("norm") == "l0":
        idle["radius"] = "--norm l0, where a pixel may change by any amount"
        if found["solver"] != "none":
            raise ValueError("--solver highs is for --norm linf: a linear program finds the nearest test in L-infinity")
    if system == "deepfault":
        idle["steps" if found["method"] == "synthesis" else "step"] = f"--method {found['method']}"
    if found.get("criterion") == "ssc":
        idle["rounds"] = "--criterion ssc, which searches once from a seed"
    if system == "deepconcolic" and (found["unit"] != "element" or found["criterion"] == "ssc"):
        if found["solver"] != "none":
            raise ValueError("--solver highs is for --criterion nc or nbc with --unit element")
        idle["solver"] = "channels and pairs of signs"
    return idle


def _check_choice(flag: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise ValueError(f"{flag} {value!r} is not known: choose one of {', '.join(choices)}")


def _own_values(name: str) -> str:
    """What each system takes by itself: "20 (deepxplore, deepct), 50 (deeptest)"."""
    values: dict[str, list[str]] = {}
    for system, own in OWN.items():
        if name in own.values:
            value = own.values[name]
            shown = "all" if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
            values.setdefault(shown, []).append(system)
    return ", ".join(f"{value} ({', '.join(systems)})" for value, systems in values.items())


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
