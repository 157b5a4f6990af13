"""Digits on a noisy background, and a network that says of every pixel which digit it belongs to, or none.

Claim: where a model says a class of each pixel, an attack may be asked for a share of them (`objectives.pixels`): to
say anything but the truth of a quarter, half or three quarters of the digit, or to say background there. The more of
the digit it is asked for, the farther it has to go.

Command:

    python -m experiments.segmentation

Cost: a minute and three quarters on 2 cores, a minute of it to train the network; one program for all goals.

Expect: the network labels 89 % of the digits' pixels rightly; it is attacked on those images (648 of 800) of which it
labels nine tenths so. Every goal is reached for all 15 images, at a mean L2 norm of 0.45 for a quarter, 0.52 for half
and 0.56 for three quarters: once the network takes the digit for another, most of its pixels follow, so that three
times as much costs a quarter more. To have half of the digit vanish takes 0.99. Little more of the digit is mislabelled
than was asked for (64 % where half of it is to be background), and hardly any of the background (0.02 % at most).

An image is noise between 0 and 0.5 with a digit over it, wherever that is brighter. Pixels of which the digit is
brighter than 0.5 are its own: they are to be labelled as that digit, all others as background. The network is a small
U. Of the test images it gets at least nine tenths of each digit right; the goals count the digit's pixels alone.

The same network under any attack of the command line:

    cwjax attack --model experiments.segmentation:task --examples 10 --out runs/segmentation

Every success is looked at again with NumPy. Writes OUT/segmentation.md, segmentation.csv and segmentation.png.
"""

import dataclasses
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

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

NOISE, BRIGHT, MISSED = 0.5, 0.5, 0.1  # of the background, of a digit's pixels, of them at most


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: str = "mnist5k"  # see cwjax.lab.data
    updates: int = 800  # of the network's training, 64 images each
    shares: tuple[float, ...] = (0.25, 0.5, 0.75)  # of the digit that are to be labelled otherwise
    hidden: float = 0.5  # of the digit that is to be labelled as background
    examples: int = 15  # the first test images that the network labels rightly
    steps: int = 150  # gradients for each image and goal
    seed: int = 0  # of the network and the noise
    out: Path = Path("runs/segmentation")  # where the results go


class Scenes(NamedTuple):
    """Images and the class of each of their pixels: 0 background, 1 + K the digit K."""

    images: np.ndarray  # float32 [N, H, W, 1]
    labels: np.ndarray  # int32 [N, H, W]

    def take(self, places: np.ndarray) -> "Scenes":
        """Those at these places."""
        return Scenes(self.images[places], self.labels[places])


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each goal."""
    store.make_folder(arguments.out)
    model, accuracy, test = subject(arguments)
    x, labels, counted = test.images, test.labels, test.labels > 0
    asked, met = {}, {}
    for share in arguments.shares:
        name = f"{share:.0%} of the digit mislabelled"
        asked[name] = goals.pixels_left(labels, share=share, counted=counted)
        met[name] = lambda z, share=share: shown.share_of(z, lambda said: said != labels, counted) >= share - 1e-9
    vanish = f"{arguments.hidden:.0%} of the digit as background"
    asked[vanish] = goals.pixels_reached(np.zeros_like(labels), share=arguments.hidden, counted=counted)
    met[vanish] = lambda z: shown.share_of(z, lambda said: said == 0, counted) >= arguments.hidden - 1e-9

    attack = cw.fast("l2", objective=cw.objectives.pixels(hinged=False), steps=arguments.steps)
    found, rows = shown.attacked(model, attack, x, asked, met), []
    for _, z, numbers in found.values():
        wrong, background = (
            shown.share_of(z, is_so, counted).mean() for is_so in (lambda said: said != labels, lambda said: said == 0)
        )
        outside = shown.share_of(z, lambda said: said != 0, ~counted).mean()
        row = numbers | {"digit mislabelled": float(wrong), "digit as background": float(background)}
        rows.append(row | {"background mislabelled": float(outside)})
    results, outputs = ({name: each[i] for name, each in found.items()} for i in (0, 1))
    told = [f"Network: labels {accuracy:.2%} of the digits' pixels rightly on the test images."]
    clean = shown.outputs_of(model, x)
    write(rows, arguments, told, test, clean, results, outputs)
    return rows


def task(arguments: Arguments | None = None) -> cw.Task:
    """For `cwjax attack --model experiments.segmentation:task`: half of each digit is to be labelled otherwise. A
    picture has the image at the left, and what the network sees in it at the right.
    """
    model, _, test = subject(arguments or Arguments())
    labels = test.labels

    def read(outputs: np.ndarray) -> str:
        counts = np.bincount(outputs.argmax(-1).ravel(), minlength=outputs.shape[-1])[1:]
        seen = [f"{digit}: {counts[digit]} px" for digit in counts.argsort()[::-1][:2] if counts[digit]]
        return ", ".join(seen) or "background"

    return cw.Task(
        name="the digit of every pixel",
        model=model,
        x=test.images,
        goal=goals.pixels_left(labels, share=0.5, counted=labels > 0),
        objective=cw.objectives.pixels,
        read=read,
        wanted=lambda goal: f"{goal.share:.0%} of the digit otherwise",
        draw=lambda x, outputs: np.concatenate([np.repeat(x, 3, -1), shown.coloured(outputs.argmax(-1))], 1),
    )


def subject(arguments: Arguments) -> tuple[cw.Model, float, Scenes]:
    """The network, the share of digits' pixels it labels rightly, and the first test images of which it labels most."""
    train, test = (
        scenes(data.load(arguments.data, split), arguments.seed + i) for i, split in enumerate(("train", "test"))
    )
    classes = 1 + len(data.SOURCES[arguments.data].classes)

    def loss(params, key, x, labels):
        logits = small_nets.labelled(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    fresh = small_nets.u_shaped(arguments.seed, train.images.shape[1:], classes)
    params = small_nets.train("a network of pixels", loss, fresh, train, updates=arguments.updates, rate=3e-3)
    model = cw.bind(small_nets.labelled, params)
    counted = test.labels > 0
    right = shown.share_of(shown.outputs_of(model, test.images), lambda said: said == test.labels, counted)
    kept = right >= 1 - MISSED
    say(
        f"The network labels {right.mean():.1%} of digits' pixels rightly, nine tenths of {kept.sum()} of {len(right)}."
    )
    return model, float(right.mean()), test.take(shown.first_of(kept, arguments.examples))


def scenes(some: data.Dataset, seed: int) -> Scenes:
    """Digits over noise, cut to a multiple of 4 pixels a side."""
    height, width = (side // 4 * 4 for side in some.images.shape[1:3])
    digits = some.images[:, :height, :width, :1]
    noise = np.random.default_rng(seed).uniform(0, NOISE, digits.shape).astype(np.float32)
    own = digits[..., 0] > BRIGHT
    return Scenes(np.maximum(digits, noise), np.where(own, 1 + some.labels[:, None, None], 0).astype(np.int32))


def said(answer: np.ndarray, labels: np.ndarray) -> str:
    """What the network makes of the digit's pixels, in words."""
    answers, counts = np.unique(answer[labels > 0], return_counts=True)
    most = counts.argsort()[::-1][:3]
    names = [f"{counts[i] / counts.sum():.0%} {f'a {answers[i] - 1}' if answers[i] else 'background'}" for i in most]
    return "the digit's pixels:\n" + ", ".join(names)


COLUMNS = (
    "the image",
    "what the network\nsees in it",
    "what the attack\nmade of it",
    "what the network\nsees in that",
    "the difference\n(red: brighter, blue: darker)",
)


def write(rows, arguments, told, test, clean, results, outputs) -> None:
    """The table, and the picture: one digit, and what each goal makes of it."""
    x, labels = test
    last = shown.lengths(x, np.asarray(list(results.values())[-1].x))
    place = int(np.argsort(last)[len(last) // 2])
    lines = []
    for name, result in results.items():
        image, answer = np.asarray(result.x[place]), outputs[name][place].argmax(-1)
        before = clean[place].argmax(-1)
        lines.append(
            shown.Row(
                f"asked for:\n{textwrap.fill(name, 18)}",
                (x[place, ..., 0], before, image[..., 0], answer, (image - x[place])[..., 0]),
                ("", said(before, labels[place]), "", said(answer, labels[place]), shown.in_words(x[place], image)),
            )
        )

    def chart(axes: Axes) -> None:
        for line, result in enumerate(results.values()):
            sizes = np.sort(shown.lengths(x, np.asarray(result.x))[np.asarray(result.success)])
            axes.plot(line + np.linspace(-0.3, 0.3, len(sizes)), sizes, "o", color=shown.BLUE, alpha=0.6, markersize=4)
            if sizes.size:
                axes.plot([line - 0.35, line + 0.35], [sizes.mean()] * 2, color=shown.ORANGE, linewidth=2.5)
        axes.set(ylim=(0, None), title="The more of the digit, the farther it is")
        axes.set_xticks(range(len(results)), [name.replace(" of the digit ", "\nof the digit\n") for name in results])
        axes.tick_params("x", labelsize=8)
        shown.plain(axes, "", "length of the change (a dot for each image, a line at the mean)")

    title = "A network that says of every pixel which digit it belongs to"
    figure = shown.picture(title, COLUMNS, lines, chart, classes=True)
    shown.write("segmentation", "Attacks on the labels of pixels", rows, figure, arguments, told=told)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
