"""Timing as ratios: the contestants take turns within one run, so that a machine whose speed drifts slows them all
alike.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import cpuinfo
import jax

from cwjax.lab.files import environment


def interleaved(
    contestants: Mapping[str, Callable[[], object]], rounds: int, *, warmed: bool = False
) -> dict[str, list[float]]:
    """Seconds of each call, `rounds` of them for each contestant, in turn, after one call each that is not counted.

    With `warmed`, another such call stands before each that is counted. Calls of less than a millisecond need it: a
    contestant that follows one of much memory finds nothing in the processor's caches.
    """
    for call in contestants.values():
        jax.block_until_ready(call())
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            if warmed:
                jax.block_until_ready(call())
            began = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(above: list[float], below: list[float]) -> float:
    """The median over rounds of one contestant's seconds over another's."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def machine() -> str:
    """What it ran on, in one line."""
    what = environment.describe()
    name = cpuinfo.get_cpu_info().get("brand_raw", "unknown processor")
    versions = ", ".join(f"{package} {what[package]}" for package in ("python", "jax", "optax", "cwjax"))
    return f"{name}, {what['machine']}; {what['device']}; {versions}"
