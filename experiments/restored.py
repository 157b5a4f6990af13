"""What undoing takes off the results of ten attacks: changes that are not needed go back, the smallest first.

Claim: `cw.restored` makes no example worse in any norm. It takes most off L0, also of attacks that make L2 or
L-infinity small. It takes little off their L2: only FGSM, whose single step is far too long, loses a third.
L-infinity stays, because the largest change is the last to go.

Command:

    python -m experiments.restored                                        # the zoo's LeNet, 30 digits
    python -m experiments.restored --model zoo:mnist_cnn

Cost: three minutes of processor time, most of it compiling.

Expect: means over the successes of 30 digits, at most 100 forward passes each,

| attack | success | L0 | L2 | looks |
|---|---|---|---|---|
| l2 (3 rounds of 60 steps) | 83 % | 357 → 101 | 3.05 → 3.01 | 96 |
| linf (20 steps at one weight) | 100 % | 431 → 128 | 3.81 → 3.70 | 98 |
| l0 (20 steps at one weight) | 100 % | 33.1 → 32.2 | 4.30 → 4.29 | 37 |
| fast_l2 | 100 % | 300 → 187 | 2.09 → 2.08 | 100 |
| fast_linf | 100 % | 526 → 450 | 3.60 → 3.57 | 100 |
| fast_l1 | 100 % | 26.2 → 19.6 | 2.96 → 2.96 | 25 |
| fast_l0 | 100 % | 13.4 → 13.0 | 3.39 → 3.36 | 16 |
| pgd, 0.3 in L-infinity | 100 % | 500 → 258 | 3.99 → 3.72 | 100 |
| fgsm, 0.3 in L-infinity | 40 % | 299 → 141 | 4.83 → 3.35 | 94 |
| jsma_f | 100 % | 24.7 → 19.3 | 4.04 → 3.86 | 28 |

Where the looks end at 100, more of them would undo more. The attacks are short; the L2 attack has not converged.

The idea is that of mydeepconcolic (https://github.com/ducanhnguyen/mydeepconcolic), which ranks pixels in several ways
and undoes them by steps of 6, 30 or 60; it publishes no table. Means are over the successes. A look is a forward pass.

Writes OUT/restored.md, .csv and .png.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.base import Attack
from cwjax.lab import data
from cwjax.lab.console.progress import progress, say
from cwjax.lab.files import store
from cwjax.lab.subjects import model_of
from experiments import shown
from experiments.coverage_subjects import l2, short


@dataclasses.dataclass(frozen=True)
class Arguments:
    model: str = "zoo:mnist_lenet"  # see cwjax.lab.subjects
    data: str = "mnist5k"  # see cwjax.lab.data
    examples: int = 30  # the first test images that the network gets right
    attacks: tuple[str, ...] = (
        *("l2", "linf", "l0", "fast_l2", "fast_linf", "fast_l1", "fast_l0"),
        *("pgd", "fgsm", "jsma"),
    )
    steps: int = 60  # gradients of a round of l2, of the fast attacks, and of PGD
    rounds: int = 20  # gradients at one weight of l0 and linf
    epsilon: float = 0.3  # of PGD and FGSM, in L-infinity
    looks: int = 100  # forward passes for an example
    seed: int = 0
    out: Path = Path("runs/restored")  # where the results go


def main(
    arguments: Arguments, model: cw.Model | None = None, images: data.Dataset | None = None
) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each attack."""
    store.make_folder(arguments.out)
    model = model or model_of(arguments.model)[0]
    test = images or data.load(arguments.data, "test")
    right = ~shown.wrong(model, test.images, test.labels)
    some = test.take(shown.first_of(right, arguments.examples))
    goal, keys = cw.untargeted(some.labels), jax.random.split(jax.random.key(arguments.seed), len(some.labels))
    rows = []
    with progress("attacks", len(arguments.attacks), first="compiling") as advance:
        for name in arguments.attacks:
            attack = attack_of(arguments, name)
            before = jax.jit(cw.batched(attack))(model, keys, some.images, goal)
            undo = cw.restored(lambda *_, given=before, **__: given, looks=arguments.looks, terms=attack.terms)
            after, told = jax.jit(undo)(model, keys, some.images, goal)
            rows.append(numbers(name, model, some, before, after, told))
            advance(1, name, now=True)
    shown.write("restored", "What undoing takes off", rows, figure(rows), arguments)
    return rows


def attack_of(arguments: Arguments, name: str) -> Attack:
    """The attack at a size for thirty digits."""
    steps = arguments.steps
    if name.startswith("fast_"):
        norm = name.removeprefix("fast_")
        distance = cw.distances.l0(channel_axis=-1) if norm == "l0" else None
        return cw.fast(norm, steps=steps, distance=distance)
    makers = {
        "l2": lambda: l2(steps),
        "linf": lambda: short(cw.linf, cw.search.shrink_tau, arguments.rounds),
        "l0": lambda: short(cw.l0, functools.partial(cw.search.shrink_mask, channel_axis=-1), arguments.rounds),
        "pgd": lambda: cw.attacks.pgd(epsilon=arguments.epsilon, steps=steps),
        "fgsm": lambda: cw.attacks.fgsm(epsilon=arguments.epsilon),
        "jsma": lambda: cw.attacks.jsma_f(),
    }
    return makers[name]()


def numbers(name: str, model: cw.Model, some: data.Dataset, before: Any, after: Any, told: Any) -> dict[str, Any]:
    """A row of the table, after a second look at what is left."""
    hit = np.asarray(after.success)
    wrong = shown.outputs_of(model, np.asarray(after.x)).argmax(-1) != some.labels
    if (hit & ~wrong).any() or (hit != np.asarray(before.success)).any():
        raise RuntimeError(f"{name}: a success is none any more")
    first, last = (cw.metrics.norms(some.images, each.x, channel_axis=-1) for each in (before, after))
    row: dict[str, Any] = {"attack": name, "success": float(hit.mean())}
    for norm in ("l0", "l2", "linf"):
        both = [float(np.asarray(each[norm])[hit].mean()) if hit.any() else float("nan") for each in (first, last)]
        row |= {f"{norm} before": both[0], f"{norm} after": both[1]}
    row["looks"] = float(np.asarray(told.looks)[hit].mean()) if hit.any() else float("nan")
    return row


def figure(rows: list[dict[str, Any]]) -> Figure:
    """What is left of L0 and of L2, for each attack."""
    drawn = Figure(figsize=(7, 3.2), dpi=110, layout="constrained")
    axes, places = drawn.subplots(), np.arange(len(rows))
    for offset, norm, color in ((-0.2, "l0", shown.BLUE), (0.2, "l2", shown.ORANGE)):
        left = [row[f"{norm} after"] / row[f"{norm} before"] for row in rows]
        axes.bar(places + offset, left, 0.4, label=norm.upper(), color=color)
    axes.set_xticks(places, [row["attack"] for row in rows], rotation=30)
    axes.set_ylim(0, 1.02)
    shown.plain(axes, "", "left of the norm")
    axes.legend(frameon=False)
    return drawn


if __name__ == "__main__":
    given = tyro.cli(Arguments, description=__doc__)
    say(f"{len(main(given))} attacks done")
