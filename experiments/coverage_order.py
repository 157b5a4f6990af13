"""Which order finds a network's errors first: by uncertainty, by surprise, by coverage, or by chance.

Claim: an order by the network's own uncertainty (DeepGini, largest softmax, entropy) finds errors far earlier than an
order by the coverage of hidden neurons, which is little better than chance (Feng et al. 2020; Weiss and Tonella 2022).

Command:

    python -m experiments.coverage_order --weights FILE --models zoo:mnist_cnn --data mnist --data-folder FOLDER
    python -m experiments.coverage_order                                       # the zoo's networks on mnist5k

Cost: a minute and a half of one core for four networks and 10,000 images.

Expect: on DeepXplore's LeNet-5 DeepGini 0.970, largest softmax 0.970, entropy 0.970, DSA 0.955, NBC 0.596, NC (0.75)
0.570, chance 0.494; the best there is is 0.994. Uncertainty is first on all four networks (0.954 to
0.987). NC is high where it measures uncertainty: the LeNets count their outputs as neurons, so that an unsure image
covers two of them. On LeNet-1 NC has 0.906 with the outputs, and 0.59 without. On the zoo's CNN, where outputs do not
count, NC has 0.287: worse than chance.

The number is APFD: 1 - k/(2n) at best with k errors among n images, one half by chance. DSA compares with a share of
the training images, in the last hidden layer. CTM orders by what each image covers alone; CAM by what it adds.

Writes OUT/coverage_order.md, .csv and .png.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.coverage import priority, surprise, uncertainty
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from experiments import coverage_subjects as subjects
from experiments import shown


@dataclasses.dataclass(frozen=True)
class Arguments(subjects.Common):
    reference: int = 18_000  # training images that DSA compares with
    draws: int = 20  # of the order by chance
    out: Path = Path("runs/coverage_order")  # where the results go


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each network and order."""
    store.make_folder(arguments.out)
    rows = []
    for network in subjects.networks(arguments):
        wrong, count = network.wrong, len(network.wrong)
        if not wrong.any():
            raise RuntimeError(f"{network.name} gets all {count} images right: there are no errors to find")
        for name, order in orders(network, arguments).items():
            found = [priority.faults_found_early(each, wrong) for each in order]
            best = 1 - wrong.sum() / (2 * count)
            row = {"network": network.name, "images": count, "errors": int(wrong.sum()), "order": name}
            rows.append(row | {"APFD": float(np.mean(found)), "best there is": best})
            say(f"{network.name}, {name}: {np.mean(found):.3f}")
    told = ["APFD is about the errors of this network on these images. It is no measure of the images' quality."]
    shown.write("coverage_order", "How early an order finds the errors", rows, figure(rows), arguments, told=told)
    return rows


def orders(network: subjects.Network, arguments: Arguments) -> Mapping[str, list[np.ndarray]]:
    """Orders of the test images, by name; several of them by chance."""
    rng = np.random.default_rng(arguments.seed)
    logits = network.logits
    scores = {
        "DeepGini": uncertainty.gini(logits),
        "largest softmax": uncertainty.least_confidence(logits),
        "entropy": uncertainty.entropy(logits),
        "margin": uncertainty.margin(logits),
        "DSA": distances(network, arguments.reference),
    }
    found = {name: [priority.by_score(score)] for name, score in scores.items()}
    units = network.neurons
    profile = cw.coverage.profiled(units, network.train.images, batch=250)
    seen = subjects.activations(units, network.test.images)
    for criterion in (
        cw.coverage.boundary_coverage(profile),
        cw.coverage.neuron_coverage(units.convention, threshold=0.75),
    ):
        covered = priority.covered_by_each(criterion, seen)
        found[f"{criterion.name}, CTM"] = [priority.by_total_coverage(covered)]
        found[f"{criterion.name}, CAM"] = [priority.by_additional_coverage(covered)]
    found["chance"] = [rng.permutation(len(logits)) for _ in range(arguments.draws)]
    return found


def distances(network: subjects.Network, count: int) -> np.ndarray:
    """DSA in the last hidden layer."""
    layers = network.neurons.convention.layers
    classes = network.logits.shape[-1]
    hidden = [i for i, layer in enumerate(layers) if layer.neurons > classes][-1]
    part = network.neurons.convention.slices[hidden]
    known = network.train.images[:count]
    said = shown.outputs_of(network.model, known, at_once=500).argmax(-1)
    reference = np.asarray(subjects.activations(network.neurons, known).values)[:, part]
    values = np.asarray(subjects.activations(network.neurons, network.test.images).values)[:, part]
    return surprise.distance_surprise(reference, said, values, network.logits.argmax(-1))


def figure(rows: list[dict[str, Any]]) -> Figure:
    """A dot for each network and order."""
    names, networks = (list(dict.fromkeys(row[key] for row in rows)) for key in ("order", "network"))
    drawn = Figure(figsize=(8, 4.6), dpi=110, layout="constrained")
    axes = drawn.add_subplot()
    for number, network in enumerate(networks):
        values = [row["APFD"] for row in rows if row["network"] == network]
        axes.plot(values, range(len(names)), "o", label=network, color=f"C{number}", alpha=0.8)
    axes.axvline(0.5, color="#bbbbbb", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="upper left")
    axes.set_title("How early each order finds a network's errors")
    shown.plain(axes, "APFD: 1 at best, one half by chance", "")
    return drawn


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
