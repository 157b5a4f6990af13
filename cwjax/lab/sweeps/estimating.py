"""What a sweep may cost: gradients at the most, and the time that it takes, before it is run and while it runs.

A unit spends time on three things, and they are counted apart: its rows, the compiling of its programs (once in a
process for units that share them), and its checks. What is known of units that are done comes first. Before any is, one
gradient and one program of the model are timed here, and the rest are counts of those.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.lab.attacking import judging
from cwjax.lab.attacking.presets import Settings, split
from cwjax.lab.files import compiling
from cwjax.lab.sweeps import units
from cwjax.lab.sweeps.units import Unit

CHECKS = "compiling of the checks"
"""The key of a unit's facts, and of an attack's seconds."""

_BATCH, _TIMES = 64, 3  # images at once, and how often, when a gradient's time is taken
# What compiling an attack and its checks takes, in compilations of one gradient of the model: processor time of fast_l2
# on the zoo's digit network. Kept programs take a tenth.
_ATTACK, _CHECKS = 10, 27
_CHECK_FORWARDS = 4 * 1000 + 8 * 100 + 8 * 4 * 20  # noise around four images and around eight, and PGD on eight


def rows(unit: Unit) -> int:
    """How many rows the unit attacks: its examples, or each towards every wrong class."""
    configuration = unit.configuration
    every = configuration.targets in ("best", "worst", "all")
    classes = len(units.data_named(configuration.data, unit.data_folder).classes) if every else 2
    return (unit.stop - unit.start) * (classes - 1)


def gradients(unit: Unit) -> int | None:
    """The most gradients that the unit can take; None where nothing bounds them but the attack's own end."""
    settings = unit.configuration.settings
    return None if settings.largest_c is not None else rows(unit) * _steps(settings)


def _steps(settings: Settings) -> int:
    """Of one row at the most; of what shrinks its problem (l0, linf), which goes on as long as it succeeds, of one
    weight c.
    """
    return int(settings.steps or 0) * (settings.search_steps or 1) * (settings.starts or 1)


def program(unit: Unit) -> tuple:
    """What decides which programs a unit compiles: units with the same share them."""
    asked = unit.configuration
    fixed = tuple(dataclasses.asdict(split(asked.settings)[0]).values())
    many = asked.targets in ("best", "worst", "all")
    return (
        asked.model,
        asked.data,
        asked.attack,
        fixed,
        asked.precision,
        many,
        asked.rounded,
        asked.restored,
        unit.chunk,
    )


class Spent(NamedTuple):
    """The seconds of a unit."""

    work: float  # on its rows
    compiling: float  # of the attack
    checks: float  # without their compiling
    compiling_checks: float

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Spent | None":
        """Those that a unit's facts tell; None where they tell none."""
        if "seconds" not in facts:
            return None
        compiled, checks, of_checks = (float(facts.get(name, 0.0)) for name in ("compiling", "checks", CHECKS))
        return cls(max(float(facts["seconds"]) - compiled - checks - of_checks, 0.0), compiled, checks, of_checks)


def seconds_left(
    todo: Iterable[Unit],
    done: Sequence[tuple[Unit, Spent]],
    *,
    here: Iterable[Unit] = (),
    guess: Callable[[Unit], Spent] | None = None,
) -> dict[str, float] | None:
    """The seconds that each unit is going to take, by its digest, in this order; None where nothing is known.

    Args:
      todo: units that are not done.
      done: units that are, and what they spent.
      here: those that this process did, whose programs need no compiling any more.
      guess: what a unit may spend, for what no unit that is done tells.
    """
    here, left = list(here), {}
    compiled, checked = {program(unit) for unit in here}, {program(unit) for unit in here if unit.checks}
    for unit in todo:
        spent = _expected(unit, done, guess)
        if spent is None:
            return None
        seconds, own = spent.work, program(unit)
        if own not in compiled:
            seconds += spent.compiling
        if unit.checks:
            seconds += spent.checks + (spent.compiling_checks if own not in checked else 0.0)
            checked.add(own)
        compiled.add(own)
        left[unit.digest] = seconds
    return left


def _expected(unit: Unit, done: Sequence[tuple[Unit, Spent]], guess: Callable[[Unit], Spent] | None) -> Spent | None:
    """What a unit may spend, after the nearest ones that are done."""
    if not done:
        return guess(unit) if guess else None
    near = _nearest(unit, done)
    work = sum(spent.work for _, spent in near) * _size(unit) / max(sum(_size(one) for one, _ in near), 1)
    checked = _nearest(unit, [(one, spent) for one, spent in done if one.checks])
    unknown = guess(unit) if guess and unit.checks and not checked else Spent(0.0, 0.0, 0.0, 0.0)
    return Spent(
        work,
        max(spent.compiling for _, spent in near),
        sum(spent.checks for _, spent in checked) / len(checked) if checked else unknown.checks,
        max((spent.compiling_checks for _, spent in checked), default=unknown.compiling_checks),
    )


def _nearest(unit: Unit, done: Sequence[tuple[Unit, Spent]]) -> Sequence[tuple[Unit, Spent]]:
    """Those of the units that share the unit's programs; else that share its attack; else all."""
    alike = [each for each in done if program(each[0]) == program(unit)]
    return alike or [each for each in done if each[0].configuration.attack == unit.configuration.attack] or done


def _size(unit: Unit) -> int:
    return rows(unit) * _steps(unit.configuration.settings)


def guess(unit: Unit) -> Spent:
    """What a unit may spend, from the time of one gradient and of one compilation here."""
    gradient, compilation = measured(unit.configuration.model, unit.configuration.data, unit.data_folder)
    followed = 3 * 8 * _steps(unit.configuration.settings)  # the attack, and one of twice the steps
    checks = gradient * (_CHECK_FORWARDS / 2 + followed) if unit.checks else 0.0
    return Spent(_size(unit) * gradient, _ATTACK * compilation, checks, _CHECKS * compilation)


@functools.cache
def measured(model: str, data: str, folder: Path | None) -> tuple[float, float]:
    """The seconds of one gradient of one image, in a batch, and those of compiling it."""
    dataset, network = units.data_named(data, folder), cw.in_precision(units.model_named(model).value, "highest")
    places = np.arange(_BATCH) % len(dataset.labels)
    x, loss = jnp.asarray(dataset.images[places]), cw.objectives.margin
    asked = (cw.untargeted(dataset.labels[places]), None)
    if task := dataset.task:
        asked = judging.entries_of((task.goal, task.context), dataset, places)
        loss = task.objective_of(hinged=False).loss

    @cw.runners.canonical
    def slope(model, x, asked):
        goal, context = asked
        return jax.grad(lambda x: loss(model(x, context), goal))(x)

    run = jax.jit(jax.vmap(slope, in_axes=(None, 0, 0)))
    with compiling.not_kept():
        began = time.monotonic()
        run = run.lower(network, x, asked).compile()
        compilation = time.monotonic() - began
    jax.block_until_ready(run(network, x, asked))
    began = time.monotonic()
    for _ in range(_TIMES):
        jax.block_until_ready(run(network, x, asked))
    return (time.monotonic() - began) / (_TIMES * _BATCH), compilation
