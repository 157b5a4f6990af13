"""Models by name: a folder, a function, or a network of the zoo; and the data that suits each."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cwjax.arguments import check_logits
from cwjax.frameworks import described
from cwjax.lab import defending, foreign, functions
from cwjax.lab.console.progress import say
from cwjax.lab.console.spelling import nearest
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


def model_of(name: str, shape: tuple[int, ...] | None = None) -> tuple[Model, dict[str, Any]]:
    """The model and its card: what is known of a network, as card.json beside its weights has it.

    Args:
      name: a folder that `cwjax train` wrote; zoo:NAME, a network that is published with the library; a file .onnx,
        .keras or .h5; or MODULE:FUNCTION, a function without arguments that returns what `cwjax.bind` returns, a module
        of another framework, or a `cwjax.Task`. Options may follow, see `foreign.OPTIONS`; one is a defence.
      shape: of the images [H, W, C] that a module is meant for; None: it is tried on those that come with cwjax.

    Raises:
      ValueError: there is no such model, or it is none.
    """
    named = foreign.Named.of(name)
    if "defence" in named.told:
        made, card = _defended(name)
        return (made.model if isinstance(made, Task) else made), card
    if named.file:
        return foreign.of_file(named), {"file": name}
    if ":" not in named.bare or Path(named.bare).exists():
        named.adapting()
        _check_there(named.bare)
        trained = training.load(Path(named.bare))
        return trained.model, trained.card
    if named.bare.startswith(ZOO):
        from cwjax.lab import zoo

        named.adapting()
        trained = zoo.load(named.bare.removeprefix(ZOO))
        return trained.model, trained.card
    made = foreign.returned(named.bare, functions.maker("--model", named.bare))
    model = foreign.of_object(named, made, list(_SAMPLES.values()) if shape is None else [shape])
    if isinstance(model, Task):
        return model.model, {"function": name, "task": model.name}
    return model, {"function": name}


def _check_there(name: str) -> None:
    """Raises ValueError where a model's name is no folder."""
    from cwjax.lab import zoo

    if not Path(name).is_dir():
        meant = nearest(name, zoo.NAMES)
        more = f"a network that comes along is written {ZOO}{meant}" if meant else "see `cwjax attack --help`"
        raise ValueError(f"--model {name}: there is no folder {name}; {more}")


@functools.cache
def _defended(name: str) -> tuple[Model | Task, dict[str, Any]]:
    """The model with its defence, or where that has a detector the task of getting past it; and the card. What it
    learnt is kept, see `defending.defended`.
    """
    named = foreign.Named.of(name)
    model, card = model_of(named.undefended)
    if "task" in card:
        raise ValueError(f"--defence is for classifiers, and --model {named.undefended} is the task {card['task']!r}")
    data, defence = named.told.get("taught", AUTO), named.told["defence"]
    data = data_for(data, named.undefended, model, card)
    it = defending.defended(defence, model, load(data, "train"))
    card = card | {"defence": defence, "taught": data}
    if it.detector is None:
        return it.model, card
    task = defending.task_of(defence, it, load(data, "test"))
    return task, card | {"task": task.name}


def original_of(name: str, shape: tuple[int, ...]) -> foreign.Way | None:
    """The model as its own framework runs it; None where it has no other. Raises ValueError where it cannot be had."""
    named = foreign.Named.of(name)
    if "defence" in named.told:
        return None
    if named.file:
        return foreign.original(named, None, shape)
    if ":" not in named.bare or Path(named.bare).exists() or named.bare.startswith(ZOO):
        return None
    return foreign.original(named, foreign.returned(named.bare, functions.maker("--model", named.bare)), shape)


def model_and_data(
    name: str, data: str = AUTO, folder: Path | None = None, *, checked: bool = True
) -> tuple[Model, dict[str, Any], str, Dataset]:
    """The model, its card, the name of its data and its test images: a module is made for images that are named.

    Args:
      name: of the model.
      data: see `data_for`.
      folder: where data is kept.
      checked: whether to ask if they go together; the caller says it otherwise.

    Raises:
      ValueError: there is no such model or data, or they do not go together.
      data.MissingData, data.CorruptData: see `data.load`.
    """
    known = None if data == AUTO or data.startswith(TASK) else dataset_of(data, folder)
    model, card = model_of(name, None if known is None else known.images.shape[1:])
    found = data_for(data, name, model, card)
    dataset = dataset_of(found, folder) if known is None or found != data else known
    if checked and dataset.task is None:
        check_suits(name, model, found, dataset, card.get("shape"))
    return model, card, found, dataset


def check_suits(name: str, model: Model, data: str, dataset: Dataset, takes: Sequence[int] | None = None) -> None:
    """Raises ValueError where a model does not take the images of a data set, or has fewer classes. It is not run.

    Args:
      name: of the model.
      model: the model.
      data: the name of the data.
      dataset: the data.
      takes: the shape of the images that it takes, for the error. None: it is not known.
    """
    shape = dataset.images.shape[1:]
    try:
        classes = check_logits(model, np.zeros((1, *shape), np.float32))
    except (TypeError, ValueError) as error:
        first = (shape[-1], *shape[:-1])
        more = f": {' '.join(str(error).split())[:200]}"
        if len(shape) == 3 and _takes(model, first):
            more = f", but {list(first)}: channels first? Say --layout NCHW, or transpose in the model"
        elif known := takes or next((shape for shape in _SAMPLES.values() if _takes(model, shape)), None):
            more = f": it takes {list(known)}"
        raise ValueError(f"--model {name} does not take the images {list(shape)} of --data {data}{more}") from error
    if dataset.labels.max() >= classes:
        raise ValueError(
            f"--data {data} has the label {dataset.labels.max()}, and --model {name} has {classes} classes"
        )


def _takes(model: Model, shape: tuple[int, ...]) -> bool:
    try:
        return bool(check_logits(model, np.zeros((1, *shape), np.float32)))
    except (TypeError, ValueError):
        return False


def dataset_of(data: str, folder: Path | None = None) -> Dataset:
    """The test images of that name: a key of `data.SOURCES`; or "task:MODULE:FUNCTION", the inputs of a task.

    Raises:
      ValueError: there is none, or the function returns no task.
      data.MissingData, data.CorruptData: see `data.load`.
    """
    if not data.startswith(TASK):
        return load(data, "test", folder)
    name = data.removeprefix(TASK)
    if "defence" in foreign.Named.of(name).told:
        task, _ = _defended(name)
    else:
        with functions.blamed("--data", name):
            task = foreign.returned(name, functions.maker("--data", name, "a cwjax.Task"))
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
    if "taught" in card:
        return str(card["taught"])
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
    model, card, _, dataset = model_and_data(name, data, folder)
    if "task" in card:
        raise ValueError(f"--model {name} is the task {card['task']!r}: races are for models that return classes")
    if dataset.features:
        raise ValueError(f"--data {data} has features, and races are for images: attack it with `cwjax attack`")
    if dataset.mask is not None:
        raise ValueError(
            f"--data {data} has a mask, which a race does not take: attacks of a race may change all elements"
        )
    return Subject(name, model, dataset)
