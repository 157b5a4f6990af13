"""Networks and images that are kept apart: an attack that is tuned on the zoo is judged here, once.

Claim: nothing of an attack was chosen by looking at these. The networks have other seeds than those of the zoo, and
`frozen.json`, which is committed before an attack is changed, names each of them by the SHA-256 of its weights.

    python -m benchmarks.frozen                       # trains what is missing: 14 networks, some 40 minutes on one core
    python -m benchmarks.frozen --only winners-101
    cwjax attack --model runs/frozen/winners-101 --data mnist --attack fast_l2

Seven kinds of network, two seeds each, by short schedules: the least accurate is right on 93 % of the test images. A
run that was stopped goes on at the epoch it was in. Another machine, or other versions of JAX, give weights that differ
by rounding: the program says so, and then these are other networks of the same kinds. `--write` writes the list anew.

`subjects` gives the networks with the 64 digits of the list, and two networks of the zoo with its 64 photographs, to
`cwjax.lab.racing.racing.race`. The digits were drawn from the second half of the MNIST test images (numpy, seed 101):
races and tuning were on digits of the training images, and the zoo's robust accuracies on the first 1,000. The
photographs were drawn in the same way from the second half of the CIFAR-10 test images, of which cifar10_sample has
none: of 98 there whose exact pixels were at hand.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from cwjax.lab import data, zoo
from cwjax.lab.console.parsing import DataFolder
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from cwjax.lab.racing.racing import Subject
from cwjax.lab.training import training
from cwjax.lab.training.training import Training

LIST = Path(__file__).with_suffix(".json")
FOLDER = Path("runs/frozen")
SEEDS = (101, 102)
KINDS = {  # the digits of the last four kinds are all but those of mnist5k; the first three learn from 4,000
    "standard": Training(data="mnist5k", net="mnist_cnn", recipe="zoo_mnist", epochs=8),
    "distilled": Training(data="mnist5k", net="mnist_cnn", recipe="distilled", epochs=5),
    "robust": Training(data="mnist5k", net="mnist_cnn", recipe="adversarial", epochs=6),
    "squared": Training(data="mnist_rest", net="mnist_dense", recipe="squared", epochs=6),
    "certified": Training(data="mnist_rest", net="mnist_small", recipe="certified", epochs=3),
    "winners": Training(data="mnist_rest", net="mnist_winners", recipe="winners", epochs=1),
    "lenet": Training(data="mnist_rest", net="mnist_lenet", recipe="adversarial_l2", epochs=1),
}
PHOTOGRAPHS = ("cifar_cnn", "cifar_resnet")  # the networks of the zoo that look at the photographs


def wanted() -> dict[str, Training]:
    """What to train, by name: each kind with each seed."""
    return {f"{kind}-{seed}": dataclasses.replace(KINDS[kind], seed=seed) for kind in KINDS for seed in SEEDS}


def network(name: str, folder: Path = FOLDER, *, data_folder: Path | None = None) -> training.Trained:
    """The network of a name, trained if it is missing.

    Args:
      name: a kind and a seed, such as "winners-101".
      folder: of the networks.
      data_folder: see `data.load`.

    Raises:
      ValueError: no network has this name.
    """
    plans = wanted()
    if name not in plans:
        raise ValueError(f"no frozen network is called {name!r}: choose one of {', '.join(plans)}")
    place = folder / name
    if not (place / "card.json").exists():
        trained = training.train(plans[name], folder / "unfinished", data_folder=data_folder)
        shutil.move(trained.folder, place)
    return training.load(place)


def described(name: str, trained: training.Trained) -> dict[str, Any]:
    """The row of a network in the list."""
    card = trained.card
    return dataclasses.asdict(wanted()[name]) | {
        "test_accuracy": card["test_accuracy"],
        "sha256": card["sha256"],
        "machine": card["environment"]["machine"],
        "jax": card["environment"]["jax"],
    }


def images(what: str, data_folder: Path | None = None) -> data.Dataset:
    """The images of the list, in its order. Raises what `data.load` raises.

    Args:
      what: "digits" or "photographs".
      data_folder: where the official files are, see `data.load`.
    """
    told = store.read_json(LIST)[what]
    return data.load(told["data"], "test", data_folder).take(np.array(told["places"]))


def subjects(folder: Path = FOLDER, *, data_folder: Path | None = None, photographs: bool = True) -> list[Subject]:
    """All frozen networks with the digits, and networks of the zoo with the photographs.

    Args:
      folder: of the networks; those that are missing are trained.
      data_folder: where the official files of MNIST and CIFAR-10 are, see `data.load`.
      photographs: whether to have the networks of the zoo as well, which needs the files of CIFAR-10.
    """
    digits = images("digits", data_folder)
    found = [Subject(name, network(name, folder, data_folder=data_folder).model, digits) for name in wanted()]
    if photographs:
        seen = images("photographs", data_folder)
        found += [Subject(f"zoo:{name}", zoo.load(name).model, seen) for name in PHOTOGRAPHS]
    return found


def main(
    *,
    out: Path = FOLDER,
    only: tuple[str, ...] = (),
    data_folder: DataFolder = None,
    write: bool = False,
) -> None:
    """Trains the frozen networks that are missing, and says whether their weights are those of the list.

    Args:
      out: the folder of the networks.
      only: those to look after (by default all).
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data).
      write: the rows of these networks in the list, instead of comparing with it.
    """
    told = store.read_json(LIST)
    for name in only or wanted():
        trained = network(name, out, data_folder=data_folder)
        row = described(name, trained)
        right = f"{row['test_accuracy']:.2%} right"
        if write:
            rows = told["networks"] | {name: row}
            told["networks"] = {each: rows[each] for each in wanted() if each in rows}
            store.write_json(LIST, told)
            say(f"{name}: {right}, written to {LIST}")
        elif row["sha256"] == told["networks"].get(name, {}).get("sha256"):
            say(f"{name}: {right}, the weights of the list")
        else:
            say(f"{name}: {right}, other weights than those of the list, which another machine or version made")


if __name__ == "__main__":
    tyro.cli(main)
