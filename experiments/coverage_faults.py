"""Are suspicious neurons the faulty ones? Faults are planted in a network, and a spectrum is asked where they are.

Claim: no measure finds the faulty neurons everywhere. Where a fifth of a hidden layer is broken, the best of
DeepFault's measures (Tarantula, Ochiai, D*) on one network is worse than chance on another. The paper had no such
ground truth.

Command:

    python -m experiments.coverage_faults --weights FILE --models zoo:mnist_cnn --data mnist --data-folder FOLDER
    python -m experiments.coverage_faults                                         # the zoo's networks on mnist5k

Cost: a minute of one core for three networks, 20 plantings of each kind.

Expect: recall, where chance has 0.20. LeNet-4 and LeNet-5: Tarantula of each class 0.38 and 0.35 (negated), 0.28 and
0.24 (noise); Ochiai and D* at most 0.20. The zoo's CNN: D* of all inputs 0.53 and 0.44, Tarantula at most 0.15. The
standard error is 0.04 at most. LeNet-1 has no hidden dense layer, and is left out.

A fault is of one of two kinds, in the last hidden layer. *Negated*: the weights into the neuron have the other sign.
*Noise*: they are drawn anew, with the same mean square. The network's errors on the test images fail, all others pass;
a neuron is active above 0. `plantings` networks are broken, each in other neurons. Recall is the share of the broken
neurons among as many of the most suspicious. A spectrum is of each class by itself, as in the paper, and the largest
score counts; or of all inputs at once.

Writes OUT/coverage_faults.md, .csv and .png.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.coverage import suspicion
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from experiments import coverage_subjects as subjects
from experiments import shown

MEASURES: dict[str, Callable] = {
    "Tarantula": suspicion.tarantula,
    "Ochiai": suspicion.ochiai,
    "D* (s = 3)": suspicion.d_star,
}


@dataclasses.dataclass(frozen=True)
class Arguments(subjects.Common):
    share: float = 0.2  # of the layer's neurons that are broken
    plantings: int = 20  # for each network and kind
    images: int = 2000  # the first test images
    out: Path = Path("runs/coverage_faults")  # where the results go


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each network, kind of fault and measure."""
    store.make_folder(arguments.out)
    rows = []
    for network in subjects.networks(arguments):
        layers = subjects.hidden_layers(network)
        if not layers:
            say(f"{network.name} has no hidden dense layer: left out")
            continue
        test = network.test.take(slice(arguments.images))
        size = cw.coverage.neurons(network.model, test.images, layers=layers[-1]).convention.neurons
        for kind in ("negated", "noise"):
            found: dict[tuple[str, str], list[float]] = {}
            failed, count = [], max(round(arguments.share * size), 1)
            for number in range(arguments.plantings):
                rng = np.random.default_rng([arguments.seed, number])
                broken = rng.choice(size, count, replace=False)
                model = planted(network.model, size, broken, kind, rng)
                wrong, scores = localised(model, layers[-1], test)
                failed.append(wrong.mean())
                for key, score in scores.items():
                    found.setdefault(key, []).append(recall(score, broken))
            told = {"network": network.name, "broken": f"{count} of {size}", "fault": kind}
            told |= {"errors": float(np.mean(failed))}
            for (measure, of), recalls in found.items():
                row = told | {"measure": measure, "spectrum of": of, "recall": float(np.mean(recalls))}
                rows.append(row | {"± (standard error)": error(recalls), "by chance": count / size})
                say(f"{network.name}, {kind}, {measure} of {of}: recall {np.mean(recalls):.2f}")
    if not rows:
        raise RuntimeError("none of these networks has a hidden dense layer: there is nowhere to plant a fault")
    told = ["Suspicion is a hint where to look. It is no measure of guilt: compare recall with chance."]
    shown.write("coverage_faults", "Planted faults found by suspicion", rows, figure(rows), arguments, told=told)
    return rows


def planted(model: cw.Model, size: int, broken: np.ndarray, kind: str, rng: np.random.Generator) -> cw.Model:
    """The network with broken neurons in its last hidden layer, whose kernel is the last but one of this width.

    Raises:
      ValueError: no kernel of a dense layer of this width.
    """
    leaves, structure = jax.tree.flatten(model.params)
    kernels = [i for i, leaf in enumerate(leaves) if jnp.ndim(leaf) == 2 and leaf.shape[1] == size]
    followed = [i for i in kernels if any(jnp.ndim(other) == 2 and other.shape[0] == size for other in leaves)]
    if not followed:
        raise ValueError(f"the network has no kernel [in, {size}] of a hidden dense layer")
    kernel = np.array(leaves[followed[-1]])
    if kind == "negated":
        kernel[:, broken] *= -1
    else:
        scale = np.sqrt(np.square(kernel[:, broken]).mean(0))
        kernel[:, broken] = rng.normal(size=(len(kernel), len(broken))) * scale
    leaves[followed[-1]] = jnp.asarray(kernel)
    return dataclasses.replace(model, params=jax.tree.unflatten(structure, leaves))


def localised(model: cw.Model, layer: str, test) -> tuple[np.ndarray, dict[tuple[str, str], np.ndarray]]:
    """Which images the network gets wrong; and how suspicious each neuron is, by each measure and spectrum."""
    neurons = cw.coverage.neurons(model, test.images, layers=layer)
    logits, activations = _seen(neurons, test.images)
    wrong = np.asarray(logits).argmax(-1) != test.labels
    active = activations.values > 0
    spectra = {
        "each class": suspicion.spectrum(active, wrong, test.labels, classes=logits.shape[-1]),
        "all inputs": suspicion.spectrum(active, wrong),
    }
    return wrong, {
        (name, of): np.asarray(measure(counts)).max(0)
        for of, counts in spectra.items()
        for name, measure in MEASURES.items()
    }


@jax.jit
def _seen(neurons, x):
    return neurons(x)


def recall(score: np.ndarray, broken: np.ndarray) -> float:
    """The share of the broken neurons that are among as many of the highest score."""
    return float(np.isin(broken, np.argsort(-score, kind="stable")[: len(broken)]).mean())


def error(values: list[float]) -> float:
    """The standard error of their mean; NaN of one."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def figure(rows: list[dict[str, Any]]) -> Figure:
    """A panel for each kind of fault: a bar for each network, measure and spectrum, and chance."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    keys = list(dict.fromkeys((row["measure"], row["spectrum of"]) for row in rows))
    drawn = Figure(figsize=(10, 3.8), dpi=110, layout="constrained")
    for axes, kind in zip(drawn.subplots(1, 2, sharey=True), ("negated", "noise"), strict=True):
        for number, key in enumerate(keys):
            own = [row for row in rows if row["fault"] == kind and (row["measure"], row["spectrum of"]) == key]
            at = np.arange(len(networks)) + 0.13 * (number - (len(keys) - 1) / 2)
            bars, errors = [row["recall"] for row in own], [row["± (standard error)"] for row in own]
            axes.bar(at, bars, 0.12, yerr=errors, label=", ".join(key), color=f"C{number}", ecolor="#888888")
        for place, network in enumerate(networks):
            chance = next(row["by chance"] for row in rows if row["network"] == network)
            axes.plot([place - 0.45, place + 0.45], [chance] * 2, color=shown.INK, linestyle="--", linewidth=1)
        axes.set_xticks(range(len(networks)), networks)
        axes.set_title(f"weights into the neuron: {kind}")
        shown.plain(axes, "", "recall" if kind == "negated" else "")
    handles, labels = drawn.axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    drawn.suptitle("Broken neurons among as many of the most suspicious; dashed: by chance")
    return drawn


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
