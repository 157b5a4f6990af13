"""Images per second of a batched attack against one image at a time.

Claim: the L0 and L-infinity attacks, which the authors' code and every peer run one image at a time, gain from a batch,
although each example follows its own search.

    python -m benchmarks.batching                       # three minutes on 2 cores
    python -m benchmarks.batching --attacks linf --batch 256

Network: the zoo's MNIST CNN, trained on mnist5k (the first time a minute more). Each attack at the paper's settings
but for fewer steps at each weight c; untargeted, on the first test images. The single images are the first ones of the
batch, each attacked by the same compiled program at batch 1.
"""

import dataclasses
import time
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import cwjax as cw
from benchmarks.timing import machine
from cwjax.lab import data
from cwjax.lab.training import training

ATTACKS = {
    "linf": lambda steps: cw.linf(steps=steps, search=cw.search.shrink_tau(initial_c=1e-2)),
    "l0": lambda steps: cw.l0(steps=steps, search=cw.search.shrink_mask(initial_c=1e-1), largest_c=1e3),
    "l2": lambda steps: cw.l2(steps=steps),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    attacks: tuple[Literal["linf", "l0", "l2"], ...] = ("linf", "l0", "l2")
    batch: int = 64  # images at once
    singles: int = 8  # images attacked one at a time, to tell the speed by
    steps: int = 100  # gradient steps at each weight c
    data: str = "mnist5k"  # see cwjax.lab.data
    epochs: int = 50  # of the network's training
    models: Path = Path("runs/models")  # where the trained network is kept


def measure(attack: cw.Attack, model: cw.Model, x: jax.Array, goal: cw.LabelGoal, singles: int) -> dict[str, float]:
    """Images per second in a batch and one at a time, their ratio, and what the attack did."""
    run = jax.jit(cw.batched(attack))
    keys = jax.random.split(jax.random.key(0), len(x))

    def one(i):
        return run(model, *jax.tree.map(lambda leaf: leaf[i : i + 1], (keys, x, goal)))

    def seconds(call):
        began = time.perf_counter()
        result = jax.block_until_ready(call())
        return time.perf_counter() - began, result

    jax.block_until_ready((one(0), run(model, keys, x, goal)))  # compile
    alone = sum(seconds(lambda i=i: one(i))[0] for i in range(singles)) / singles
    together, result = seconds(lambda: run(model, keys, x, goal))
    hit = np.asarray(result.success)
    return {
        "images/s, one at a time": 1 / alone,
        "images/s, batch": len(x) / together,
        "ratio": alone * len(x) / together,
        "gradients an image": float(result.backwards.mean()),
        "longest": float(result.backwards.max()),
        "success %": 100 * float(hit.mean()),
        "mean distance": float(np.asarray(result.distance)[hit].mean()) if hit.any() else float("nan"),
    }


def main(arguments: Arguments) -> None:
    """Prints the table as Markdown."""
    trained = training.train(training.Training(data=arguments.data, epochs=arguments.epochs), arguments.models)
    dataset = data.load(arguments.data, "test")
    x = jnp.asarray(dataset.images[: arguments.batch])
    goal = cw.untargeted(dataset.labels[: arguments.batch])
    print(f"{machine()}\nbatch {len(x)}, {arguments.steps} steps at each weight c\n")
    for place, name in enumerate(arguments.attacks):
        row = measure(ATTACKS[name](arguments.steps), trained.model, x, goal, min(arguments.singles, len(x)))
        if not place:
            print("| attack | " + " | ".join(row) + " |\n" + "|---" * (len(row) + 1) + "|")
        print(f"| {name} | " + " | ".join(f"{value:.4g}" for value in row.values()) + " |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
