"""What the engine wastes: idle lanes, narrow batches, many devices, compiling, and targets run one after the other.

Claims: at least 95 % of the lane-steps of a streamed run are useful; eight virtual devices cost at most 5 % over one;
the L2 attack compiles in ten seconds on CPU.

    python -m benchmarks.engine utilisation      # 2,000 digits: five minutes on 2 cores
    python -m benchmarks.engine scaling          # lane-steps a second, by width
    JAX_NUM_CPU_DEVICES=8 python -m benchmarks.engine devices    # the same queue on 1, 2, 4 and 8 of them
    python -m benchmarks.engine compile          # every attack, cold and from the folder of kept programs
    python -m benchmarks.engine original         # L-infinity and L0 at the released numbers: eight minutes
    python -m benchmarks.engine targets          # nine targets as rows of the queue, or in turn within a lane

Network: the zoo's MNIST CNN, trained on mnist5k (the first time a minute more).
"""

import dataclasses
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.sharding import Mesh

import cwjax as cw
from benchmarks.timing import interleaved, machine, ratio
from cwjax.lab import data
from cwjax.lab.files import compiling
from cwjax.lab.training import training
from cwjax.runners import memory


class Counted:
    """Keeps what a watcher was told last."""

    def __call__(self, status: cw.runners.Status) -> None:
        self.status = status


@dataclasses.dataclass(frozen=True)
class Subject:
    data: str = "mnist5k"  # see cwjax.lab.data
    epochs: int = 50  # of the network's training
    models: Path = Path("runs/models")  # where the trained network is kept

    def digits(self, count: int) -> tuple[cw.Model, jax.Array, np.ndarray, int]:
        """The network, so many images (first those it has not seen), their labels, and how many classes there are."""
        trained = training.train(training.Training(data=self.data, epochs=self.epochs), self.models)
        splits = [data.load(self.data, split) for split in ("test", "train")]
        images = np.concatenate([split.images for split in splits])
        labels = np.concatenate([split.labels for split in splits])
        places = np.arange(count) % len(labels)
        return trained.model, jnp.asarray(images[places]), labels[places], len(splits[0].classes)

    def take(self, count: int) -> tuple[cw.Model, jax.Array, cw.LabelGoal]:
        """The network and so many images, each to be taken for the class after its own."""
        model, x, labels, classes = self.digits(count)
        return model, x, cw.targeted((labels + 1) % classes)


Subject_ = tyro.conf.OmitArgPrefixes[Subject]


def show(rows: Iterable[dict[str, Any]]) -> None:
    """Prints rows as a Markdown table, each as soon as it is there."""
    for place, row in enumerate(rows):
        if not place:
            print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
        print(
            "| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()) + " |", flush=True
        )


def utilisation(subject: Subject_ = Subject(), *, examples: int = 2000, width: int = 128, steps: int = 100) -> None:
    """Useful lane-steps over all lane-steps, streamed and in chunks.

    What chunks would run is counted from the same results: in each chunk every lane runs as long as the slowest.
    """
    model, x, goal = subject.take(examples)
    keys, seen = jax.random.split(jax.random.key(0), examples), Counted()
    began = time.perf_counter()
    result = cw.streamed(cw.l2(steps=steps), width=width)(model, keys, x, goal, watch=seen)
    spent = np.asarray(result.forwards, np.int64)
    seconds = time.perf_counter() - began
    chunks = [spent[i : i + width] for i in range(0, examples, width)]
    whole = sum(int(chunk.max()) * width for chunk in chunks)
    print(f"{machine()}\n{examples} examples, {width} lanes, 9 x {steps} steps, {seconds:.0f} s\n")
    show(
        {"runner": name, "useful lane-steps": spent.sum(), "lane-steps": lane_steps, "share": spent.sum() / lane_steps}
        for name, lane_steps in (("streamed", seen.status.lane_steps), ("chunked", whole))
    )


def scaling(subject: Subject_ = Subject(), *, widths: tuple[int, ...] = ()) -> None:
    """Lane-steps a second at each width, inside the loop, with the memory that was predicted for it."""
    widths = widths or tuple(2**k for k in range(13 if jax.default_backend() == "cpu" else 17))
    print(f"{machine()}\n")

    def at(width):
        model, x, goal = subject.take(width)
        begin, advance, _ = map(jax.jit, cw.lanes(cw.l2(steps=1000)))
        states, steps = begin(jax.random.split(jax.random.key(0), width), x, goal), max(5, min(50, 2000 // width))
        program = advance.lower(model, x, goal, states, steps).compile()
        seconds = min(interleaved({"loop": lambda: program(model, x, goal, states, steps)}, 5)["loop"]) / steps
        return {
            "width": width,
            "lane-steps a second": width / seconds,
            "ms a step": 1e3 * seconds,
            "MiB predicted": memory.needed(program) / 2**20,
        }

    show(map(at, widths))


def devices(subject: Subject_ = Subject(), *, examples: int = 256, width: int = 64, steps: int = 20) -> None:
    """The same queue on 1, 2, 4 and 8 devices, as far as there are so many, in turn."""
    model, x, goal = subject.take(examples)
    keys = jax.random.split(jax.random.key(0), examples)
    print(f"{machine()}\n{examples} examples, {width} lanes, 9 x {steps} steps\n")
    counts = [n for n in (1, 2, 4, 8) if n <= jax.device_count()]
    runs = {n: cw.streamed(cw.l2(steps=steps), width=width, mesh=Mesh(jax.devices()[:n], ("devices",))) for n in counts}
    results = {n: runs[n](model, keys, x, goal) for n in counts}
    calls = {str(n): lambda n=n: runs[n](model, keys, x, goal) for n in counts}
    seconds = interleaved(calls, 5)
    show(
        {
            "devices": n,
            "gradients": int(results[n].forwards.sum()),
            "seconds": float(np.median(seconds[str(n)])),
            "over one device": ratio(seconds[str(n)], seconds["1"]),
        }
        for n in counts
    )


def compile(subject: Subject_ = Subject(), *, width: int = 128) -> None:
    """Seconds and programs until the first turn of each attack is done, cold and from the folder."""
    model, x, goal = subject.take(width)
    keys = jax.random.split(jax.random.key(0), width)
    attacks = {
        "l2": cw.l2(),
        "l1": cw.l1(),
        "linf": cw.linf(),
        "l0": cw.l0(),
        "lbfgs": cw.lbfgs(),
        "l2, 3 starts": cw.restarted(cw.l2(), 3, 0.5),
    }
    print(f"{machine()}\n{width} lanes\n")

    def rows():
        for name, attack in attacks.items():
            row: dict[str, Any] = {"attack": name}
            with tempfile.TemporaryDirectory() as folder:
                compiling.keep(Path(folder))
                jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
                for state in ("cold", "kept"):
                    jax.clear_caches()
                    began = time.perf_counter()
                    with compiling.timed() as compiled:
                        cw.streamed(attack, width=width)(model, keys, x, goal, watch=lambda status: True)
                    row[f"{state}: seconds to the end of two turns"] = time.perf_counter() - began
                    row[f"{state}: compiling"] = sum(compiled)
                    row[f"{state}: programs"] = len(compiled)
            yield row

    show(rows())


def targets(subject: Subject_ = Subject(), *, examples: int = 64, width: int = 64, steps: int = 50) -> None:
    """The closest of all targets: each a row of the queue, or all in turn within one lane (`best_target`)."""
    model, x, labels, classes = subject.digits(examples)
    keys = jax.random.split(jax.random.key(0), examples * (classes - 1))
    places = np.repeat(np.arange(examples), classes - 1)
    every = cw.targeted((labels[places] + np.tile(np.arange(1, classes), examples)) % classes)
    settings = {"optimizer": cw.optimizers.adam(0.05), "steps": steps}
    attack = cw.l2(**settings, search=cw.search.binary_search(6, initial_c=0.1))
    ways = {
        "rows of the queue": (cw.streamed(attack, width=width), (model, keys, x[places], every)),
        "in turn within a lane": (
            cw.streamed(cw.best_target(attack, classes), width=width),
            (model, keys[:examples], x, cw.untargeted(labels)),
        ),
    }
    print(f"{machine()}\n{examples} examples x {classes - 1} targets, {width} lanes\n")
    told = {name: Counted() for name in ways}
    calls = {
        name: lambda name=name, run=run, args=args: run(*args, watch=told[name]) for name, (run, args) in ways.items()
    }
    results = {name: call() for name, call in calls.items()}
    best = {name: np.asarray(result.distance).reshape(examples, -1).min(1) for name, result in results.items()}
    seconds = interleaved(calls, 3)
    show(
        {
            "targets": name,
            "mean of the closest": float(best[name].mean()),
            "gradients": int(results[name].forwards.sum()),
            "lane-steps": told[name].status.lane_steps,
            "seconds": float(np.median(seconds[name])),
            "time over the first": ratio(seconds[name], seconds["rows of the queue"]),
        }
        for name in ways
    )


ORIGINAL = {"linf": 52.0, "l0": 85.0}  # seconds an image of the released code, one at a time, on 2 cores


def original(subject: Subject_ = Subject(), *, examples: int = 100, steps: int = 1000) -> None:
    """Seconds an image of the L-infinity and L0 attacks at the released numbers, c doubled when the loss is stuck."""
    model, x, goal = subject.take(examples)
    keys, stuck = jax.random.split(jax.random.key(0), examples), cw.aborts.plateau(tolerance=1e-2)
    attacks = {"linf": cw.linf(steps=steps, raise_c=stuck), "l0": cw.l0(steps=steps, raise_c=stuck)}
    print(f"{machine()}\n{examples} examples, {steps} steps at each weight c\n")

    def row(name):
        began = time.perf_counter()
        result = jax.block_until_ready(cw.streamed(attacks[name])(model, keys, x, goal))
        each = (time.perf_counter() - began) / examples
        hit = np.asarray(result.success)
        return {
            "attack": name,
            "success %": 100 * float(hit.mean()),
            "mean distance": float(np.asarray(result.distance)[hit].mean()) if hit.any() else float("nan"),
            "gradients an image": float(result.forwards.mean()),
            "seconds an image": each,
            "the original's time over it": ORIGINAL[name] / each,
        }

    show(map(row, attacks))


COMMANDS = {
    "original": original,
    "utilisation": utilisation,
    "scaling": scaling,
    "devices": devices,
    "compile": compile,
    "targets": targets,
}

if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(COMMANDS, description=__doc__)
