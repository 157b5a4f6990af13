"""How many on-off patterns of two neurons are reached: by natural images, and by Carlini-Wagner examples.

Claim: t-way combination coverage (DeepCT) grows with the number of inputs, and C&W examples reach no more of it than
equally many natural images. That describes them, and says nothing of the quality of a test.

Command:

    python -m experiments.coverage_combinations --weights FILE --models zoo:mnist_cnn --data mnist --data-folder FOLDER
    python -m experiments.coverage_combinations                                   # the zoo's networks on mnist5k

Cost: a minute of one core for three networks.

Expect: patterns of two neurons that 64 inputs reach, natural images that were attacked, others, C&W examples: LeNet-4
0.82, 0.82, 0.81; LeNet-5 0.88, 0.85, 0.84; the zoo's CNN 0.93, 0.93, 0.95. Twice as many inputs reach far more than
another suite does.

Counted are the pairs of neurons of each hidden dense layer. "Natural, others" are images that no attack started from.

Writes OUT/coverage_combinations.md, .csv and .png.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.lab.console.progress import say
from cwjax.lab.covering.covering import counts_of
from cwjax.lab.files import store
from experiments import coverage_subjects as subjects
from experiments import shown


@dataclasses.dataclass(frozen=True)
class Arguments(subjects.Common):
    examples: int = 64  # images that the attack is given, the first that the network gets right
    steps: int = 150  # gradients in each of 3 rounds
    strength: int = 2  # t
    out: Path = Path("runs/coverage_combinations")  # where the results go


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each network, suite and number of inputs."""
    store.make_folder(arguments.out)
    rows = []
    for network in subjects.networks(arguments):
        layers = subjects.hidden_layers(network)
        if not layers:
            say(f"{network.name} has no hidden dense layer: left out")
            continue
        neurons = cw.coverage.neurons(network.model, network.test.images, layers=layers)
        of = neurons.convention
        criteria = {
            name: cw.coverage.combination_coverage(of, strength=arguments.strength, share=share)
            for name, share in (("dense", None), ("sparse", 1))
        }
        for name, images in suites(network, arguments).items():
            counts = counts_of(len(images))
            for count, said in zip(counts, cw.coverage.curve(neurons, criteria, images, counts), strict=True):
                numbers = {each: coverage.value for each, coverage in said.items()}
                rows.append({"network": network.name, "suite": name, "inputs": count} | numbers)
            say(f"{network.name}, {name}: {rows[-1]['dense']:.3f} of all patterns by {len(images)} inputs")
    if not rows:
        raise RuntimeError("none of these networks has a hidden dense layer: there is nothing to count")
    told = ["Coverage describes these suites; it is no measure of quality. Compare rows of equal inputs."]
    title = f"{arguments.strength}-way combinations of neurons reached"
    shown.write("coverage_combinations", title, rows, figure(rows), arguments, told=told)
    return rows


def suites(network: subjects.Network, arguments: Arguments) -> dict[str, np.ndarray]:
    """Images, what the attack made of them, and other images, equally many."""
    images = subjects.right(network, arguments.examples)
    attack = subjects.l2(arguments.steps)
    made = subjects.attacked(network, attack, images, seed=arguments.seed)
    if not len(made):
        raise RuntimeError(f"the attack on {network.name} has no success: take more steps")
    others = network.test.images[np.flatnonzero(~network.wrong)[arguments.examples :]]
    found = {"natural, attacked": images.images, "natural, others": others, "C&W L2": made}
    return {name: some[: len(made)] for name, some in found.items()}


def figure(rows: list[dict[str, Any]]) -> Figure:
    """A panel for each network: patterns against inputs."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    drawn = Figure(figsize=(3.2 * len(networks) + 0.6, 3.6), dpi=110, layout="constrained")
    for axes, network in zip(drawn.subplots(1, len(networks), squeeze=False)[0], networks, strict=True):
        own = [row for row in rows if row["network"] == network]
        styles = ((shown.INK, "--"), ("#9a9a9a", "--"), (shown.ORANGE, "-"))
        for name, (colour, line) in zip(dict.fromkeys(row["suite"] for row in own), styles, strict=True):
            points = [(row["inputs"], row["dense"]) for row in own if row["suite"] == name]
            axes.plot(*zip(*points, strict=True), line, color=colour, marker=".", label=name)
        axes.set_xscale("log", base=2)
        axes.set_title(network)
        shown.plain(axes, "inputs", "share of all patterns" if network == networks[0] else "")
    drawn.axes[0].legend(frameon=False, fontsize=8)
    drawn.suptitle("On-off patterns of two neurons of a layer: a description, no quality")
    return drawn


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
