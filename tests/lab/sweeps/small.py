"""A sweep of seconds: two small models on the 100 photographs of the zoo, and workers that are killed or crowded."""

import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import cwjax as cw
from cwjax.lab.sweeps import grid, units, working

HERE = "tests.lab.sweeps.small"
TRIES = int(os.environ.get("CWJAX_FAULTS", "4"))  # kills; the long version is CWJAX_FAULTS=100


def affine() -> cw.Model:
    """Ten classes of the mean colours in a 4×4 raster."""
    kernel = jax.random.normal(jax.random.key(0), (48, 10))

    def apply(params, x):
        return 4 * x.reshape(len(x), 4, 8, 4, 8, 3).mean((2, 4)).reshape(len(x), 48) @ params

    return cw.bind(apply, kernel)


def poisoned() -> cw.Model:
    """The same, but NaN for photographs whose first pixel is dark."""
    model = affine()

    def apply(params, x):
        return jnp.where(x[:, 0, 0, :1] < DARK, jnp.nan, model.apply(params, x))

    return cw.bind(apply, model.params)


DARK = 0.15

SWEEP = grid.Sweep(
    model=(f"{HERE}:affine",),
    data=("cifar10_sample",),
    attack=("fast_l2",),
    targets=("random",),
    confidence=(0.0, 1.0, 2.0),
    steps=(10,),
    examples=26,
    chunk=5,
)


def planned(sweep: grid.Sweep = SWEEP) -> units.Plan:
    """Its units."""
    return units.plan(grid.read(None, sweep))


def worker(folder: Path, todo: Sequence[units.Unit]) -> None:
    """A process that works until nothing is left."""
    working.work(folder, todo)


def doomed(folder: Path, todo: Sequence[units.Unit], seed: int) -> None:
    """A worker that is killed just before one of the first operations on the sweep's files, drawn at random."""
    left = random.Random(seed).randrange(60)

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in _OPERATIONS and any(str(folder) in str(argument) for argument in arguments):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    working.work(folder, todo)


_OPERATIONS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "shutil.rmtree", "os.listdir"}


def processes() -> Any:
    """Processes that begin with everything imported, and nothing computed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([HERE])
    return context
