"""How a trained network gets into the zoo.

from cwjax.lab import data
from cwjax.lab.training import training
from cwjax.lab.zoo import packing

trained = training.train(training.Training(data="mnist_rest", recipe="zoo_mnist"), Path("runs/models"))
packing.pack(trained, "mnist_cnn", data.load("mnist_rest", "test"), command="cwjax train …")
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.lab import data, zoo
from cwjax.lab.files import store
from cwjax.lab.training import training
from cwjax.lab.training.epochs import attacked
from cwjax.lab.training.label_losses import cross_entropy
from cwjax.lab.training.recipes import Adversary
from cwjax.models import Model
from cwjax.runners.fast_convolutions import canonical

BATCH = 500


def pack(
    trained: training.Trained, name: str, test_set: data.Dataset, *, to: Path | None = None, **notes: Any
) -> training.Trained:
    """Writes the weights as float16, and the card with the accuracy and loss that they then have.

    Args:
      trained: what to pack.
      name: of `zoo.NAMES`.
      test_set: where accuracy is measured anew.
      to: the folder that gets a folder of that name; None: where `zoo.load` looks for it.
      notes: more for the card, such as the command that trained the network, or what its images lacked.
    """
    halves = jax.tree.map(lambda weight: np.asarray(weight, np.float16), trained.model.params)
    model = dataclasses.replace(trained.model, params=jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), halves))
    accuracy, loss = measured(model, test_set)
    place = zoo.folder_of(name) if to is None else to / name
    weights = place / "weights.safetensors"
    store.write_arrays(weights, halves)
    figures = {
        "dtype": "float16",
        "parameters": sum(weight.size for weight in jax.tree.leaves(halves)),
        "test_accuracy": accuracy,
        "test_loss": loss,
        "sha256": store.fingerprint(weights),
    }
    store.write_json(place / "card.json", {"name": name} | trained.card | figures | notes)
    return training.load(place)


def measured(model: Model, dataset: data.Dataset) -> tuple[float, float]:
    """Accuracy and mean cross-entropy."""

    @jax.jit
    def measure(params, images, labels):
        logits = model.apply(params, images)
        return (logits.argmax(-1) == labels).sum(), cross_entropy(logits, labels).sum()

    parts = [measure(model.params, dataset.images[p], dataset.labels[p]) for p in _parts(dataset)]
    right, loss = (float(sum(part[k] for part in parts)) / len(dataset.labels) for k in range(2))
    return right, loss


def robust_accuracy(
    model: Model, dataset: data.Dataset, *, epsilon: float, steps: int = 100, norm: str = "linf", seed: int = 0
) -> float:
    """The share of images that are right where projected gradient ascent, from a random start, ends.

    Args:
      model: a classifier.
      dataset: the images, and their labels.
      epsilon: the greatest change, in the norm.
      steps: of 2.5·epsilon/steps.
      norm: "linf" or "l2".
      seed: of the starts.
    """

    @jax.jit
    def stands(params, key, images, labels):
        slope = canonical(jax.grad(lambda x: cross_entropy(model.apply(params, x), labels).sum()))
        worst = attacked(key, images, slope, Adversary(epsilon=epsilon, steps=steps, ramp=1.0, norm=norm))
        return (model.apply(params, worst).argmax(-1) == labels).sum()

    keys = jax.random.split(jax.random.key(seed), len(_parts(dataset)))
    counts = [
        stands(model.params, key, dataset.images[p], dataset.labels[p])
        for key, p in zip(keys, _parts(dataset), strict=True)
    ]
    return float(sum(counts)) / len(dataset.labels)


def _parts(dataset: data.Dataset) -> list[slice]:
    return [slice(i, i + BATCH) for i in range(0, len(dataset.labels), BATCH)]
