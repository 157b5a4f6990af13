"""What the experiments attack: a trained network and the first test images of its data set."""

from pathlib import Path

import cwjax as cw
from cwjax.lab import data
from cwjax.lab.training import training


def subject(
    name: str, *, epochs: int, examples: int, models: Path, net: str = "mnist_cnn"
) -> tuple[training.Trained, data.Dataset]:
    """The network, trained or found under `models`, and the images, checked to fit it."""
    trained = training.train(training.Training(data=name, net=net, epochs=epochs), models)
    dataset = data.load(name, "test")
    some = dataset._replace(
        images=dataset.images[:examples], labels=dataset.labels[:examples], index=dataset.index[:examples]
    )
    cw.validate(trained.model, some.images, cw.untargeted(some.labels))
    return trained, some
