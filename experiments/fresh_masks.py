"""A detector that draws its dropout masks anew for every input, attacked with masks of the attacker's own.

Claim: an example that deceives fixed masks is refused by other masks about once in three draws. An attack with masks of
its own, which stays below the threshold by as much as the score differs from draw to draw, passes most draws.

Command, with all of MNIST in the data folder:

    python -m experiments.fresh_masks --data mnist

Cost: less than ten minutes of a core.

Expect, with `--masks 0 200 --lower 0 2`: 71 % and 90 % of digits and draws pass with the detector's masks, 75 % and
93 % with 200 others; the mean L2 norm is 4.55, 4.62, 2.72 and 3.09. With the detector's masks and `--lower 4`, 97 %
pass, at 5.59.

The detector is that of `experiments.defences`, which learns from nothing: 50 masks, and a threshold that refuses 5 % of
clean images. The attacker knows the network, the threshold and how masks are drawn, and not which. "Lower by" is in
standard deviations of the score of one image over the detector's draws, in the mean over the examples of the attack
with the most masks; the score is a logarithm. The rows with the detector's own masks are the attack of
`experiments.defences`.

Every example is put before the detector with DRAWS draws of its masks. "passes" is the share of images and draws where
the image is misread and not refused, over all images; "passes 95 %" the share of images where that is so in at least
95 % of the draws.

Each row is kept in OUT/rows under a hash of all that decides it, so a run that was stopped goes on. Every success is
looked at again with NumPy. Writes OUT/fresh_masks.md, fresh_masks.csv and fresh_masks.png.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import cwjax as cw
from cwjax.defences import Defended
from cwjax.lab import data
from cwjax.lab.console.progress import progress
from cwjax.lab.files import store
from cwjax.lab.subjects import model_of
from cwjax.models import Model
from experiments import defences, shown

OWN = 0  # in the place of a number of masks: those of the detector


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: str = "mnist5k"  # see cwjax.lab.data
    model: str = "zoo:mnist_cnn"  # to defend, see cwjax.lab.subjects
    learn_from: int = 10_000  # training images, whose last fifth sets the threshold
    masks: tuple[int, ...] = (OWN, 50, 200)  # of the attacker; 0: those of the detector
    lower: tuple[float, ...] = (0, 2, 4)  # standard deviations below the threshold
    examples: int = 20  # the first test images that the undefended network gets right
    steps: int = 150  # gradients for each image and attack
    draws: int = 100  # of the detector's masks, that examples are put before
    out: Path = Path("runs/fresh_masks")  # where the results go


def main(arguments: Arguments, model: Model | None = None) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each number of masks and each distance below the threshold."""
    store.make_folder(arguments.out)
    model = model_of(arguments.model)[0] if model is None else model
    train, test = data.load(arguments.data, "train"), data.load(arguments.data, "test")
    train = train.take(slice(arguments.learn_from))
    make = functools.partial(cw.defences.dropout_uncertainty, model, train.images, train.labels)
    detector = make(jax.random.key(0))
    some = test.take(shown.first_of(~shown.wrong(model, test.images, test.labels), arguments.examples))
    some = some.take(np.flatnonzero(defences.usable(detector, some)))

    def row(masks: int, lower: float, size: float) -> dict[str, Any]:
        attackers = detector if masks == OWN else make(jax.random.key(1), draws=masks)
        limit = detector.threshold - lower * size
        attackers = attackers._replace(threshold=limit, spread=detector.spread)
        asked = dataclasses.replace(arguments, masks=(masks,), lower=(float(limit),))
        done = functools.partial(attacked, attackers, detector, some, arguments)
        found = defences.kept(asked, f"{masks} masks {lower:g} lower", model, some, done)
        return {"masks": masks or "the detector's", "lower by": lower} | found

    size = row(max(arguments.masks), 0, 0)["deviation"]
    asked = [(masks, lower) for masks in arguments.masks for lower in arguments.lower]
    rows = []
    with progress("attacks", len(asked), first="compiling") as advance:
        for masks, lower in asked:
            rows.append(row(masks, lower, size))
            advance(1, f"{masks} masks, {lower:g} lower: {rows[-1]['passes']:.0%}", now=True)
    told = [f"One standard deviation of the score over draws is {size:.3g}; the threshold, {detector.threshold:.3g}."]
    shown.write("fresh_masks", "Dropout uncertainty, masks drawn anew", rows, drawn(rows), arguments, told=told)
    return rows


def attacked(attackers: Defended, detector: Defended, some: data.Dataset, arguments: Arguments) -> dict[str, Any]:
    """The attack on the attacker's copy of the detector, and what the detector makes of it with other masks.

    Args:
      attackers: what the attack deceives.
      detector: whose masks are drawn anew.
      some: images that are read rightly and not refused.
      arguments: what to do.
    """
    goal, keys = cw.untargeted(some.labels), defences.keys_of(some)
    result = _attack(arguments.steps, attackers, keys, some.images, goal)
    images = np.asarray(result.x)
    found = shown.checked(result, some.images, defences.fooled(attackers, images, some.labels))
    scores = scored(detector, images, arguments.draws)
    hit = np.asarray(result.success)
    passes = hit & (scores <= np.asarray(detector.threshold))
    return found | {
        "passes": float(passes.mean()),
        "passes 95 %": float((passes.mean(0) >= 0.95).mean()),
        "deviation": float(scores[:, hit].std(0).mean()),
    }


@functools.partial(jax.jit, static_argnums=0)
def _attack(steps, attackers, keys, x, goal):
    attack = cw.fast("l2", steps=steps, objective=cw.defences.undetected(attackers))
    return cw.batched(attack)(cw.defences.whole(attackers), keys, x, goal)


def scored(detector: Defended, images: np.ndarray, draws: int) -> np.ndarray:
    """The score of each image with masks drawn anew, [draws, B]."""
    several = (cw.defences.with_fresh_masks(detector, jax.random.key(1000 + draw)) for draw in range(draws))
    return np.stack([shown.outputs_of(each.detector, images) for each in several if each.detector])


def drawn(rows: list[dict[str, Any]]):
    """How often examples pass, against how far away they are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    names = dict.fromkeys(row["masks"] for row in rows)
    for name, color in zip(names, (shown.INK, shown.BLUE, shown.GREEN, shown.ORANGE) * len(names), strict=False):
        some = [row for row in rows if row["masks"] == name]
        axes.plot(
            [row["mean L2"] for row in some], [row["passes"] for row in some], "o-", color=color, label=f"{name} masks"
        )
    axes.axhline(0.95, color=shown.INK, linewidth=0.8, linestyle=":")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, fontsize=8)
    shown.plain(axes, "mean L2 norm of the change", "passes masks drawn anew")
    return figure


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
