"""Models by name: a folder, a function, or a network of the zoo."""

import importlib
import sys
from pathlib import Path
from typing import Any

from cwjax.checks import reason_of
from cwjax.frameworks import described
from cwjax.lab import training
from cwjax.lab.data import load
from cwjax.lab.racing import Subject
from cwjax.models import Model

ZOO = "zoo:"

_SAMPLES = {(28, 28, 1): "mnist5k", (32, 32, 3): "cifar10_sample"}  # shape of an image -> digits and photographs


def model_of(name: str) -> tuple[Model, dict[str, Any]]:
    """The model and its card.

    Args:
      name: a folder that `cwjax train` wrote; zoo:NAME, a network that is published with the library; or
        MODULE:FUNCTION, a function without arguments that returns what `cwjax.bind` returns.

    Raises:
      ValueError: there is no such model, or it is none.
    """
    module, colon, function = name.partition(":")
    if not colon or Path(name).exists():
        trained = training.load(Path(name))
        return trained.model, trained.card
    if name.startswith(ZOO):
        from cwjax.lab import zoo

        trained = zoo.load(name.removeprefix(ZOO))
        return trained.model, trained.card
    sys.path.insert(0, str(Path.cwd()))
    try:
        model = getattr(importlib.import_module(module), function)()
    except (Exception, SystemExit) as error:  # whatever a user's code may raise
        raise ValueError(f"--model {name}: {what_failed(error)}") from error
    if not isinstance(model, Model):
        came = described(model, between=" | ")
        raise ValueError(f"--model {name} must return what cwjax.bind returns, got {came}")
    return model, {"function": name}


def what_failed(error: BaseException) -> str:
    """For a message: the name and the text of an error of a user's own code."""
    return reason_of(error) if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"


def subject_of(name: str, data: str | None = None, folder: Path | None = None) -> Subject:
    """The model to race on, with its test images.

    Args:
      name: see `model_of`.
      data: whose test images; by default those that the card names, and of the zoo a sample that comes along.
      folder: where data is kept.

    Raises:
      ValueError: there is no such model, or no data is named anywhere.
    """
    model, card = model_of(name)
    own = _SAMPLES.get(tuple(card.get("shape", ()))) if name.startswith(ZOO) else card.get("data")
    if not (data or own):
        raise ValueError(f"the card of --model {name} names no data: say which with --data")
    return Subject(name, model, load(str(data or own), "test", folder))
