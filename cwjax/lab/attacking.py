"""Attack some images of a data set towards some targets: the attacks by name, their settings, and the loop."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import local_devices
from jax.sharding import Mesh

import cwjax as cw
from cwjax.base import Attack, Result, Runner, Search
from cwjax.checks import check_count, check_number
from cwjax.lab import compiling
from cwjax.lab.data import Dataset
from cwjax.lab.progress import progress, say
from cwjax.lab.rows import Attacked, Targets, extreme, keys_of, rows_of, table_of
from cwjax.models import Model


@dataclasses.dataclass(frozen=True)
class Settings:
    """What an attack can be told. None is the attack's own value, that of the released code (see ATTACKS)."""

    objective: str | None = None  # f1, f2, f3, f4, f5, f6 or f7
    box: str | None = None  # change_of_variables, projected or clipped
    optimizer: str | None = None  # gradient_descent, momentum, nesterov or adam
    confidence: float | None = None  # by how many logits an adversarial example must lead (kappa)
    steps: int | None = None  # gradient steps; l2 and l1: in a round, at the most; l0 and linf: at one weight c
    search_steps: int | None = None  # l2 and l1: rounds of the search over c
    initial_c: float | None = None  # the weight c of the first round
    largest_c: float | None = None  # l0 and linf: weights c from here up are not tried
    learning_rate: float | None = None  # the optimiser's
    starts: int | None = None  # starting points, the first of them the plain one
    radius: float | None = None  # of the L2 ball around the plain start that the others are drawn from


class Kind(NamedTuple):
    """An attack by name."""

    make: Callable[..., Attack]  # takes its settings as `attack_of` gives them
    norm: str  # that it minimises
    own: Settings  # its own value of every setting; None: it has no such setting


def _searching(preset: Callable[..., Attack]) -> Callable[..., Attack]:
    """An attack that searches for the weight c."""

    def make(*, search_steps: Any, initial_c: Any, **common: Any) -> Attack:
        return preset(search=cw.binary_search(search_steps, initial_c=initial_c), **common)

    return make


def _shrinking(preset: Callable[..., Attack], search: Callable[..., Search]) -> Callable[..., Attack]:
    """An attack that shrinks its problem, and doubles the weight c on the way."""

    def make(*, initial_c: Any, **common: Any) -> Attack:
        return preset(search=search(initial_c=initial_c), **common)

    return make


def _fast(preset: Callable[..., Attack], **fixed: Any) -> Callable[..., Attack]:
    """A fast attack whose objective has no floor."""

    def make(*, confidence: Any, **common: Any) -> Attack:
        return preset(objective=cw.losses.negative_margin(confidence), **fixed, **common)

    return make


_PAPER = Settings(objective="f6", box="change_of_variables", optimizer="adam", confidence=0.0, starts=1, radius=0.0)
_L2 = dataclasses.replace(_PAPER, steps=10_000, search_steps=9, initial_c=1e-3, learning_rate=1e-2)
_L0 = dataclasses.replace(_PAPER, confidence=0.01, steps=1000, initial_c=1e-3, largest_c=2e6, learning_rate=1e-2)
_LBFGS = Settings(objective="f1", box="projected", confidence=0.0, steps=1000, search_steps=9, initial_c=1e-2)
_FAST = Settings(confidence=0.0, steps=300, starts=1, radius=0.0)
_LINF = dataclasses.replace(_PAPER, steps=1000, initial_c=1e-5, largest_c=20.0, learning_rate=5e-3)

ATTACKS = {
    "l2": Kind(make=_searching(cw.l2), norm="l2", own=_L2),
    "l1": Kind(make=_searching(cw.l1), norm="l1", own=_L2),
    "l0": Kind(make=_shrinking(cw.l0, cw.shrink_mask), norm="l0", own=_L0),
    "linf": Kind(make=_shrinking(cw.linf, cw.shrink_tau), norm="linf", own=_LINF),
    "lbfgs": Kind(make=_searching(cw.lbfgs), norm="l2", own=dataclasses.replace(_LBFGS, starts=1, radius=0.0)),
    "fast_l2": Kind(make=cw.fast_l2, norm="l2", own=dataclasses.replace(_FAST, objective="f6", box="projected")),
    "fast_l1": Kind(make=_fast(cw.fast_l1), norm="l1", own=_FAST),
    "fast_linf": Kind(make=_fast(cw.fast_linf), norm="linf", own=_FAST),
    "fast_l0": Kind(make=_fast(cw.fast_l0, distance=cw.distances.l0()), norm="l0", own=_FAST),
}
"""By name, with the numbers of the released code where it has them."""

_NUMBERS = {"confidence", "steps", "search_steps", "initial_c", "largest_c", "learning_rate", "radius"}  # traced
_CHOICES: dict[str, Mapping[str, Any]] = {"objective": cw.OBJECTIVES, "box": cw.BOXES, "optimizer": cw.OPTIMIZERS}
_LIMITS: dict[str, dict[str, Any]] = {
    "confidence": {"least": 0},
    "steps": {"least": 1},
    "search_steps": {"least": 1},
    "initial_c": {"least": 1e-30, "most": 1e30},  # neither zero nor infinite in float32
    "learning_rate": {"least": 0, "above": True},
    "starts": {"least": 1, "most": 1000},
    "radius": {"least": 0},
}


def resolved(attacks: Sequence[str], settings: Settings) -> dict[str, Settings]:
    """For every attack named, the value of each setting that it has: the one given, or else its own.

    Of several attacks, each takes those of the settings given that it has; a line says which have to do without.

    Raises:
      ValueError: an attack, objective, box or optimiser that is unknown; an attack named twice; a setting that none of
        the attacks has; a number out of range.
    """
    for name in attacks:
        _check_choice("attack", name, ATTACKS)
    if len(set(attacks)) != len(attacks) or not attacks:
        raise ValueError(f"--attack takes one name or several different ones, got {' '.join(attacks) or 'none'}")
    given = _given(settings)
    for setting in given:
        lacking = [name for name in attacks if setting not in _given(ATTACKS[name].own)]
        having = [name for name in attacks if name not in lacking]
        if not having:
            known = {_flag(name): None for attack in attacks for name in _given(ATTACKS[attack].own)}
            raise ValueError(
                f"{_flag(setting)} is no setting of {' or '.join(attacks)}, which takes {', '.join(known)}"
            )
        if lacking:
            say(f"{_flag(setting)} goes to {' and '.join(having)} alone: it is no setting of {' or '.join(lacking)}.")
    complete = {}
    for name in attacks:
        own = _given(ATTACKS[name].own)
        complete[name] = Settings(**own | {setting: value for setting, value in given.items() if setting in own})
        _check(complete[name])
    return complete


def attack_of(name: str, settings: Settings, **numbers: Any) -> Attack:
    """The attack with settings that `resolved` has completed; numbers given beside them may be traced."""
    parts = _given(settings) | numbers
    starts, radius = parts.pop("starts"), parts.pop("radius")
    if "objective" in parts:
        parts["objective"] = cw.OBJECTIVES[parts["objective"]](parts.pop("confidence"))
    if "box" in parts:
        parts["box"] = cw.BOXES[parts["box"]]()
    if "optimizer" in parts:
        parts["optimizer"] = cw.OPTIMIZERS[parts["optimizer"]](parts.pop("learning_rate"))
    attack = ATTACKS[name].make(**parts)
    return cw.restarted(attack, starts, radius) if starts > 1 else attack


def _given(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(settings).items() if value is not None}


def _split(settings: Settings) -> tuple[Settings, dict[str, Any]]:
    """The settings without their numbers, which decide the program, and the numbers, which are its arguments."""
    fixed = _given(settings)
    numbers = {setting: fixed.pop(setting) for setting in _NUMBERS & fixed.keys()}
    return Settings(**fixed), numbers


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def _check_choice(what: str, name: str, choices: Mapping[str, Any]) -> None:
    if name not in choices:
        raise ValueError(f"unknown {what} {name!r}: choose one of {', '.join(choices)}")


def _check(settings: Settings) -> None:
    """Raises ValueError, naming the setting, where one is out of range."""
    given = _given(settings)
    for setting in given.keys() & _CHOICES.keys():
        _check_choice(setting, given[setting], _CHOICES[setting])
    for setting in [name for name in _LIMITS if name in given]:
        check_number(_flag(setting), given[setting], **_LIMITS[setting])
    if "largest_c" in given:
        check_number("--largest-c", given["largest_c"], least=given["initial_c"], above=True)
    starts, radius = given["starts"], given["radius"]
    if (starts > 1) != (radius > 0):
        raise ValueError(f"--starts above 1 and a --radius above 0 go together: got {starts} and {radius:g}")
    if given["steps"] * given.get("search_steps", 1) * starts >= 2**31:
        factors = [f"{_flag(name)} {given[name]}" for name in ("steps", "search_steps", "starts") if name in given]
        raise ValueError(f"{' times '.join(factors)} is beyond counting")


def run(
    model: Model,
    dataset: Dataset,
    attack: str,
    settings: Settings = Settings(),
    *,
    targets: Targets,
    seed: int = 0,
    width: int | Literal["auto"] = "auto",
    precision: str = "highest",
    rounded: bool = False,
    checks: bool = False,
) -> Attacked:
    """Attacks every example of the data set, with progress.

    Args:
      model: takes images in [0, 1].
      dataset: the examples.
      attack: a name in ATTACKS.
      settings: the attack's.
      targets: see `rows_of`; with "best" and "worst" only each example's easiest or hardest target is kept.
      seed: of the targets drawn and of the attack.
      width: rows attacked at once, see `cwjax.streamed`.
      precision: of the search, see `cwjax.verified`. If it is not "highest", what the second look found is in three
        more columns.
      rounded: whether the results are to have 8-bit pixels, see `cwjax.discretised`. What that cost is in four
        more columns.
      checks: whether to ask if the numbers can be believed, before any rounding; see `cwjax.diagnose`.

    Raises:
      ValueError: settings, images, labels or model that `resolved` or `cwjax.validate` refuse.
    """
    settings = resolved((attack,), settings)[attack]
    if width != "auto":
        check_number("--width", width, least=1)
    check_count("--seed", seed, least=0, most=2**32 - 1)
    cw.validate(cw.in_precision(model, "highest"), dataset.images, cw.untargeted(dataset.labels))
    say(f"{attack} attack: {', '.join(f'{setting} {value}' for setting, value in _given(settings).items())}")
    # How long an attack takes is not known beforehand, so its progress is in rows that ended.
    total = len(rows_of(dataset, targets, seed=seed).place)
    with progress(f"{attack} attack: rows finished", total, every=10.0) as report:
        seen = 0

        def watch(status: cw.Status) -> None:
            nonlocal seen
            new, seen = status.finished - seen, status.finished
            report(new, f"{status.forwards:,} gradient steps, {status.found} succeeded so far")

        return results(
            model,
            dataset,
            attack,
            settings,
            targets=targets,
            seed=seed,
            width=width,
            precision=precision,
            rounded=rounded,
            watch=watch,
            checks=checks,
        )


def results(
    model: Model,
    dataset: Dataset,
    attack: str,
    settings: Settings,
    *,
    targets: Targets,
    seed: int,
    width: int | Literal["auto"],
    precision: str,
    rounded: bool,
    watch: Callable[[cw.Status], Any],
    room: int | None = None,
    checks: bool = False,
) -> Attacked:
    """What `run` returns, with its arguments; but nothing is checked, and nothing is said.

    An example that the model answers with NaN is a row with `finite` False. A row's random key and target depend on the
    seed and its example alone, not on the other examples of the data set.

    `settings` are complete, as `resolved` makes them. `watch` is told after every turn, see `cwjax.streamed`. `room` is
    a number of examples, at least as many as there are: runs that make room for equally many share their programs, and
    each repeats itself bit by bit on one machine. None: neither.
    """
    rows = rows_of(dataset, targets, seed=seed)
    keys, goal, clean = keys_of(dataset, rows, seed=seed), rows.goal(), dataset.images[rows.place]
    highest, (fixed, numbers) = cw.in_precision(model, "highest"), _split(settings)
    count = len(clean)
    extra = 0 if room is None else (room - len(dataset.labels)) * count // len(dataset.labels)

    def search(model: Model) -> Result:
        runner = _runner(attack, fixed, width, tuple(local_devices()), room is not None)
        result = runner(model, *_with(extra, keys, clean, goal), watch=watch, **numbers)
        return jax.tree.map(lambda leaf: leaf[:count], result)

    parts = {
        "confidence": settings.confidence,
        "objective": settings.objective or "f6",
        "norm": ATTACKS[attack].norm,
    }
    columns: dict[str, Any] = {}
    began = time.monotonic()
    with compiling.timed() as compiled:
        if precision == "highest":
            result = search(highest)
        else:
            claimed = search(cw.in_precision(model, precision))
            result, second = _verified(model, clean, goal, claimed, **parts)
            columns |= {"claimed_success": second.claimed, "claimed_distance": second.distance, "looks": second.looks}
        jax.block_until_ready(result)
    seconds = {"compile": sum(compiled), "attack": time.monotonic() - began - sum(compiled)}
    diagnosis = diagnosed(highest, attack, settings, clean, goal, result, seed=seed) if checks else None
    if diagnosis:
        seconds["checks"] = diagnosis.cost.seconds
    if rounded:
        began = time.monotonic()
        result, cost = jax.block_until_ready(_discretised(highest, clean, goal, result, **parts))
        columns |= {"unrounded_success": cost.success, "unrounded_distance": cost.distance}
        columns |= {"rounded_success": cost.rounded, "repairs": cost.repairs}
        seconds["rounding"] = time.monotonic() - began

    result, columns = jax.tree.map(np.asarray, (result, columns))
    adversarial = result.x
    table = table_of(highest, dataset, attack, rows, goal, clean, adversarial, result, columns)
    if targets in ("best", "worst"):
        table, kept = extreme(table, worst=targets == "worst")
        clean, adversarial = clean[kept], adversarial[kept]
    return Attacked(attack, dataclasses.asdict(settings), table, clean, adversarial, seconds, diagnosis)


def diagnosed(
    model: Model, attack: str, settings: Settings, x: np.ndarray, goal: cw.Goal, result: Result, *, seed: int
) -> cw.Diagnosis:
    """What `cwjax.diagnose` says of an attack by name, with twice its steps for the longer one.

    Args:
      model: in the precision that is believed.
      attack: a name in ATTACKS.
      settings: complete, as `resolved` makes them. Runs that differ in numbers alone share their programs.
      x: the clean images [B, *S].
      goal: fields [B].
      result: of the attack on them.
      seed: of the subset, the noise and the attack's own randomness.
    """
    fixed, numbers = _split(settings)
    return cw.diagnose(
        model,
        _maker(attack, fixed),
        x,
        goal,
        result,
        jax.random.fold_in(jax.random.key(seed), 1),
        numbers=numbers,
        longer=numbers | {"steps": 2 * numbers["steps"]},
        norm=ATTACKS[attack].norm,
        confidence=numbers["confidence"],
        box=_box(settings.box) if settings.box else None,
        largest_c=settings.largest_c,
    )


@functools.cache
def _maker(name: str, fixed: Settings) -> Callable[..., Attack]:
    """The attack as a function of its numbers: the same one every time, so that it compiles once."""
    return functools.partial(attack_of, name, fixed)


@functools.cache
def _box(name: str) -> cw.Box:
    return cw.BOXES[name]()


@functools.cache
def _runner(
    name: str, fixed: Settings, width: int | Literal["auto"], devices: tuple[Any, ...], repeatable: bool
) -> Runner:
    """The attack on a queue of examples. Its numbers are arguments: a sweep over them compiles once in a process."""
    mesh = Mesh(np.asarray(devices), ("devices",))
    return cw.streamed(_maker(name, fixed), width=width, mesh=mesh, repeatable=repeatable)


def _with(extra: int, keys: jax.Array, x: np.ndarray, goal: cw.Goal) -> tuple[jax.Array, jax.Array, cw.Goal]:
    """The queue with so many rows more, of NaN: an attack gives such a row up at its first step."""
    places = np.concatenate([np.arange(len(x)), np.zeros(extra, int)])
    keys, x, goal = jax.tree.map(lambda leaf: leaf[places], (keys, x, goal))
    x[len(x) - extra :] = np.nan
    return keys, jnp.asarray(x), goal


def _ingredients(confidence: Any, objective: str, norm: str) -> dict[str, Any]:
    return {"objective": cw.OBJECTIVES[objective](confidence), "distance": cw.DISTANCES[norm]}


@functools.partial(jax.jit, static_argnames=("objective", "norm"))
def _verified(model, x, goal, result, *, confidence, objective, norm):
    look = cw.verified(lambda *_: result, **_ingredients(confidence, objective, norm))
    return look(model, jax.random.split(jax.random.key(0), len(x)), x, goal)


@functools.partial(jax.jit, static_argnames=("objective", "norm"))
def _discretised(model, x, goal, result, *, confidence, objective, norm):
    look = cw.discretised(lambda *_: result, **_ingredients(confidence, objective, norm))
    return look(model, jax.random.split(jax.random.key(0), len(x)), x, goal)
