"""What else a result depends on than the seed: by how much distances differ from one way to run an attack to another.

Claim: the same seed, machine and versions give the same bytes; batch, lanes and devices change no success, and
distances within rounding, but for examples that rounding leads to another minimum.

    python -m benchmarks.determinism                    # three minutes on 2 cores

Network and digits: the zoo's. Each attack runs once as `cwjax attack` runs it, and then in each of the other ways; told
are the share of the examples whose returned image is the same in every bit, and how far distances are apart.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.sharding import Mesh

import cwjax as cw
from benchmarks.timing import machine
from cwjax.lab import data, zoo

ATTACKS: dict[str, Callable[[], cw.Attack]] = {
    "fast_l2": lambda: cw.fast("l2", steps=100),
    "fast_linf": lambda: cw.fast("linf", steps=100),
    "l2": lambda: cw.l2(search=cw.search.binary_search(4, initial_c=1.0), steps=100),
    "linf": lambda: cw.linf(search=cw.search.shrink_tau(initial_c=0.1), steps=50),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    examples: int = 32  # digits
    model: str = "mnist_cnn"  # of the zoo
    attacks: tuple[str, ...] = tuple(ATTACKS)
    ways: tuple[str, ...] = ()  # those of WAYS; none: all, and new processes
    out: Path | None = None  # write the results there instead of the table


def _streamed(attack, work, width=16, mesh=None):
    return cw.streamed(attack, width=width, mesh=mesh, repeatable=True)(*work)


def _batched(attack, work, size):
    return jax.jit(cw.chunked(cw.batched(attack), size))(*work)


WAYS: dict[str, Callable[..., cw.Result]] = {
    "streamed": _streamed,
    "streamed again": _streamed,
    "4 lanes for 16": lambda attack, work: _streamed(attack, work, width=4),
    "all devices": lambda attack, work: _streamed(attack, work, mesh=Mesh(np.array(jax.devices()), ("devices",))),
    "one batch": lambda attack, work: _batched(attack, work, 10_000),
    "one at a time": lambda attack, work: _batched(attack, work, 1),
}


def results(arguments: Arguments, way: str) -> dict[str, Any]:
    """Images and distances of every attack, run in this way."""
    digits, count = data.load("mnist5k", "test"), arguments.examples
    model, goal = cw.in_precision(zoo.load(arguments.model).model, "highest"), cw.untargeted(digits.labels[:count])
    work = (model, jax.random.split(jax.random.key(0), count), jnp.asarray(digits.images[:count]), goal)
    found: dict[str, Any] = {}
    for name in arguments.attacks:
        result = WAYS[way](ATTACKS[name](), work)
        found |= {f"{name}/x": np.asarray(result.x), f"{name}/distance": np.asarray(result.distance)}
    return found


def elsewhere(arguments: Arguments, way: str, **environment: str) -> dict[str, Any]:
    """The same, by a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.npz"
        words = ["--examples", str(arguments.examples), "--model", arguments.model, "--attacks", *arguments.attacks]
        command = [sys.executable, "-m", "benchmarks.determinism", *words, "--ways", way, "--out", str(out)]
        subprocess.run(command, check=True, env=os.environ | environment)
        with np.load(out) as arrays:
            return dict(arrays)


def main(arguments: Arguments) -> list[dict[str, str]]:
    """Prints the table; returns its rows."""
    if arguments.out:
        [way] = arguments.ways
        np.savez(arguments.out, **results(arguments, way))
        return []
    ways = arguments.ways or tuple(way for way in WAYS if way != "all devices")
    others = {way: results(arguments, way) for way in ways}
    plain = others.pop("streamed")
    if not arguments.ways:
        others["a new process"] = elsewhere(arguments, "streamed")
        others["8 virtual devices"] = elsewhere(arguments, "all devices", JAX_NUM_CPU_DEVICES="8")
    rows = []
    for name in arguments.attacks:
        for way, other in others.items():
            first, second = plain[f"{name}/distance"], other[f"{name}/distance"]
            same = (plain[f"{name}/x"] == other[f"{name}/x"]).reshape(len(first), -1).all(1)
            both = np.isfinite(first) & np.isfinite(second)
            apart = np.abs(second[both] / first[both] - 1)
            rows.append(
                {
                    "attack": name,
                    "way": way,
                    "same image, bit by bit": f"{same.mean():.0%}",
                    "distances apart, median": f"{np.median(apart):.1e}",
                    "largest": f"{apart.max():.1e}",
                    "other successes": str(int((np.isfinite(first) != np.isfinite(second)).sum())),
                }
            )
    print(f"{machine()}; {arguments.examples} digits, zoo:{arguments.model}, against 16 lanes on one device\n")
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")
    return rows


if __name__ == "__main__":
    main(tyro.cli(Arguments))
