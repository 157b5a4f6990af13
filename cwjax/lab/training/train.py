"""`cwjax train`."""

from pathlib import Path

import tyro

from cwjax.lab.console.parsing import DataFolder
from cwjax.lab.console.progress import say
from cwjax.lab.training import training

MODELS = Path("runs/models")


def train(
    settings: tyro.conf.OmitArgPrefixes[training.Training] = training.Training(),
    *,
    data_folder: DataFolder = None,
    out: Path = MODELS,
) -> None:
    """Train a network, or find it if it was trained before.

    A run that was stopped goes on at the epoch it was in. For instance, a small network in half a minute:

        cwjax train --data mnist5k --net mnist_small --recipe zoo_mnist

    Args:
      settings: what to train.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data).
      out: the folder of trained networks.
    """
    trained = training.train(settings, out, data_folder=data_folder)
    say(f"{trained.card['test_accuracy']:.2%} right on the {settings.data} test images")
    say(f"Network: {trained.folder}")
    where = f"--data {settings.data} --model {trained.folder}"
    how = "--attack fast_l2 --steps 100 --examples 20"
    say(f"Next:    cwjax attack {where} {how} --out runs/{trained.folder.name}")
