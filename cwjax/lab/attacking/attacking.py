"""Attack some images of a data set towards some targets: the loop, the second looks and the checks."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import local_devices
from jax.sharding import Mesh

import cwjax as cw
from cwjax.arguments import check_count, check_number
from cwjax.base import Attack, Goal, Result, Runner
from cwjax.lab.attacking import judging
from cwjax.lab.attacking.presets import Settings, attack_of, given, resolved, split
from cwjax.lab.attacking.request import Request
from cwjax.lab.attacking.rows import Attacked, extreme, keys_of, rows_of, table_of
from cwjax.lab.console.progress import progress, say
from cwjax.lab.data import Dataset
from cwjax.lab.data.features import Features
from cwjax.lab.files import compiling
from cwjax.models import Model
from cwjax.tasks import Task


def run(
    model: Model,
    dataset: Dataset,
    request: Request,
    *,
    width: int | Literal["auto"] = "auto",
    checks: bool = False,
    mask: np.ndarray | None = None,
) -> Attacked:
    """Attacks every example of the data set, with progress.

    Args:
      model: takes images in [0, 1].
      dataset: the examples.
      request: what to do. If its precision is not "highest", what the second look found is in three more columns; if
        its results are rounded, what that cost is in four; if changes are undone, what that came to is in three.
      width: rows attacked at once, see `cwjax.streamed`.
      checks: whether to ask if the numbers can be believed, before any rounding; see `cwjax.diagnose`.
      mask: boolean, broadcasts to an image: which elements may change, see `cwjax.batched`. None: all.

    Raises:
      ValueError: settings, images, labels or model that `resolved` or `cwjax.validate` refuse.
    """
    attack = request.attack
    settings = resolved((attack,), request.settings, dataset.task)[attack]
    if width != "auto":
        check_number("--width", width, least=1)
    check_count("--seed", request.seed, least=0, most=2**32 - 1)
    judging.validate(cw.in_precision(model, "highest"), dataset, mask)
    say(f"{attack} attack: {', '.join(f'{setting} {value}' for setting, value in given(settings).items())}")
    # How long an attack takes is not known beforehand, so its progress is in rows that ended.
    total = len(rows_of(dataset, request.targets, seed=request.seed).place)
    with contextlib.ExitStack() as shown:
        what = f"{attack} attack: rows finished"
        report, seen = shown.enter_context(progress(what, total, every=10.0, first="compiling the attack")), 0

        def watch(status: cw.runners.Status) -> None:
            nonlocal seen
            new, seen = status.finished - seen, status.finished
            report(new, f"{status.forwards:,} gradient steps{_early(settings, status)}{_successes(status)}")

        def checking(name: str, place: int, of: int) -> None:
            nonlocal report
            if not place:
                shown.close()  # the bar of the rows
                report = shown.enter_context(progress(f"{attack} attack: checks", of, first=_COMPILING))
            report(int(place > 0), name.replace("_", " "))

        attacked = compute(
            model,
            dataset,
            dataclasses.replace(request, settings=settings),
            width=width,
            watch=watch,
            checks=checks,
            checking=checking,
            mask=mask,
        )
        if checks:
            report()  # the last of them has ended
    return attacked


_COMPILING = "compiling the checks, about as long as the attack (--no-checks leaves them out)"


def _early(settings: Settings, status: cw.runners.Status) -> str:
    """That rows ended before their steps were spent, to go behind the steps of an attack that has ended; else empty."""
    if settings.search_steps is None or settings.largest_c is not None or status.finished < status.total:
        return ""  # without a search over c, every step is spent; what shrinks its problem has no such bound
    most = status.total * int(settings.steps or 0) * settings.search_steps * (settings.starts or 1)
    return f" of at most {most:,} (a row stops early where its loss no longer falls)" if status.forwards < most else ""


def _successes(status: cw.runners.Status) -> str:
    """How many rows have succeeded, to go behind other words; empty while nothing is known of any."""
    return f", {status.found} succeeded so far" if status.found or status.finished else ""


def compute(
    model: Model,
    dataset: Dataset,
    request: Request,
    *,
    width: int | Literal["auto"],
    watch: Callable[[cw.runners.Status], Any],
    room: int | None = None,
    checks: bool = False,
    checking: Callable[[str, int, int], Any] = lambda name, place, of: None,
    mask: np.ndarray | None = None,
) -> Attacked:
    """What `run` returns, with its arguments; but nothing is checked, and nothing is said.

    An example that the model answers with NaN is a row with `finite` False. A row's random key and target depend on the
    seed and its example alone, not on the other examples of the data set.

    The settings of `request` are complete. `watch` is told after every turn, see `cwjax.streamed`. `room` is
    a number of examples, at least as many as there are: runs that make room for equally many share their programs.
    `checking` is told before every check, see `cwjax.diagnose`.
    A run repeats itself bit by bit on one machine.
    """
    rows = rows_of(dataset, request.targets, seed=request.seed)
    keys, clean, task = keys_of(dataset, rows, seed=request.seed), dataset.images[rows.place], dataset.task
    goal = judging.goals_of(dataset, rows.place) if task else rows.goal()
    context = judging.context_of(dataset, rows.place)
    mask, bounds = judging.mask_of(dataset, mask, rows.place), judging.bounds_of(dataset, rows.place)
    features = dataset.features
    highest, (fixed, numbers) = cw.in_precision(model, "highest"), split(request.settings)
    count = len(clean)
    extra = 0 if room is None else (room - len(dataset.labels)) * count // len(dataset.labels)

    def search(model: Model) -> Result:
        runner = _runner(request.attack, fixed, task, features, width, tuple(local_devices()))
        own = mask if dataset.own_masks else None
        *queue, (told, masks, low) = _with(extra, keys, clean, goal, (context, own, bounds.get("low")))
        ends = bounds | ({"low": low} if bounds else {})
        masks = mask if own is None else masks
        result = runner(model, *queue, watch=watch, mask=masks, context=told, **ends, **numbers)
        return jax.tree.map(lambda leaf: leaf[:count], result)

    made = {"name": request.attack, "fixed": fixed, "task": task, "features": features, "numbers": numbers}
    allowed: dict[str, Any] = {"mask": mask, "context": context} | bounds
    columns: dict[str, Any] = {}
    began = time.monotonic()
    with compiling.timed() as compiled:
        if request.precision == "highest":
            result = search(highest)
        else:
            claimed = search(cw.in_precision(model, request.precision))
            result, second = _verified(model, clean, goal, claimed, allowed=allowed, **made)
            columns |= {"claimed_success": second.claimed, "claimed_distance": second.distance, "looks": second.looks}
        jax.block_until_ready(result)
    seconds = {"compile": float(sum(compiled)), "attack": time.monotonic() - began - sum(compiled)}
    diagnosis = None
    if checks:
        index = dataset.index[rows.place]
        with compiling.timed() as compiled:
            told: dict[str, Any] = {"features": features, "index": index, "watch": checking}
            diagnosis = diagnosed(highest, request, clean, goal, result, task, **told, **allowed)
        seconds |= {"checks": diagnosis.cost.seconds, "compiling of the checks": float(sum(compiled))}
    on_levels = features is not None and features.lattice is not None
    if request.rounded or on_levels:
        began, look = time.monotonic(), _snapped if on_levels else _discretised
        result, cost = jax.block_until_ready(look(highest, clean, goal, result, allowed=allowed, **made))
        columns |= {"unrounded_success": cost.success, "unrounded_distance": cost.distance}
        columns |= {"rounded_success": cost.rounded, "repairs": cost.repairs}
        seconds["rounding"] = time.monotonic() - began
    if request.restored:
        began = time.monotonic()
        result, spared = jax.block_until_ready(_restored(highest, clean, goal, result, allowed=allowed, **made))
        columns |= {"unrestored_distance": spared.distance, "changed": spared.changed, "undone": spared.undone}
        seconds["restoring"] = time.monotonic() - began

    result, columns = jax.tree.map(np.asarray, (result, columns))
    adversarial = result.x
    table = table_of(highest, dataset, request.attack, rows, goal, clean, adversarial, result, columns)
    if request.targets in ("best", "worst"):
        table, kept = extreme(table, worst=request.targets == "worst")
        clean, adversarial = clean[kept], adversarial[kept]
    settings = dataclasses.asdict(request.settings)
    drawn = judging.drawn(highest, dataset, rows.place, clean, adversarial) if task else None
    return Attacked(request.attack, settings, table, clean, adversarial, seconds, diagnosis, drawn)


def diagnosed(
    model: Model,
    request: Request,
    x: np.ndarray,
    goal: Goal,
    result: Result,
    task: Task | None = None,
    *,
    features: Features | None = None,
    index: np.ndarray | None = None,
    watch: Callable[[str, int, int], Any] = lambda name, place, of: None,
    **allowed: Any,
) -> cw.evaluation.Diagnosis:
    """What `cwjax.diagnose` says of an attack by name, with twice its steps for the longer one.

    Args:
      model: in the precision that is believed.
      request: the attack's, its settings complete. Runs that differ in numbers alone share their programs. Its seed is
        that of the subset, the noise and the attack's own randomness.
      x: the clean images [B, *S].
      goal: fields [B].
      result: of the attack on them.
      task: whose goals they are; None: the goals are of labels.
      features: what the inputs are; None: images. The check of 8-bit values is then about them alone, and is left out.
      index: int64 [B]: the place of every image in its source; by default that in x.
      watch: is told before every check, see `cwjax.diagnose`.
      **allowed: `mask`, `context` and bounds, as the runner took them.
    """
    fixed, numbers = split(request.settings)
    diagnosis = cw.diagnose(
        model,
        _maker(request.attack, fixed, task, features),
        x,
        goal,
        result,
        jax.random.fold_in(jax.random.key(request.seed), 1),
        numbers=numbers,
        longer=numbers | {"steps": 2 * numbers["steps"]},
        largest_c=request.settings.largest_c,
        settings=given(request.settings),
        name=request.attack,
        index=index,
        watch=watch,
        **allowed,
    )
    if features is None:
        return diagnosis
    return diagnosis._replace(checks={name: each for name, each in diagnosis.checks.items() if name != _OF_BYTES})


_OF_BYTES = "lost_by_rounding"  # the check that asks about 8-bit values


def forget() -> None:
    """Lets go of every compiled program."""
    _runner.cache_clear()
    jax.clear_caches()


@functools.cache
def _maker(name: str, fixed: Settings, task: Task | None, features: Features | None = None) -> Callable[..., Attack]:
    """The attack as a function of its numbers: the same one every time, so that it compiles once."""
    return functools.partial(attack_of, name, fixed, task, features)


@functools.cache
def _runner(
    name: str,
    fixed: Settings,
    task: Task | None,
    features: Features | None,
    width: int | Literal["auto"],
    devices: tuple[Any, ...],
) -> Runner:
    """The attack on a queue of examples. Its numbers are arguments: a sweep over them compiles once in a process."""
    mesh = Mesh(np.asarray(devices), ("devices",))
    return cw.streamed(_maker(name, fixed, task, features), width=width, mesh=mesh, repeatable=True)


def _with(extra: int, keys: jax.Array, x: np.ndarray, goal: Goal, context: Any) -> tuple[jax.Array, Any, Goal, Any]:
    """The queue with its first row `extra` more times: runners refuse rows that are no inputs, such as NaN."""
    places = np.concatenate([np.arange(len(x)), np.zeros(extra, int)])
    keys, x, goal, context = jax.tree.map(lambda leaf: leaf[places], (keys, x, goal, context))
    return keys, jnp.asarray(x), goal, context


_LOOK = ("name", "fixed", "task", "features")  # static


def _look(wrap: Callable[..., Any], model, x, goal, result, *, name, fixed, task, features, numbers, allowed):
    """What wraps a runner, on a result that an attack has found already."""
    look = wrap(lambda *_, **__: result, terms=attack_of(name, fixed, task, features, **numbers).terms)
    return look(model, jax.random.split(jax.random.key(0), len(x)), x, goal, **allowed)


@functools.partial(jax.jit, static_argnames=_LOOK)
def _verified(model, x, goal, result, **made):
    return _look(cw.verified, model, x, goal, result, **made)


@functools.partial(jax.jit, static_argnames=_LOOK)
def _discretised(model, x, goal, result, *, allowed, **made):
    return _look(cw.discretised, model, x, goal, result, allowed={"context": allowed["context"]}, **made)


@functools.partial(jax.jit, static_argnames=_LOOK)
def _restored(model, x, goal, result, *, allowed, **made):
    return _look(cw.restored, model, x, goal, result, allowed={"context": allowed["context"]}, **made)


@functools.partial(jax.jit, static_argnames=_LOOK)
def _snapped(model, x, goal, result, *, features, **made):
    wrap = functools.partial(cw.runners.snapped, lattice=features.lattice)
    return _look(wrap, model, x, goal, result, features=features, **made)
