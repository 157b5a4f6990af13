"""A sweep of seconds, on the 100 photographs of the zoo, and workers that are killed or crowded."""

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
import numpy as np

import cwjax as cw
from cwjax.lab.sweeps import grid, results, units, working

HERE = "tests.lab.sweeps.small"
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
    checks=False,
)

_OPERATIONS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}


def long(short: int, full: int) -> int:
    """How often a fault is tried: `full` times where $CWJAX_FAULTS is set."""
    return full if os.environ.get("CWJAX_FAULTS") else short


def affine() -> cw.Model:
    """Ten classes of the mean colours in a 4×4 raster."""
    return _model(-1.0)


def poisoned() -> cw.Model:
    """The same, but NaN for photographs whose first pixel is dark."""
    return _model(DARK)


def _model(dark: float) -> cw.Model:
    kernel = np.random.default_rng(0).normal(size=(48, 10)).astype(np.float32)
    return cw.bind(_apply, (jnp.asarray(kernel), jnp.float32(dark)))


def _apply(params, x):
    kernel, dark = params
    logits = 4 * x.reshape(len(x), 4, 8, 4, 8, 3).mean((2, 4)).reshape(len(x), 48) @ kernel
    return jnp.where(x[:, 0, 0, :1] < dark, jnp.nan, logits)


def planned(sweep: grid.Sweep = SWEEP) -> units.Plan:
    """Its units."""
    return units.plan(grid.read(None, sweep))


def finished(folder: Path, plan: units.Plan) -> bytes:
    """The final table of a sweep whose units are done."""
    results.record(plan, folder)
    assert results.write(folder).units == 0
    return (folder / results.TABLE).read_bytes()


def worker(folder: Path, todo: Sequence[units.Unit]) -> None:
    """A process that works until nothing is left."""
    quick(folder)
    working.work(folder, todo)


def interruptible(folder: Path, todo: Sequence[units.Unit]) -> None:
    """A worker that Ctrl-C reaches, also where a shell started the tests in the background, which makes it deaf."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    worker(folder, todo)


def doomed(folder: Path, todo: Sequence[units.Unit], seed: int) -> None:
    """A worker that is killed just before one of the first changes it makes to the sweep's files, drawn at random."""
    quick(folder)
    left = random.Random(seed).randrange(30)

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        reading = event == "open" and arguments[1] in ("r", "rb")
        if event in _OPERATIONS and not reading and str(arguments[0]).startswith(str(folder)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    working.work(folder, todo)


def processes() -> Any:
    """Processes that begin with everything imported, and nothing computed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([HERE])
    return context


def quick(folder: Path) -> None:
    """Programs are compiled without optimisations and once for all workers."""
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(folder.parent / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_logging_level", "CRITICAL")
