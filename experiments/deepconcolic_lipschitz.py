"""DeepConcolic's Lipschitz requirements on a digit network: how steep is its answer near a seed?

Claim: an attack by gradients on "steeper than c" finds pairs of inputs that are ten times as steep as the steepest of
2,000 random pairs, and up to three times as steep as the slope at the seed, in one program for all seeds.

Command:

    python -m experiments.deepconcolic_lipschitz

Cost: a minute of processor time.

Expect: on the first eight digits the steepest random pair has a ratio of 1.2 to 2.4, and the search finds 12.2 to 24.7,
8.5 to 21 times as much. The slope at the seed is 7.6 to 12.2. No answer changes: these pairs are steep, and no
adversarial examples. Of 8 × 40 requirements (c from 0.5 to 500) 54 % are met.

A requirement names a constant c and a box of 0.1 in L-infinity around a seed: two inputs of the box between which the
logit of the seed's class changes by more than c times their L2 distance, as in the paper's code. `random` is the
largest ratio of random pairs of the box. `slope` is the norm of the gradient at the seed itself, which near pairs come
to; it says how much of the ratio the search adds.

Published (Sun et al. 2018, section 10.3): on another network of 7 layers, image 1, a million random pairs reach 3.23
and the search 10.38, within 150 iterations of a compass search for each of 30 rounds. Logits of another network have
another scale, so the factor between both is what can be compared: 3.2.

Writes OUT/deepconcolic_lipschitz.md, .csv and .png.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.generation import lipschitz
from cwjax.lab import data
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from cwjax.lab.subjects import model_of
from experiments import shown


@dataclasses.dataclass(frozen=True)
class Arguments:
    model: str = "zoo:mnist_cnn"  # see cwjax.lab.subjects
    data: str = "mnist5k"  # see cwjax.lab.data
    images: int = 8  # the first test images that the network gets right
    radius: float = 0.1  # of the box, in L-infinity
    steps: int = 30  # gradients for a constant
    constants: int = 40  # from 0.5 to 500, a constant factor apart
    pairs: int = 2000  # random ones, for each image
    out: Path = Path("runs/deepconcolic_lipschitz")  # where the results go


def main(
    arguments: Arguments, model: cw.Model | None = None, images: data.Dataset | None = None
) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each image."""
    store.make_folder(arguments.out)
    model = model or model_of(arguments.model)[0]
    test = images or data.load(arguments.data, "test")
    some = test.take(shown.first_of(~shown.wrong(model, test.images, test.labels), arguments.images))
    objective = cw.objectives.tolerance(hinged=False)
    attack = cw.attacks.pgd(
        epsilon=1, norm="l2", relative_step=0.05, steps=arguments.steps, random_start=False, objective=objective
    )
    run = jax.jit(cw.discretised(cw.batched(attack), between=(0, 1), steps=5))
    constants = np.geomspace(0.5, 500, arguments.constants).tolist()
    suite = lipschitz.lipschitz_cover(run, model, some.images, constants, radius=arguments.radius, pause=2)
    slopes = np.linalg.norm(slopes_of(model, some.images, some.labels).reshape(len(some.labels), -1), axis=1)
    rows = []
    for place, ratio in enumerate(suite.ratio):
        by_chance = lipschitz.random_steepness(
            model, some.images[place], pairs=arguments.pairs, radius=arguments.radius, seed=place
        )
        rows.append(
            {
                "image": int(some.index[place]),
                "random": by_chance,
                "slope": float(slopes[place]),
                "found": float(ratio),
                "found / random": float(ratio) / by_chance,
                "distance of the pair": float(np.linalg.norm(np.diff(suite.pairs[place], axis=0))),
                "answers": f"{suite.labels[place, 0]}, {suite.labels[place, 1]}",
            }
        )
        say(f"image {rows[-1]['image']}: {by_chance:.2f} at random, {ratio:.2f} found")
    told = [
        f"Of {suite.met.size} requirements {suite.met.mean():.1%} are met. Published, on another network: 10.38 found "
        "and 3.23 at random, 3.2 times as much."
    ]
    shown.write(
        "deepconcolic_lipschitz", "How steep the answer is near a seed", rows, figure(rows), arguments, told=told
    )
    return rows


def slopes_of(model: cw.Model, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The gradient of the label's logit at each image."""
    return np.asarray(jax.jit(jax.vmap(jax.grad(lambda x, label: model(x)[label])))(x, labels))


def figure(rows: list[dict[str, Any]]) -> Figure:
    """Found, at random and the slope at the seed, for each image."""
    drawn = Figure(figsize=(6.4, 3), dpi=110, layout="constrained")
    axes = drawn.subplots()
    place = np.arange(len(rows))
    for shift, what, colour in ((-0.27, "random", "#9a9a9a"), (0, "slope", shown.ORANGE), (0.27, "found", shown.BLUE)):
        axes.bar(place + shift, [row[what] for row in rows], 0.26, color=colour, label=what)
    axes.set_xticks(place, [str(row["image"]) for row in rows])
    axes.legend(frameon=False, fontsize=8)
    shown.plain(axes, "test image", "change of the logit over L2 distance")
    return drawn


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
