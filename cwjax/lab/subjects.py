"""Models by name: a folder, a function, or a network of the zoo; and the data that suits each."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cwjax.arguments import check_logits
from cwjax.frameworks import described
from cwjax.lab import functions
from cwjax.lab.console.progress import say
from cwjax.lab.data import SOURCES, Dataset, load
from cwjax.lab.racing.racing import Subject
from cwjax.lab.training import training
from cwjax.models import Model
from cwjax.tasks import Task

ZOO = "zoo:"
AUTO = "auto"  # the data that suits a model, see `data_for`
TASK = "task:"  # and the name of the function: the inputs that a task brings

MET = ("goal not met", "goal met")  # in the place of classes, of the inputs of a task
_SAMPLES = {"mnist5k": (28, 28, 1), "cifar10_sample": (32, 32, 3)}  # data that comes along -> the shape of an image


def model_of(name: str) -> tuple[Model, dict[str, Any]]:
    """The model and its card: what is known of a network, as card.json beside its weights has it.

    Args:
      name: a folder that `cwjax train` wrote; zoo:NAME, a network that is published with the library; or
        MODULE:FUNCTION, a function without arguments that returns what `cwjax.bind` returns, or a `cwjax.Task`.

    Raises:
      ValueError: there is no such model, or it is none.
    """
    if ":" not in name or Path(name).exists():
        trained = training.load(Path(name))
        return trained.model, trained.card
    if name.startswith(ZOO):
        from cwjax.lab import zoo

        trained = zoo.load(name.removeprefix(ZOO))
        return trained.model, trained.card
    model = _returned(name, functions.named("--model", name))
    if isinstance(model, Task):
        return model.model, {"function": name, "task": model.name}
    if not isinstance(model, Model):
        came = described(model, between=" | ")
        raise ValueError(f"--model {name} must return what cwjax.bind returns, or a cwjax.Task, got {came}")
    return model, {"function": name}


@functools.cache
def _returned(name: str, function: Callable[[], Any]) -> Any:
    """What the function returns. It is called once in a process, because it may train a network."""
    with functions.blamed("--model", name):
        return function()


def dataset_of(data: str, folder: Path | None = None) -> Dataset:
    """The test images of that name: a key of `data.SOURCES`; or "task:MODULE:FUNCTION", the inputs of a task.

    Raises:
      ValueError: there is none, or the function returns no task.
      data.MissingData, data.CorruptData: see `data.load`.
    """
    if not data.startswith(TASK):
        return load(data, "test", folder)
    name = data.removeprefix(TASK)
    task = _returned(name, functions.named("--data", name))
    if not isinstance(task, Task):
        raise ValueError(f"--data {data} must return a cwjax.Task, got {described(task, between=' | ')}")
    index = np.arange(len(task.x))
    return Dataset(task.name, "test", task.x, np.zeros(len(index), np.int32), MET, index, task)


def data_for(data: str, name: str, model: Model, card: Mapping[str, Any]) -> str:
    """The data whose test images a model is asked about. Says on the console which that is, and why, if it had to be
    found.

    Args:
      data: a name that `dataset_of` takes, which is taken as it is; or "auto": of a task its own inputs; what the
        network was trained on, as its card says; of a network of the zoo, and of a function, that of `mnist5k` and
        `cifar10_sample` whose images it takes.
      name: of the model, see `model_of`.
      model: the model.
      card: its card.

    Raises:
      ValueError: it had to be found, and none of the two fits, or both do.
    """
    if "task" in card:
        own = f"{TASK}{name}"
        if data not in (AUTO, own):
            raise ValueError(f"--data {data} does not go with --model {name}: its task brings its own inputs")
        return own
    if data != AUTO:
        return data
    if "data" in card and not name.startswith(ZOO):
        own = str(card["data"])
        say(f"Data: {own}, because the network was trained on it, as {Path(name) / 'card.json'} says.")
        return own
    refusals = {sample: _refusal(model, sample) for sample in _SAMPLES}
    images = {sample: f"{sample} {list(shape)}" for sample, shape in _SAMPLES.items()}
    fitting = [sample for sample, refusal in refusals.items() if not refusal]
    if not fitting:
        raise ValueError(
            f"--model {name} takes none of the images that come with cwjax ({'; '.join(refusals.values())}): say which "
            "with --data"
        )
    if len(fitting) > 1:
        raise ValueError(f"--model {name} takes the images of {' and '.join(images.values())}: say which with --data")
    [own] = fitting
    others = " and ".join(told for sample, told in images.items() if sample != own)
    say(f"Data: {own}, because {name} takes its images {list(_SAMPLES[own])}, and not those of {others}.")
    return own


def _refusal(model: Model, sample: str) -> str:
    """Why the model does not go with this data, in one line; empty if it does. The model is not run."""
    try:
        classes = check_logits(model, np.zeros((1, *_SAMPLES[sample]), np.float32))
    except ValueError as error:
        return f"{sample}: {' '.join(str(error).split())}"
    wanted = len(SOURCES[sample].classes)
    return "" if classes >= wanted else f"{sample}: the model has {classes} classes, and the images have {wanted}"


def subject_of(name: str, data: str = AUTO, folder: Path | None = None) -> Subject:
    """The model to race on, with its test images.

    Args:
      name: see `model_of`.
      data: whose test images, see `data_for`.
      folder: where data is kept.

    Raises:
      ValueError: there is no such model, or none of the data fits it; a task, which is no race between classifiers.
    """
    model, card = model_of(name)
    if "task" in card:
        raise ValueError(f"--model {name} is the task {card['task']!r}: races are for models that return classes")
    return Subject(name, model, load(data_for(data, name, model, card), "test", folder))
