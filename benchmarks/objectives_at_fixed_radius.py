"""The seven objectives of Carlini & Wagner as losses of PGD and APGD within a given L-infinity radius.

Claim: none. Their Table III compares f1 to f7 in a search for the least distance; this is the other common question,
how many images stay right within a radius. f2 without its hinge is the loss of PMA (2025), which stands below with its
own schedule.

    python -m benchmarks.objectives_at_fixed_radius                # 200 digits, an hour on 2 busy cores
    python -m benchmarks.objectives_at_fixed_radius --examples 20 --steps 5

Network: `zoo:mnist_robust`, which was trained on images changed by up to 0.3; test digits that it gets right, away from
their labels. Every attack has the same number of gradients, in all runs together, and the same starts.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import cwjax as cw
from cwjax.lab.subjects import AUTO, subject_of


@dataclasses.dataclass(frozen=True)
class Arguments:
    model: str = "zoo:mnist_robust"
    data: str = AUTO
    examples: int = 200
    epsilon: float = 0.3  # of the network's training
    steps: int = 100  # gradients
    seed: int = 0


LOSSES: dict[str, Callable[[], cw.Objective]] = {
    **cw.objectives.OBJECTIVES,
    "f2 without its hinge": functools.partial(cw.objectives.probability_margin, hinged=False),
    "f5 without its hinge": functools.partial(cw.objectives.log_half_probability, hinged=False),
    "f6 without its hinge": cw.losses.negative_margin,
    "cross-entropy of the label": cw.losses.label_cross_entropy,
    "difference-of-logits ratio": cw.losses.logits_ratio,
}


def right_images(arguments: Arguments) -> tuple[cw.Model, np.ndarray, np.ndarray]:
    """The model, and images that it gets right, with their labels."""
    subject = subject_of(arguments.model, arguments.data)
    images, labels = subject.dataset.images, subject.dataset.labels
    answers = np.asarray(jax.jit(subject.model.apply)(subject.model.params, images)).argmax(1)
    right = np.flatnonzero(answers == labels)[: arguments.examples]
    return subject.model, images[right], labels[right]


def main(arguments: Arguments) -> dict[str, list[float]]:
    """Prints the table as Markdown; returns its shares of images that stay right, in percent, by the loss."""
    model, x, labels = right_images(arguments)
    x, goal, keys = jnp.asarray(x), cw.untargeted(labels), jax.random.split(jax.random.key(arguments.seed), len(x))
    told = {"epsilon": arguments.epsilon, "steps": arguments.steps}

    def stays(attack: cw.Attack) -> float:
        result = jax.jit(cw.batched(attack))(model, keys, x, goal)
        return 100 * (1 - float(result.success.mean()))

    print(f"{len(x)} images, epsilon {arguments.epsilon:g}, {arguments.steps} gradients: still right, in %\n")
    print("| loss | PGD | APGD |\n|---|---|---|")
    rows = {}
    for name, objective in LOSSES.items():
        makers = cw.attacks.pgd, cw.attacks.apgd
        rows[name] = [stays(make(objective=objective(), **told)) for make in makers]
        print(f"| {name} | {rows[name][0]:.1f} | {rows[name][1]:.1f} |", flush=True)
    rows["PMA"] = [stays(cw.attacks.pma(**told))]
    print(f"| PMA, by its own schedule | {rows['PMA'][0]:.1f} | – |")
    return rows


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
