"""DeepCT on a digit network: tests for patterns of two neurons that nothing has reached, many at once.

Claim: an attack that is told a pattern of two neurons that are on or off reaches most patterns that a few digits leave,
within 0.3 of a digit in L-infinity. The same number of random points around the digits reaches far fewer.

Command:

    python -m experiments.deepct
    python -m experiments.deepct --model zoo:mnist_cnn

Cost: 20 seconds of processor time for the zoo's LeNet.

Expect: of 192 patterns that 20 digits leave, 64 % are reached by 60 tests, 6 % by as many random points, 33 % by as
many natural images, 21 % by as many examples of Carlini & Wagner's L2 attack, and 8 % by 20 of FMN on the label. Dense
coverage goes from 74.3 % to 83.1 % by patterns, 80.8 % by natural images, 78.6 % and 76.5 % by the attacks and 76.1 %
by random points; natural images lead in sparse coverage, 57.3 % against 52.3 %. Of the tests for patterns 5 % leave the
label of their seed.

Neurons are those of the hidden dense layers. Coverage is dense and sparse 2-way combination coverage of the whole
suite. The paper's tables could not be read, so there is no published number beside these.

Coverage describes the tests; it is no measure of their quality. Writes OUT/deepct.md, .csv and .png.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.generation import deepct, requirements, suites
from cwjax.lab import data
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from cwjax.lab.subjects import model_of
from experiments import shown


@dataclasses.dataclass(frozen=True)
class Arguments:
    model: str = "zoo:mnist_lenet"  # see cwjax.lab.subjects
    data: str = "mnist5k"  # see cwjax.lab.data
    seeds: int = 20  # the first test images that the network gets right
    patterns: int = 192  # of those that the seeds leave, drawn at random
    strength: int = 2  # t
    steps: int = 20  # gradients for a pattern
    radius: float = 0.3  # in L-infinity
    lanes: int = 64  # patterns at once
    seed: int = 0
    out: Path = Path("runs/deepct")  # where the results go


def main(
    arguments: Arguments, model: cw.Model | None = None, images: data.Dataset | None = None
) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each suite."""
    store.make_folder(arguments.out)
    model = model or model_of(arguments.model)[0]
    test = images or data.load(arguments.data, "test")
    right = ~shown.wrong(model, test.images, test.labels)
    places = shown.first_of(right, len(test.images))
    seeds, labels = test.images[places[: arguments.seeds]], test.labels[places[: arguments.seeds]]
    every = cw.coverage.neurons(model, seeds).convention.layers
    dense = [layer.name for layer in every if len(layer.shape) == 1]
    units = cw.coverage.neurons(model, seeds, layers=dense, value="before")
    left = deepct.patterns_left(
        suites.values_of(units, seeds),
        units.convention,
        strength=arguments.strength,
        most=arguments.patterns,
        seed=arguments.seed,
    )
    attack = cw.attacks.fmn(norm="linf", objective=requirements.neurons_reached(hinged=False), steps=arguments.steps)
    run = jax.jit(cw.discretised(cw.batched(attack), between=(0, 1), steps=10))
    grown = deepct.combination_cover(run, units, seeds, left, radius=arguments.radius, lanes=arguments.lanes, rounds=1)
    count, rng = len(grown.x) - len(seeds), np.random.default_rng(arguments.seed)
    say(f"{grown.share:.1%} of {len(left.neurons)} patterns by {count} tests")
    if not count:
        raise RuntimeError("the attack reaches none of the patterns: take more steps or a larger radius")
    origin = seeds[np.arange(count) % len(seeds)]
    fooled = jax.jit(cw.batched(cw.attacks.fmn(norm="linf", steps=arguments.steps)))(
        model,
        jax.random.split(jax.random.key(0), len(seeds)),
        seeds,
        cw.untargeted(labels),
    )
    classes = jax.eval_shape(model.apply, model.params, seeds).shape[-1]
    added = {
        "seeds alone": seeds[:0],
        "patterns": grown.x[len(seeds) :],
        "random points": np.clip(origin + arguments.radius * rng.choice([-1.0, 1.0], origin.shape), 0, 1),
        "natural images": test.images[places[arguments.seeds :]][:count],
        "FMN on the label": np.asarray(fooled.x)[np.asarray(fooled.success)][:count],
        "Carlini & Wagner, L2": carlini_wagner(model, seeds, labels, -(-count // len(seeds)), classes)[:count],
    }
    criteria = {
        name: cw.coverage.combination_coverage(units.convention, strength=arguments.strength, share=share)
        for name, share in (("dense", None), ("sparse", 1))
    }
    rows = []
    for name, some in added.items():
        suite = np.concatenate([seeds, some.astype(seeds.dtype)])
        said = cw.coverage.measure(units, criteria, suite)
        on = suites.values_of(units, suite) > 0
        reached = [(on[:, n] == o).all(1).any() for n, o in zip(left.neurons, left.on, strict=True)]
        rows.append(
            {"added": name, "tests added": len(some), "patterns reached": float(np.mean(reached))}
            | {each: coverage.value for each, coverage in said.items()}
        )
    far = grown.distance[len(seeds) :]
    told = [
        f"{len(left.neurons)} patterns of {arguments.strength} neurons that {len(seeds)} digits leave. Of the tests "
        f"for them {grown.adversarial[len(seeds) :].mean():.1%} leave the label of their seed; the median L-infinity "
        f"distance is {np.median(far):.3f}, the least {far.min():.4f}.",
        "Coverage describes the tests; it is no measure of their quality.",
    ]
    shown.write("deepct", "Patterns of neurons reached", rows, figure(rows), arguments, told=told)
    return rows


def carlini_wagner(model: cw.Model, seeds: np.ndarray, labels: np.ndarray, targets: int, classes: int) -> np.ndarray:
    """The successes of the paper's L2 attack, short, from each seed towards the `targets` classes after its own."""
    away = np.arange(1, min(targets, classes - 1) + 1)
    x, target = np.concatenate([seeds] * len(away)), (np.tile(labels, len(away)) + away.repeat(len(seeds))) % classes
    attack = cw.l2(steps=200, box=cw.boxes.projected())
    result = jax.jit(cw.batched(attack))(model, jax.random.split(jax.random.key(0), len(x)), x, cw.targeted(target))
    return np.asarray(result.x)[np.asarray(result.success)]


def figure(rows: list[dict[str, Any]]) -> Figure:
    """Dense and sparse coverage of each suite."""
    drawn = Figure(figsize=(6, 3), dpi=110, layout="constrained")
    axes = drawn.subplots()
    place = np.arange(len(rows))
    for shift, what, colour in ((-0.2, "dense", shown.BLUE), (0.2, "sparse", shown.ORANGE)):
        axes.barh(place + shift, [row[what] for row in rows], 0.38, color=colour, label=what)
    axes.set_yticks(place, [f"{row['added']} ({row['tests added']})" for row in rows])
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    shown.plain(axes, "combination coverage", "")
    return drawn


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
