"""Two digits side by side, and a network that says of each digit whether it is at the left, and whether at the right.

Claim: where a model says yes or no to several labels, an attack may be asked for as little as one of them to flip, for
more, or for a whole set (`objectives.several_labels`); and the more is asked for, the farther it has to go.

Command:

    python -m experiments.two_labels

Cost: a minute and a half on 2 cores, most of it to train the network; one program for all goals.

Expect: the network says all 20 labels of 86 % of the test pairs rightly. Every goal is reached for all 20 pairs, at a
mean L2 norm of 0.48 for one label, 0.80 for two, 1.90 for the left digit and 2.58 for both. No more labels flip than
were asked for: 1, 2, 2 and 4. The one label that flips is a digit that is no longer seen in 35 % of the pairs, and one
that is seen besides in the others.

Images are two digits of the test set side by side, of which the network says both rightly and nothing else. There are
twice as many labels as digits: the first half says which is at the left, the second which is at the right. The goals:

- one label flips: whichever is nearest, a digit that is no longer seen, or one that is seen besides;
- two labels flip;
- the left digit becomes the next one (3 becomes 4) and nothing is said of the right half (`among`);
- both become the next ones, and nothing else: all labels have to be as the goal says, four of them anew.

The same network under any attack of the command line:

    cwjax attack --model experiments.two_labels:task --examples 10 --out runs/two_labels

Every success is looked at again with NumPy. Writes OUT/two_labels.md, two_labels.csv and two_labels.png.
"""

import dataclasses
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import optax
import tyro
from matplotlib.axes import Axes

import cwjax as cw
from cwjax import goals
from cwjax.lab import data
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from experiments import shown, small_nets

ONE, TWO = "one label flips", "two labels flip"
LEFT, BOTH = "the left digit becomes the next", "both become the next"


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: str = "mnist5k"  # see cwjax.lab.data
    pairs: int = 8000  # of training digits
    updates: int = 1500  # of the network's training, 64 pairs each
    examples: int = 20  # the first test pairs that the network says rightly
    steps: int = 200  # gradients for each pair and goal
    seed: int = 0  # of the network and the pairs
    out: Path = Path("runs/two_labels")  # where the results go


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each goal."""
    store.make_folder(arguments.out)
    model, accuracy, x, labels, classes = subject(arguments)
    count = labels.shape[1] // 2
    next_ones = np.concatenate([np.roll(half, 1, axis=1) for half in (labels[:, :count], labels[:, count:])], 1)
    left_half = np.broadcast_to(np.arange(2 * count) < count, labels.shape)
    asked = {
        ONE: goals.labels_flipped(labels, 1),
        TWO: goals.labels_flipped(labels, 2),
        LEFT: goals.labels_reached(next_ones, among=left_half),
        BOTH: goals.labels_reached(next_ones),
    }
    met = {
        ONE: lambda z: shown.flipped(z, labels) >= 1,
        TWO: lambda z: shown.flipped(z, labels) >= 2,
        LEFT: lambda z: shown.flipped(z[:, :count], next_ones[:, :count]) == 0,
        BOTH: lambda z: shown.flipped(z, next_ones) == 0,
    }
    attack = cw.fast("l2", objective=cw.objectives.several_labels(hinged=False), steps=arguments.steps)
    found, rows = shown.attacked(model, attack, x, asked, met), []
    for each in found.values():
        row = each.numbers | {"labels flipped": float(shown.flipped(each.outputs, labels).mean())}
        rows.append(row | {"digits no longer seen": float(((each.outputs <= 0) & labels).sum(1).mean())})
    results, outputs = ({name: each[i] for name, each in found.items()} for i in (0, 1))
    told = [f"Network: {accuracy:.2%} of the test pairs have all {2 * count} labels right."]
    write(rows, arguments, told, x, labels, classes, results, outputs)
    return rows


def task(arguments: Arguments | None = None) -> cw.Task:
    """For `cwjax attack --model experiments.two_labels:task`: any two of the labels are to be said otherwise."""
    model, _, x, labels, classes = subject(arguments or Arguments())
    return cw.Task(
        name="two digits side by side",
        model=model,
        x=x,
        goal=goals.labels_flipped(labels, 2),
        objective=cw.objectives.several_labels,
        read=lambda outputs: said(outputs > 0, classes),
        wanted=lambda goal: f"{int(goal.least)} labels otherwise",
    )


def subject(arguments: Arguments) -> tuple[cw.Model, float, np.ndarray, np.ndarray, tuple[str, ...]]:
    """The network, the share of test pairs it says rightly, the first of those pairs, their labels and the digits'
    names.
    """
    train, test = (data.load(arguments.data, split) for split in ("train", "test"))
    classes = len(train.classes)

    def loss(params, key, x, labels):
        return optax.sigmoid_binary_cross_entropy(small_nets.answered(params, x), labels).sum(-1).mean()

    x, labels = pairs_of(train, arguments.pairs, arguments.seed)
    fresh = small_nets.convolutional(arguments.seed, x.shape[1:], 2 * classes, units=96)
    params = small_nets.train(
        "a network of two digits", loss, fresh, (x, labels.astype(np.float32)), updates=arguments.updates
    )
    model = cw.bind(small_nets.answered, params)
    x, labels = pairs_of(test, max(500, arguments.examples), arguments.seed + 1)
    right = shown.flipped(shown.outputs_of(model, x), labels) == 0
    say(f"The network says all labels of {right.mean():.1%} of the test pairs rightly.")
    chosen = shown.first_of(right, arguments.examples)
    return model, float(right.mean()), x[chosen], labels[chosen], test.classes


def pairs_of(some: data.Dataset, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of two digits drawn at random, [N, H, 2W, C], and which labels are so, boolean [N, 2K]."""
    left, right = np.random.default_rng(seed).integers(len(some.labels), size=(2, count))
    one_hot = np.eye(len(some.classes), dtype=bool)
    images = np.concatenate([some.images[left], some.images[right]], 2)
    return images, np.concatenate([one_hot[some.labels[left]], one_hot[some.labels[right]]], 1)


def said(yes: np.ndarray, classes: tuple[str, ...]) -> str:
    """What the network says, in words."""
    halves = {"left": yes[: len(classes)], "right": yes[len(classes) :]}
    words = {side: [classes[i] for i in np.flatnonzero(half)] or ["nothing"] for side, half in halves.items()}
    return "; ".join(f"{side}: {' and '.join(digits)}" for side, digits in words.items())


def write(rows, arguments, told, x, labels, classes, results, outputs) -> None:
    """The table, and the picture: one pair, and what each goal makes of it."""
    reach = shown.lengths(x, np.asarray(results[BOTH].x))
    place = int(np.argsort(reach)[len(reach) // 2])
    lines = [
        shown.compared(
            f"asked for:\n{textwrap.fill(name, 16)}",
            x[place],
            np.asarray(result.x[place]),
            said(labels[place], classes),
            said(outputs[name][place] > 0, classes),
        )
        for name, result in results.items()
    ]

    def chart(axes: Axes) -> None:
        for line, result in enumerate(results.values()):
            sizes = np.sort(shown.lengths(x, np.asarray(result.x))[np.asarray(result.success)])
            axes.plot(line + np.linspace(-0.3, 0.3, len(sizes)), sizes, "o", color=shown.BLUE, alpha=0.6, markersize=4)
            if sizes.size:
                axes.plot([line - 0.35, line + 0.35], [sizes.mean()] * 2, color=shown.ORANGE, linewidth=2.5)
        axes.set(ylim=(0, None), title="The more is asked for, the farther it is")
        axes.set_xticks(range(len(results)), [textwrap.fill(name, 12) for name in results])
        shown.plain(axes, "", "length of the change (a dot for each pair, a line at the mean)")

    figure = shown.picture("A network that says which digits it sees left and right", shown.COMPARED, lines, chart)
    shown.write("two_labels", "Goals for several labels", rows, figure, arguments, told=told)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
