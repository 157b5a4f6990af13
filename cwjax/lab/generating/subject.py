"""What `cwjax generate` tests: models of the same inputs, and seeds that all of them classify rightly."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import cwjax as cw
from cwjax import coverage
from cwjax.adapters.packages import package
from cwjax.arguments import check_logits
from cwjax.coverage.convention import Unit
from cwjax.lab.attacking.judging import AT_ONCE, said
from cwjax.lab.data import Dataset, MissingData, load
from cwjax.lab.generating.settings import OWN
from cwjax.lab.subjects import check_suits, model_and_data, model_of
from cwjax.models import Model


class Subject(NamedTuple):
    """What is tested."""

    names: tuple[str, ...]  # of the models
    models: tuple[Model, ...]  # at the highest precision
    data: str
    dataset: Dataset  # all test images
    seeds: Dataset  # the first of them that all models classify rightly
    misread: tuple[int, ...]  # the index of those before them that some model gets wrong


def subject_of(
    system: str,
    models: Sequence[str],
    data: str,
    count: int,
    data_folder: Path | None = None,
    *,
    asked: str = "--count",
) -> Subject:
    """The models and the first `count` seeds.

    Args:
      system: a key of `OWN`.
      models: their names, see `cwjax attack`.
      data: see `cwjax attack`.
      count: how many seeds.
      data_folder: where data is kept.
      asked: the flag that says `count`, for the error.

    Raises:
      ValueError: too few or too many models for the system, or the same twice; models that do not take the same
        inputs, or have other numbers of classes; a task; a mask; fewer seeds than are asked for.
    """
    _check_number(system, models)
    first, card, found, dataset = model_and_data(models[0], data, data_folder)
    if "task" in card or dataset.task:
        raise ValueError(f"--model {models[0]} is a task: cwjax generate is for models that return classes")
    if dataset.mask is not None:
        raise ValueError(f"--data {found} has a mask, which cwjax generate does not take: all elements may change")
    networks, x = [first], np.zeros((1, *dataset.images.shape[1:]), np.float32)
    for name in models[1:]:
        network, own = model_of(name, dataset.images.shape[1:])
        check_suits(name, network, found, dataset, own.get("shape"))
        networks.append(network)
    classes = [check_logits(each, x) for each in networks]
    for name, several in zip(models, classes, strict=True):
        if several != classes[0]:
            raise ValueError(
                f"--model {models[0]} has {classes[0]} classes and --model {name} has {several}: models that are "
                "compared must have the same"
            )
    exact = tuple(cw.in_precision(each, "highest") for each in networks)
    places, misread = _right_by_all(exact, dataset, count)
    if len(places) < count:
        some = f"{len(places)} of the {len(dataset.labels)}" if places else f"none of the {len(dataset.labels)}"
        who = f"--model {models[0]} classifies" if len(models) == 1 else f"all {len(models)} models classify"
        raise ValueError(f"{asked} {count} asks for more seeds than there are: {who} {some} images of {found} rightly")
    index = tuple(dataset.index[misread].tolist())
    return Subject(tuple(models), exact, found, dataset, dataset.take(np.asarray(places)), index)


def _check_number(system: str, models: Sequence[str]) -> None:
    several = OWN[system].models != "one"
    if several and len(models) < 2:
        raise ValueError(f"--system {system} compares two models or more, got {len(models)}: name others with --model")
    if not several and len(models) != 1:
        raise ValueError(f"--system {system} tests one model, got {len(models)}: {', '.join(models)}")
    if len(set(models)) != len(models):
        raise ValueError(f"--model must name different models, got {', '.join(models)}")


def _right_by_all(models: Sequence[Model], dataset: Dataset, count: int) -> tuple[list[int], list[int]]:
    """The places of the first `count` images that all models get right, and of those between that one gets wrong."""
    right: list[int] = []
    wrong: list[int] = []
    for start in range(0, len(dataset.labels), AT_ONCE):
        block = np.arange(start, min(start + AT_ONCE, len(dataset.labels)))
        by_all = np.ones(len(block), bool)
        for each in models:
            logits = said(each, dataset, block, dataset.images[block])
            by_all &= (logits.argmax(-1) == dataset.labels[block]) & (logits < np.inf).all(-1)  # NaN is not right
        for place, so in zip(block.tolist(), by_all, strict=True):
            (right if so else wrong).append(place)
            if len(right) == count:
                return right, wrong
    return right, wrong


def neurons_of(system: str, subject: Subject, unit: Unit) -> list[coverage.Neurons]:
    """The hidden neurons of each model, as the system counts them.

    Raises:
      ValueError: a model without any.
    """
    found = []
    for name, model in zip(subject.names, subject.models, strict=True):
        try:
            found.append(coverage.neurons(model, subject.dataset.images, value=OWN[system].value, unit=unit))
        except ValueError as error:
            raise ValueError(f"--system {system} needs hidden layers, and --model {name} has none: {error}") from error
    return found


def wrong(subject: Subject, places: np.ndarray, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Where the first model answers another class than the label."""
    return np.asarray(said(subject.models[0], subject.seeds, places, x).argmax(-1) != labels)


def training_images(subject: Subject, data_folder: Path | None) -> np.ndarray:
    """What gives neurons their ranges: the data's training images, or all test images where it has none."""
    try:
        return load(subject.data, "train", data_folder).images
    except MissingData:
        return subject.dataset.images


def check_solver(solver: str) -> None:
    """Raises ValueError, naming the extra, where a solver is asked for that is not installed."""
    if solver != "none":
        try:
            package("scipy.optimize", extra="solver", wanted_by=f"--solver {solver}")
        except ImportError as error:
            raise ValueError(str(error)) from error
