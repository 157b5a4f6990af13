"""DeepFault on digits: whether raising suspicious neurons finds more errors than raising random ones.

Claim: inputs that raise the suspicious neurons of a class leave their label hardly more often than inputs that raise
random neurons. At the same L-infinity size an attack on the label itself finds ten times as many, also with one step.

Command:

    python -m experiments.deepfault --weights FILE --models "" --data mnist --data-folder FOLDER --seeds 100  # LeNets
    python -m experiments.deepfault                                                   # a network of the zoo on mnist5k

Cost: a minute of processor time for the three LeNets and 100 seeds each.

Expect: within 0.1 in L-infinity, of 100 seeds each,

| search | LeNet-1 | LeNet-4 | LeNet-5 |
|---|---|---|---|
| suspects / random neurons, one step | 0 / 0 | 1 % / 0 | 0 / 0 |
| suspects / random neurons, 20 steps | 0 / 1 % | 4 % / 1 % | 4 % / 1 % |
| the label, one step (FGSM) | 44 % | 41 % | 33 % |
| the label, 20 steps (PGD) | 60 % | 66 % | 64 % |

A step of 1 along a slope that is not normalised is short, so one step finds next to nothing. Suspects lead random
neurons by three seeds in a hundred, which is little evidence. With DeepFault's zero, all 50 suspects of LeNet-4 and of
LeNet-5 would be others, and none of LeNet-1.

Suspects are the neurons of the highest Ochiai score for each class, from the whole test set. Random neurons are of the
suspects' layers and suspected for no class, as in the paper. LeNet-1 has too few of those: there they are any that this
class does not suspect. Seeds are test images that the network gets right. A class that has no errors has no suspects,
so it has no seeds. Two defects of DeepFault's code are counted over all classes. Its zero: after a ReLU it takes
inactive neurons of passed inputs for inactive neurons of failed ones, because it asks for a value below 0. Its ties: it
takes all neurons of the k highest scores layer by layer, so it may come to more than k, or miss the highest.

Writes OUT/deepfault.md, .csv and .png.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.coverage import Neurons, suspicion
from cwjax.generation import deepfault, requirements
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from experiments import coverage_subjects as subjects
from experiments import shown


@dataclasses.dataclass(frozen=True)
class Arguments(subjects.Common):
    models: tuple[str, ...] = ("zoo:mnist_lenet",)
    suspects: int = 5  # k, for each class
    epsilon: float = 0.1  # d
    steps: int = 20  # of the attacks that take more than one
    seeds: int = 200  # images, equally many of each class as far as there are
    out: Path = Path("runs/deepfault")  # where the results go


class Subject(NamedTuple):
    """A network, and the images that it is tested with."""

    name: str
    model: cw.Model
    neurons: Neurons  # hidden ones, channel means after the activation function
    x: np.ndarray
    labels: np.ndarray
    logits: np.ndarray


def main(arguments: Arguments, some: Sequence[Subject] | None = None) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each network and search."""
    store.make_folder(arguments.out)
    rows, told = [], []
    for subject in some or subjects_of(arguments):
        suspects = deepfault.suspects_of(subject.neurons, subject.x, subject.labels, k=arguments.suspects)
        places = seeds_of(subject, suspects, arguments.seeds)
        if not len(places):
            say(f"{subject.name} has no class with errors: left out")
            continue
        told.append(
            f"{subject.name}: {(subject.logits.argmax(-1) != subject.labels).sum()} of {len(subject.x)} test images "
            f"wrong. Suspects: {sum(map(len, suspects))}. With DeepFault's zero {zeros(subject, suspects)} would "
            f"be others. {ties(subject, suspects)}"
        )
        for name, x in searched(arguments, subject, suspects, places).items():
            wrong = shown.outputs_of(subject.model, x).argmax(-1) != subject.labels[places]
            size = np.abs(x - subject.x[places]).max()
            assert size <= arguments.epsilon + 1e-6, f"{name} moved a pixel by {size}"
            row = {
                "network": subject.name,
                "search": name,
                "seeds": len(places),
                "leave the label": float(wrong.mean()),
            }
            rows.append(row)
            say(f"{subject.name}, {name}: {wrong.mean():.1%}")
    if not rows:
        raise RuntimeError("no network makes an error on any class: nothing is suspected")
    title = f"Inputs within {arguments.epsilon:g} of their seeds that leave their label"
    shown.write("deepfault", title, rows, figure(rows), arguments, told=told)
    return rows


def subjects_of(arguments: Arguments) -> list[Subject]:
    """The networks of the weights' file and those named."""
    asked = dataclasses.replace(arguments, models=tuple(filter(None, arguments.models)))
    return [
        Subject(
            each.name,
            each.model,
            cw.coverage.neurons(each.model, each.test.images),
            each.test.images,
            each.test.labels,
            each.logits,
        )
        for each in subjects.networks(asked)
    ]


def seeds_of(subject: Subject, suspects: list[np.ndarray], count: int) -> np.ndarray:
    """The places of the first images of each class that the network gets right, where the class has suspects."""
    right, share = subject.logits.argmax(-1) == subject.labels, max(count // max(len(suspects), 1), 1)
    each = [np.flatnonzero(right & (subject.labels == label))[:share] for label, own in enumerate(suspects) if len(own)]
    return np.concatenate([*each, np.zeros(0, int)]).astype(int)


def searched(
    arguments: Arguments, subject: Subject, suspects: list[np.ndarray], places: np.ndarray
) -> dict[str, np.ndarray]:
    """What each search makes of the seeds: at its last point, or where it first left the label."""
    x, labels, rng = subject.x[places], subject.labels[places], np.random.default_rng(arguments.seed)
    every = np.unique(np.concatenate(suspects))
    others = []
    for own in suspects:
        try:
            others.append(deepfault.random_neurons(rng, subject.neurons, own, excluded=every))
        except ValueError:  # a small network has too few neurons that no class suspects: then this class alone counts
            left = np.setdiff1d(np.arange(subject.neurons.convention.neurons), own)
            others.append(rng.choice(left, min(len(own), len(left)), replace=False))
    goal = cw.untargeted(labels)
    size: dict[str, Any] = {"epsilon": arguments.epsilon}
    raising = {"suspects": goals_of(subject, suspects, labels), "random neurons": goals_of(subject, others, labels)}
    many: dict[str, Any] = {"steps": arguments.steps, "relative_step": 0.1, "random_start": False}
    made: dict[str, np.ndarray] = {}
    for name, attack in {
        "one step": deepfault.synthesis(**size),
        f"PGD, {arguments.steps} steps": cw.attacks.pgd(**size, **many, objective=requirements.suspects_raised()),
    }.items():
        run = jax.jit(cw.batched(attack))
        for what, aim in raising.items():
            made[f"{what}, {name}"] = examples(run, requirements.observed(subject.neurons), x, aim)
    for name, attack in {
        "FGSM": cw.attacks.fgsm(**size),
        f"PGD, {arguments.steps} steps": cw.attacks.pgd(**size, **many),
    }.items():
        made[f"the label, {name}"] = examples(jax.jit(cw.batched(attack)), subject.model, x, goal)
    return made


def examples(run: Any, model: cw.Model, x: np.ndarray, goal: Any) -> np.ndarray:
    """Where it succeeds its example, elsewhere the seed."""
    return np.asarray(run(model, jax.random.split(jax.random.key(0), len(x)), x, goal).x)


def goals_of(subject: Subject, neurons: list[np.ndarray], labels: np.ndarray) -> requirements.SuspectsGoal:
    """Of each seed, the neurons of its class."""
    convention, none = subject.neurons.convention, np.zeros(subject.neurons.convention.neurons, np.float32)
    goals = [requirements.suspects(cw.untargeted([0]), convention, own) if len(own) else None for own in neurons]
    weights = np.stack([none if goal is None else np.asarray(goal.weights[0]) for goal in goals])
    return requirements.SuspectsGoal(cw.untargeted(labels), jnp.asarray(weights[labels]))


def counts_of(subject: Subject) -> suspicion.Spectrum:
    """How often each neuron was active on the test images of each class, right and wrong."""
    values = subjects.activations(subject.neurons, subject.x).values
    failed = subject.logits.argmax(-1) != subject.labels
    return suspicion.spectrum(values > 0, failed, subject.labels, classes=subject.logits.shape[-1])


def zeros(subject: Subject, suspects: list[np.ndarray]) -> int:
    """How many suspects DeepFault's code would choose otherwise, because it counts what is 0 as failed."""
    counts = counts_of(subject)
    theirs = counts._replace(
        inactive_failed=counts.inactive_failed + counts.inactive_passed,
        inactive_passed=jnp.zeros_like(counts.inactive_passed),
    )
    scores = theirs.active_failed / jnp.sqrt(
        jnp.maximum((theirs.active_failed + theirs.inactive_failed) * (theirs.active_failed + theirs.active_passed), 1)
    )
    chosen = suspicion.most_suspicious(scores, max(map(len, suspects)))
    return sum(len(np.setdiff1d(own, other)) for own, other in zip(suspects, chosen, strict=True))


def ties(subject: Subject, suspects: list[np.ndarray]) -> str:
    """What DeepFault's rule for equal scores makes of the right scores, in words."""
    k, scores = max(map(len, suspects)), np.asarray(suspicion.ochiai(counts_of(subject)))
    parts = subject.neurons.convention.slices
    theirs = [as_released(parts, row, k) for row, own in zip(scores, suspects, strict=True) if len(own)]
    lost = sum(len(np.setdiff1d(own, each)) for own, each in zip(filter(len, suspects), theirs, strict=True))
    return f"With its rule for ties {sum(map(len, theirs))} would be suspected, and {lost} of ours not."


def as_released(layers: Sequence[slice], scores: np.ndarray, k: int) -> np.ndarray:
    """Whom DeepFault's code suspects: layer by layer all whose score is among the k highest.

    At k suspects it leaves the layer, and not the search. So the first layers are taken first, whatever their scores;
    and if the first neuron of the next layer is one of them, there are more than k.
    """
    least, found = np.sort(scores)[-min(k, len(scores))], []
    for part in layers:
        for place in range(part.start, part.stop):
            if scores[place] >= least:
                found.append(place)
            if len(found) == k:
                break
    return np.asarray(found, int)


def figure(rows: list[dict[str, Any]]) -> Figure:
    """A bar for each search, a panel for each network."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    drawn = Figure(figsize=(1.5 + 3.2 * len(networks), 3), dpi=110, layout="constrained")
    for axes, network in zip(drawn.subplots(1, len(networks), squeeze=False, sharey=True)[0], networks, strict=True):
        own = [row for row in rows if row["network"] == network][::-1]
        colours = [shown.ORANGE if "label" in row["search"] else shown.BLUE for row in own]
        axes.barh([row["search"] for row in own], [row["leave the label"] for row in own], color=colours)
        axes.set(xlim=(0, 1))
        axes.set_title(network)
        shown.plain(axes, "share of the seeds that leave their label", "")
    return drawn


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
