"""Where the units are done: in this process, as tasks of a Ray cluster, or as jobs of Slurm.

All of them share the sweep's folder, which must lie on a file system that every machine sees.
"""

import dataclasses
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cwjax.arguments import check_number
from cwjax.lab.console.parsing import optional
from cwjax.lab.console.progress import say
from cwjax.lab.files import compiling
from cwjax.lab.sweeps import working
from cwjax.lab.sweeps.units import Unit
from cwjax.lab.sweeps.vault import Vault
from cwjax.lab.sweeps.watching import extra
from cwjax.lab.sweeps.working import Watcher

_LOOK = 2.0  # seconds between two looks at what others have done


@dataclasses.dataclass(frozen=True)
class Launch:
    """How to spread the units."""

    # local: in this process; ray: each a task of a Ray cluster; slurm: several jobs that share them (submitit)
    launcher: Literal["local", "ray", "slurm"] = "local"
    # ray: of a cluster, such as HEAD:6379 or auto, that this machine belongs to (its token, if it wants one, is in
    # $RAY_AUTH_TOKEN)
    address: Annotated[str | None, optional("STR", "a new cluster on this machine")] = None
    retries: int = 3  # ray: how often a task whose worker was lost is begun anew
    cpus: int = 1  # ray and slurm: cores of a task or job
    gpus: int = 0  # ray and slurm: GPUs of a task or job; without one, units are done on cores
    jobs: int = 8  # slurm: at the most
    minutes: int = 240  # slurm: of a job
    partition: Annotated[str | None, optional("STR", "the cluster's own")] = None  # slurm: where jobs wait
    cluster: Literal["slurm", "local"] = "slurm"  # slurm: local runs the jobs as processes of this machine


def check(settings: Launch) -> None:
    """Raises ValueError, naming the setting, where one is out of range."""
    for name, least in (("retries", 0), ("cpus", 1), ("gpus", 0), ("jobs", 1), ("minutes", 1)):
        check_number(f"--{name}", getattr(settings, name), least=least)


def launch(settings: Launch, folder: Path, todo: Sequence[Unit], watcher: Watcher) -> None:
    """Does all units somewhere, and returns when they are done or have failed.

    Args:
      settings: where.
      folder: of the sweep.
      todo: units.
      watcher: is told what becomes of them; of turns, only where they are done in this process.

    Raises:
      ValueError: a package is missing.
      working.Full: the disk is full.
      OSError: see `working.work`.
    """
    if settings.launcher == "local":
        working.work(folder, todo, watcher)
    elif left := _tell(Vault(folder), todo, {}, watcher):
        {"ray": _ray, "slurm": _slurm}[settings.launcher](settings, folder, left, watcher)


def _worker(folder: Path, todo: Sequence[Unit]) -> dict[str, str]:
    """What a machine of a cluster runs: the units, and why any of them failed."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not to be seen from here: a sweep's folder must be one that all machines share"
        )
    compiling.keep(compiling.folder())
    failures: dict[str, str] = {}
    working.work(folder, todo, Watcher(failed=lambda unit, why: failures.update({unit.digest: why})))
    return failures


def _ray(settings: Launch, folder: Path, todo: Sequence[Unit], watcher: Watcher) -> None:
    """One task a unit. Ray begins a task anew whose worker was lost."""
    ray = extra("ray", "ray")
    folder, vault, own = folder.resolve(), Vault(folder), not ray.is_initialized()
    if own:
        with warnings.catch_warnings():  # JAX's, of any fork; what Ray forks becomes another program at once
            warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
            ray.init(address=settings.address, log_to_driver=False, configure_logging=False)
    try:
        task = ray.remote(max_retries=settings.retries, num_cpus=settings.cpus, num_gpus=settings.gpus)(_worker)
        running = {task.remote(folder, [unit]): unit for unit in todo}
        while running:
            for ended in ray.wait(list(running), timeout=_LOOK)[0]:
                unit = running.pop(ended)
                try:
                    failures = ray.get(ended)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except ray.exceptions.RayError as error:  # its worker was lost once too often
                    failures = {unit.digest: f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
                _tell(vault, [unit], failures, watcher)
    finally:
        if own:
            ray.shutdown()


class _Job:
    """A worker that Slurm may cut off: what submitit then queues is the same again, which does what is left."""

    def __call__(self, folder: Path, todo: Sequence[Unit]) -> dict[str, str]:
        return _worker(folder, todo)

    def checkpoint(self, folder: Path, todo: Sequence[Unit]) -> Any:
        return extra("submitit", "slurm").helpers.DelayedSubmission(self, folder, todo)


def _slurm(settings: Launch, folder: Path, todo: Sequence[Unit], watcher: Watcher) -> None:
    """Several jobs, each of which does whatever no other is at. A job that is cut off is queued again."""
    submitit = extra("submitit", "slurm")
    folder, vault = folder.resolve(), Vault(folder)

    executor = submitit.AutoExecutor(folder=folder / "slurm", cluster=settings.cluster)
    executor.update_parameters(timeout_min=settings.minutes, cpus_per_task=settings.cpus, gpus_per_node=settings.gpus)
    if settings.partition:
        executor.update_parameters(slurm_partition=settings.partition)
    count = min(settings.jobs, len(todo))
    # Each begins at another place, so that few meet at a lease.
    starts = [len(todo) * i // count for i in range(count)]
    with executor.batch():
        jobs = [executor.submit(_Job(), folder, [*todo[start:], *todo[:start]]) for start in starts]
    say(f"{count} jobs: {', '.join(job.job_id for job in jobs[:8])}{', …' if count > 8 else ''}")
    try:
        _wait(jobs, vault, todo, watcher)
    finally:
        for job in jobs:
            if not job.done():  # still in the queue, or the sweep was stopped
                job.cancel()


def _wait(jobs: Sequence[Any], vault: Vault, todo: Sequence[Unit], watcher: Watcher) -> None:
    """Until every unit is done or its job is over, and no job is at work."""
    while True:
        over = all(job.done() for job in jobs)
        failures = {name: why for job in jobs if over for name, why in _outcome(job).items()}
        todo = _tell(vault, todo, failures, watcher)
        if over:
            _tell(vault, todo, {unit.digest: "its job was lost" for unit in todo}, watcher)
        if over or not (todo or any(job.state == "RUNNING" for job in jobs)):
            return
        time.sleep(_LOOK)


def _outcome(job: Any) -> dict[str, str]:
    """Why units of a job failed, that has ended."""
    error = job.exception()
    if error is None:
        return job.result()
    say(f"Job {job.job_id}: {' '.join(str(error).split())[-300:]}")
    return {}


def _tell(vault: Vault, todo: Sequence[Unit], failures: dict[str, str], watcher: Watcher) -> list[Unit]:
    """Tells of the units that are done or have failed; returns the others."""
    left = []
    for unit in todo:
        facts = vault.facts(unit.digest) if vault.has(unit.digest) else None
        if facts is not None:
            watcher.done(unit, facts)
        elif unit.digest in failures:
            watcher.failed(unit, failures[unit.digest])
        else:
            left.append(unit)
    return left
