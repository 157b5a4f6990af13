"""DeepRoad: a trained translator to another weather, scored against the weather itself, which its authors could not do.

Claim: a small translator is worse than moving the colours of one set of images to those of another, which is one
matrix, wherever that can work (fog, night). Inconsistencies that a translation reports are partly its own faults: with
the operator at hand one can count them.

Command:

    python -m experiments.deeproad                                # digits
    python -m experiments.deeproad --roads --frames FILE --weathers fog rain    # a drive; without --frames drawn roads

Cost: two minutes of one core for each weather on digits, most of it the translator's training; roads with
`--updates 0` one minute.

Expect, on digits: error of moved colours and of the translator 0.001 and 0.047 (fog), 0.000 and 0.053 (night), 0.024
and 0.088 (rain), 0.34 and 0.72 (inverted); of nothing 0.435, 0.078, 0.014 and 0.945. Under fog the network loses 17 %
of its labels; the translator's fog reports 50 %, of which a third is right. At night it reports 10 %, of which 58 % are
right, where the operator has 6 %. A translator that begins with the image itself does not find a weather that reverses
light; with `--no-alike` its error is 0.20 there, and one matrix has 0.34. Moved colours report what the operator does,
where they can make it. The validator hardly sees any of this (AUROC 0.3 to 0.8).
On the frames of a drive with `--updates 0`: of 200 none breaks the relation in fog or at night, 2 % in rain, 39 %
inverted.

The target domain is made by a known operator from other images than the source, without pairs. `error` is the mean
absolute difference of a translated held-out image from what the operator makes of it. `nothing` leaves the image as it
is: a translation that is farther off is worse than none. A report is an image whose answer changes by more than epsilon
(digits: whose label changes); `right` is the share of reports that the operator's own image confirms, and `found` the
share of the operator's that are reported.

Input validation: the distance of the network's last hidden layer, whitened, from the training images (`validator`).
AUROC of clean held-out images against translated ones, and the share that the threshold at 5 % of held-out training
images rejects.

Published: DeepRoad reports thousands of inconsistencies of three Udacity networks under rain and snow (Zhang et al.
2018, abstract); those networks and weathers are not public. Its VGG features are replaced by the network's own.

Writes OUT/deeproad.md, .csv and .png.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.generation import deeproad, metamorphic
from cwjax.lab import data
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from cwjax.lab.subjects import model_of
from experiments import roads, shown, translators


@dataclasses.dataclass(frozen=True)
class Arguments:
    roads: bool = False  # steering on road frames in the place of digits
    frames: Path | None = None  # of a real drive, see experiments.roads
    model: str = "zoo:mnist_lenet"  # that says what a digit is, see cwjax.lab.subjects
    weathers: tuple[str, ...] = tuple(deeproad.WEATHERS)
    images: int = 200  # held-out images that are judged
    updates: int = 600  # of the translator; 0: none
    channels: int = 8  # of its first layers
    alike: bool = True  # whether it begins with the image itself
    steering: int = 300  # updates of the steering network
    epsilon: float = 0.1  # radians by which the steering may change
    seed: int = 0
    out: Path = Path("runs/deeproad")  # where the results go


class Subject(NamedTuple):
    """What is translated, and who looks at it."""

    first: np.ndarray  # images of the source domain
    second: np.ndarray  # other images, of which the target domain is made
    held_out: np.ndarray
    model: cw.Model
    relation: metamorphic.Relation  # of the held-out images


def main(arguments: Arguments, digits: tuple[cw.Model, np.ndarray, np.ndarray] | None = None) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each weather and translator.

    Args:
      arguments: see the head of the file.
      digits: a network with images to train on and held-out ones, in the place of those that are named.
    """
    store.make_folder(arguments.out)
    subject = _roads(arguments) if arguments.roads else _digits(arguments, digits)
    features = _features(subject)
    half = len(subject.first) // 2
    valid = deeproad.validator(features(subject.first[:half]), features(subject.first[half:]))
    clean = valid.distance(features(subject.held_out))
    rows, pictures = [], {}
    for name in arguments.weathers:
        operator = deeproad.WEATHERS[name]
        true, others = (np.asarray(operator(x)) for x in (subject.held_out, subject.second))
        made = {"nothing": subject.held_out, "the operator itself": true, "moved colours": _moved(subject, others)}
        if arguments.updates:
            trained = translators.train(
                subject.first,
                others,
                updates=arguments.updates,
                channels=arguments.channels,
                alike=arguments.alike,
                seed=arguments.seed,
            )
            made["translator"] = translators.Translator(trained, "first")(subject.held_out)
        real = _violated(subject, true)
        for by, x in made.items():
            reported, far = _violated(subject, x), valid.distance(features(x))
            rows.append(
                {
                    "weather": name,
                    "made by": by,
                    "error": float(np.abs(x - true).mean()),
                    "reports": float(reported.mean()),
                    "right": float(real[reported].mean()) if reported.any() else float("nan"),
                    "found": float(reported[real].mean()) if real.any() else float("nan"),
                    "AUROC": deeproad.separation(clean, far),
                    "rejected": float((np.asarray(far) > valid.threshold).mean()),
                }
            )
        pictures[name] = {by: x[0] for by, x in made.items()}
        errors = [f"{row['error']:.3f} by {row['made by']}" for row in rows[-len(made) :] if row["error"]]
        say(f"{name}: error {', '.join(errors)}")
    shown.write("deeproad", "Translated weather against the weather itself", rows, figure(pictures), arguments)
    return rows


def _moved(subject: Subject, others: np.ndarray) -> np.ndarray:
    return np.asarray(deeproad.colours_between(subject.first, others)(subject.held_out))


def _digits(arguments: Arguments, digits: tuple[cw.Model, np.ndarray, np.ndarray] | None) -> Subject:
    model, train, test = digits or (
        model_of(arguments.model)[0],
        *(data.load("mnist5k", split).images for split in ("train", "test")),
    )
    half, held_out = len(train) // 2, test[: arguments.images]
    said = shown.outputs_of(model, held_out).argmax(-1)
    return Subject(train[:half], train[half:], held_out, model, metamorphic.label_kept(said))


def _roads(arguments: Arguments) -> Subject:
    drive = roads.of_file(arguments.frames) if arguments.frames else roads.drawn()
    model = roads.steering(drive.train, updates=arguments.steering, seed=arguments.seed)
    frames, held_out = drive.train.frames, drive.held_out.frames[: arguments.images]
    error = np.square(shown.outputs_of(model, drive.held_out.frames) - drive.held_out.angles).mean()
    say(f"The steering's squared error on held-out blocks is {error:.4f}; of 0 it is {_of_zero(drive):.4f}.")
    half = len(frames) // 2
    relation = metamorphic.outputs_kept(shown.outputs_of(model, held_out), arguments.epsilon)
    return Subject(frames[:half], frames[half:], held_out, model, relation)


def _of_zero(drive: roads.Drive) -> float:
    return float(np.square(drive.held_out.angles).mean())


def _features(subject: Subject) -> Callable[[np.ndarray], np.ndarray]:
    """What the network's last hidden layer says of images, [B, F]."""
    units = cw.coverage.neurons(subject.model, subject.first[:1])
    last = units.convention.layers[-1].name
    units = cw.coverage.neurons(subject.model, subject.first[:1], layers=(last,), unit="element")
    ask = jax.jit(lambda x: units(x)[1].values)
    return lambda x: np.concatenate([np.asarray(ask(x[i : i + 100])) for i in range(0, len(x), 100)])


def _violated(subject: Subject, x: np.ndarray) -> np.ndarray:
    return np.asarray(metamorphic.violated(subject.relation, jnp.asarray(shown.outputs_of(subject.model, x))))


def figure(pictures: dict[str, dict[str, np.ndarray]]) -> Figure:
    """A line for each weather: the image as it is, the weather, moved colours and the translator."""
    titles = tuple(next(iter(pictures.values())))
    drawn = Figure(figsize=(1.9 * len(titles) + 0.8, 1.7 * len(pictures) + 0.4), dpi=110, layout="constrained")
    grid = drawn.subplots(len(pictures), len(titles), squeeze=False)
    for line, (name, images) in zip(grid, pictures.items(), strict=True):
        for axes, image in zip(line, images.values(), strict=True):
            axes.imshow(np.clip(image, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=9)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    return drawn


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
