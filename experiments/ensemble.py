"""One perturbation for several networks at once: the plain network, the robust one and the distilled one of the zoo.

Claim: an example that fools all of several networks has to be at least as far as the hardest of them asks for, and need
not be much farther. An example made for one network alone seldom fools the others.

Command:

    python -m experiments.ensemble

Cost: a minute on 2 cores, 200 gradients for each image and attack; half of it compiles.

Expect: every attack succeeds on all 40 images. Mean L2 norm 1.00 for the plain network alone, 1.32 for the robust one,
1.38 for the distilled one, 1.64 for all at once. Image by image that is 1.13 times the hardest alone in the median.
Images made for one network fool none of the other two in most cases: those for the robust one fool the plain one in
7 %, those for the distilled one in 12 %, all others in none; and no image made for one fools all three, not even when
stretched. In 2 of 40 images the attack on all came nearer than the attacks alone, by more than 1 %.

The attack is the same everywhere; for all networks it is given `cw.joined(models)` and `objectives.all_of`. Each
network may be fooled into another answer. Attacks end just behind the boundary, which other networks have elsewhere; so
images made for one network alone are also tried when stretched to the length of the change that fools all ("fools all
when as long").

"Hardest alone" is, image by image, the largest of the networks' distances, where the distance of a network is that of
the nearest image known to fool it, whichever attack came upon it. An image for all networks is one for each; so the
ratio cannot be below 1. How often an attack on all of them came nearer than the attack on the hardest alone is said
below the table: those are local minima of the attack alone.

Every success is looked at again with NumPy. Writes OUT/ensemble.md, ensemble.csv and ensemble.png.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from matplotlib.axes import Axes

import cwjax as cw
from cwjax.lab import data
from cwjax.lab.console.progress import progress
from cwjax.lab.files import store
from cwjax.lab.subjects import model_of
from experiments import shown

ALL = "all at once"


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: str = "mnist5k"  # see cwjax.lab.data
    models: tuple[str, ...] = ("zoo:mnist_cnn", "zoo:mnist_robust", "zoo:mnist_distilled")  # see cwjax.lab.subjects
    examples: int = 40  # the first test images that all networks get right
    steps: int = 200  # gradients for each image and attack; one for all costs one of each network
    out: Path = Path("runs/ensemble")  # where the results go


def main(arguments: Arguments, models: Mapping[str, cw.Model] | None = None) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each network, and one for all.

    Args:
      arguments: what to do.
      models: the networks by name, instead of those that the arguments name.
    """
    store.make_folder(arguments.out)
    if models is None:
        models = {name.removeprefix("zoo:"): model_of(name)[0] for name in arguments.models}
    test = data.load(arguments.data, "test")
    right = np.all([~shown.wrong(m, test.images, test.labels) for m in models.values()], 0)
    test = test.take(shown.first_of(right, arguments.examples))
    goal, keys = cw.untargeted(test.labels), jax.random.split(jax.random.key(0), len(test.labels))

    alone = jax.jit(cw.batched(cw.fast("l2", steps=arguments.steps)))
    every = cw.objectives.all_of([cw.losses.negative_margin()] * len(models))
    joint = jax.jit(cw.batched(cw.fast("l2", objective=every, steps=arguments.steps)))
    results = {}
    with progress("attacks", len(models) + 1, first="compiling") as advance:
        for name, model in models.items():
            results[name] = alone(model, keys, test.images, goal)
            advance(1, f"{name}: {results[name].success.mean():.0%}", now=True)
        results[ALL] = joint(cw.joined(list(models.values())), keys, test.images, goal)
        advance(1, f"{ALL}: {results[ALL].success.mean():.0%}")

    # fooled[attack][network]: which images of the attack that network gets wrong, and so for distances.
    outputs = {name: [shown.outputs_of(m, np.asarray(r.x)) for m in models.values()] for name, r in results.items()}
    fooled = {name: np.array([shown.misread(out, test.labels) for out in each]) for name, each in outputs.items()}
    distance = {name: shown.lengths(test.images, np.asarray(r.x)) for name, r in results.items()}
    known = np.min([np.where(fooled[name], distance[name], np.inf) for name in results], 0)  # [network, image]
    hardest = known.max(0)
    found = np.max([np.where(results[name].success, distance[name], np.inf) for name in models], 0)
    rows = []
    for name, result in results.items():
        longer = shown.stretched(test.images, np.asarray(result.x), distance[ALL])
        long = [shown.wrong(m, longer, test.labels) for m in models.values()]
        met = np.asarray(fooled[ALL].all(0)) if name == ALL else fooled[name][list(models).index(name)]
        hit = np.asarray(result.success)
        ratio = distance[name][hit] / hardest[hit]
        row = {"attacked": name} | shown.checked(result, test.images, met)
        row |= {f"fools {other}": float(fooled[name][i].mean()) for i, other in enumerate(models)}
        row |= {"fools all": float(fooled[name].all(0).mean())}
        row |= {"fools all when as long": float(np.all(long, 0).mean())}
        least, middle = (float(ratio.min()), float(np.median(ratio))) if hit.any() else (float("nan"),) * 2
        rows.append(row | {"least over hardest alone": least, "median over hardest alone": middle})
    nearer = int((distance[ALL] < 0.99 * found)[np.asarray(results[ALL].success)].sum())
    told = [
        f"Of {len(hardest)} images, the attack on all came nearer than the attack on the hardest alone in {nearer}, by "
        "more than 1 %.",
        f"Mean over the images of the largest distance alone: {hardest.mean():.3g} (the nearest known), "
        f"{found.mean():.3g} (by the attacks alone).",
    ]
    write(rows, arguments, told, test, list(models), results, outputs, hardest, distance[ALL])
    return rows


def _plainly(name: str) -> str:
    return {"mnist_cnn": "plain"}.get(name, name.removeprefix("mnist_"))


def write(rows, arguments, told, test, names, results, outputs, hardest, joint) -> None:
    """The table, and the picture: one digit, and what each attack makes of it."""
    place = int(np.argsort(joint)[len(joint) // 2])  # neither the easiest nor the hardest
    lines = []
    for name, result in results.items():
        said = [int(out[place].argmax()) for out in outputs[name]]
        before = f"all read {test.classes[test.labels[place]]}"
        after = "\n".join(
            f"{_plainly(each)} reads {test.classes[answer]}" for each, answer in zip(names, said, strict=True)
        )
        asked = "made to fool\nall at once" if name == ALL else f"made to fool\n{_plainly(name)}\nalone"
        lines.append(shown.compared(asked, test.images[place], np.asarray(result.x[place]), before, after))

    def chart(axes: Axes) -> None:
        axes.plot(hardest, joint, "o", color=shown.BLUE, alpha=0.7, label="an image of a digit")
        end = 1.05 * max(hardest.max(), joint.max())
        axes.plot([0, end], [0, end], "--", color=shown.INK, linewidth=1, label="no farther than the hardest alone")
        axes.set(xlim=(0, end), ylim=(0, end), aspect="equal", title="What it costs to fool all of them")
        shown.plain(axes, "length of the change that fools\nthe hardest network alone", "length that fools all at once")
        axes.legend(frameon=False, loc="lower right")

    figure = shown.picture("A change made for one network, and one made for all of them", shown.COMPARED, lines, chart)
    shown.write("ensemble", "One perturbation for several networks", rows, figure, arguments, told=told)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
