"""What a sweep may cost, before it is run: gradients at the most, and the time that they take here."""

import functools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.lab.presets import Settings
from cwjax.lab.rows import rows_of
from cwjax.lab.sweeps import units
from cwjax.lab.sweeps.units import Unit

_BATCH, _TIMES = 64, 3  # images at once, and how often, when a gradient's time is taken


def gradients(unit: Unit) -> int | None:
    """The most gradients that the unit can take; None where nothing bounds them but the attack's own end."""
    configuration = unit.configuration
    rows = len(rows_of(units.examples_of(unit), configuration.targets, seed=configuration.seed).place)
    each = _each(configuration.settings)
    return None if each is None else rows * each


def _each(settings: Settings) -> int | None:
    """Of one row. What shrinks its problem (l0, linf) goes on as long as it succeeds."""
    if settings.largest_c is not None:
        return None
    return int(settings.steps or 0) * (settings.search_steps or 1) * (settings.starts or 1)


@functools.cache
def seconds(model: str, data: str, folder: Path | None) -> float:
    """Of one gradient of one image, measured in a batch."""
    dataset, network = units.data_named(data, folder), cw.in_precision(units.model_named(model).value, "highest")
    places = np.arange(_BATCH) % len(dataset.labels)
    x, goal = jnp.asarray(dataset.images[places]), cw.untargeted(dataset.labels[places])

    @cw.canonical
    def slope(model, x, goal):
        return jax.grad(lambda x: cw.margin(model(x), goal))(x)

    run = jax.jit(jax.vmap(slope, in_axes=(None, 0, 0)))
    jax.block_until_ready(run(network, x, goal))
    began = time.monotonic()
    for _ in range(_TIMES):
        jax.block_until_ready(run(network, x, goal))
    return (time.monotonic() - began) / (_TIMES * _BATCH)
