"""Models of other frameworks by name: an ONNX or Keras file, or what a function of the user's returns.

How they are to be taken stands behind the name, as options: "net.onnx,layout=NCHW,mean=0.5". So a run that names its
model says all there is to make it again.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cwjax.frameworks import described, framework_of
from cwjax.lab import defending, functions
from cwjax.lab import options as naming
from cwjax.models import Model, normalised
from cwjax.tasks import Task

OPTIONS = ("how", "layout", "mean", "std", "softmax", "shape", *defending.OPTIONS)
_KERAS = (".keras", ".h5", ".hdf5")
_FILES = (".onnx", *_KERAS)

Way = Callable[[np.ndarray], np.ndarray]  # float32 [B, H, W, C] in [0, 1] -> logits [B, K]


class Named(NamedTuple):
    """A name, and how its model is to be taken."""

    name: str  # as it was given
    bare: str  # without options
    told: Mapping[str, str]

    @classmethod
    def of(cls, name: str) -> "Named":
        """Raises ValueError for options that are none."""
        return cls(name, *naming.split("--model", name, OPTIONS))

    @property
    def file(self) -> bool:
        """Whether it is a file of another framework."""
        return Path(self.bare).suffix.lower() in _FILES

    @property
    def undefended(self) -> str:
        """The name of the model before its defence."""
        return naming.joined(self.bare, {key: told for key, told in self.told.items() if key not in defending.OPTIONS})

    def adapting(self, *taken: str) -> dict[str, Any]:
        """The arguments of an adapter that takes these options. Raises ValueError for others."""
        if others := [option for option in self.told if option not in taken]:
            raise ValueError(f"--model {self.name} takes no {' and '.join(others)}")
        return {option: self._value(option) for option in self.told}

    def _value(self, option: str) -> Any:
        told = self.told[option]
        if option in ("how", "layout", "softmax"):
            return told
        try:
            numbers = [float(each) for each in told.split("/")]
        except ValueError:
            raise ValueError(f"--model {self.name}: {option} is numbers with / between them, got {told}") from None
        if option == "std" and not all(0 < number < float("inf") for number in numbers):
            raise ValueError(f"--std must be above 0, got {told}")
        if option == "mean" and not np.isfinite(numbers).all():
            raise ValueError(f"--mean must be finite, got {told}")
        if option == "shape":
            return tuple(map(int, numbers))
        return numbers if len(numbers) > 1 else numbers[0]


def of_file(named: Named) -> Model:
    """The model of an ONNX or Keras file.

    Raises:
      ValueError: there is no such file, or it is refused.
    """
    path = Path(named.bare).expanduser()
    if not path.is_file():
        raise ValueError(f"--model {named.name}: there is no file {path}")
    with functions.blamed("--model", named.name):
        if path.suffix.lower() in _KERAS:
            keras_on_jax()
            from cwjax.adapters import from_keras

            return from_keras(path, **named.adapting("layout", "mean", "std", "softmax", "shape"))
        from cwjax.adapters import from_onnx

        return from_onnx(path, **named.adapting("layout", "mean", "std", "softmax", "shape"))


def keras_on_jax() -> None:
    """Has Keras run on JAX, where nobody chose another backend."""
    os.environ.setdefault("KERAS_BACKEND", "jax")


def of_object(named: Named, made: Any, shapes: Sequence[tuple[int, ...]]) -> Model | Task:
    """The model of what a function returned: a cwjax model or task as it is, else by the adapter of its framework.

    Args:
      named: the function's name and options.
      made: what it returned.
      shapes: of images [H, W, C] that the model may be meant for; the first that it takes holds.

    Raises:
      ValueError: it is no model; no adapter knows it without more, or refuses it.
    """
    if isinstance(made, Task):
        named.adapting()
        return made
    if isinstance(made, Model):
        told = named.adapting("mean", "std")
        return normalised(made, told.get("mean", 0.0), told.get("std", 1.0)) if told else made
    framework, name = framework_of(made), named.name
    adapt = _ADAPTERS.get(framework.name if framework else _by_package(made))
    if adapt is None:
        came = described(made, between=" | ")
        own = getattr(made, "__name__", "")
        how = f": return cwjax.bind(lambda params, x: {own}(x)) if {own} is a function of JAX from images to logits"
        raise ValueError(
            f"--model {name} must return what cwjax.bind returns, a module, or a cwjax.Task, got {came}"
            f"{how if own.isidentifier() and not isinstance(made, type) else ''}"
        )
    if "shape" in named.told or adapt is _of_sklearn:
        with functions.blamed("--model", name):
            return adapt(named, made, None)
    refusals = []
    for shape in shapes:
        try:
            return adapt(named, made, shape)
        except ImportError as error:
            raise ValueError(f"--model {name}: {error}") from error
        except Exception as error:  # a module called with images of another shape may raise anything
            refusals.append(f"{list(shape)}: {' '.join(str(error).split())[:200]}")
    raise ValueError(
        f"--model {name} takes none of the images {'; '.join(refusals)}. Say the shape of one input as the module "
        f"takes it: --model {name},shape=3/32/32"
    )


def _by_package(made: Any) -> str:
    return "scikit-learn" if type(made).__module__.startswith("sklearn.") else ""


def _sized(named: Named, shape: tuple[int, ...] | None, layout: str, *more: str) -> tuple[tuple[int, ...], dict]:
    """The shape of one input as the module takes it, and the arguments of its adapter."""
    told = named.adapting("shape", "layout", "mean", "std", *more)
    if shape is None:
        return told.pop("shape"), told
    taken = told.setdefault("layout", layout) if len(shape) == 3 else None
    return (shape[2], *shape[:2]) if taken == "NCHW" else shape, told


def _of_torch(named: Named, module: Any, shape: tuple[int, ...] | None) -> Model:
    from cwjax.adapters import from_torch

    size, told = _sized(named, shape, "NCHW", "how")
    return from_torch(module, size, **told)


def _of_nnx(named: Named, module: Any, shape: tuple[int, ...] | None) -> Model:
    from cwjax.adapters import from_nnx

    size, told = _sized(named, shape, "NHWC")
    return from_nnx(module, size, **told)


def _of_equinox(named: Named, module: Any, shape: tuple[int, ...] | None) -> Model:
    from cwjax.adapters import from_equinox

    size, told = _sized(named, shape, "NCHW")
    return from_equinox(module, size, **told)


def _of_keras(named: Named, model: Any, shape: tuple[int, ...] | None) -> Model:
    from cwjax.adapters import from_keras

    del shape  # a Keras model knows its own
    return from_keras(model, **named.adapting("layout", "mean", "std", "softmax", "shape"))


def _of_sklearn(named: Named, classifier: Any, shape: tuple[int, ...] | None) -> Model:
    from cwjax.adapters import from_sklearn

    named.adapting()
    return from_sklearn(classifier)


_ADAPTERS: dict[str, Callable[[Named, Any, tuple[int, ...] | None], Model]] = {
    "PyTorch": _of_torch,
    "Flax NNX": _of_nnx,
    "Equinox": _of_equinox,
    "Keras": _of_keras,
    "scikit-learn": _of_sklearn,
}
"""By framework; those that need weights beside the module are bound by the user's function."""


def original(named: Named, made: Any, shape: tuple[int, ...]) -> Way | None:
    """The model as its own framework runs it, or None where it is no other framework's.

    Args:
      named: the model's name and options.
      made: what the function of that name returned; None of a file.
      shape: of the images [H, W, C] that it is asked about.

    Raises:
      ValueError: it cannot be had.
    """
    with functions.blamed("--model", named.name):
        if named.file:
            if Path(named.bare).suffix.lower() in _KERAS:
                keras_on_jax()
            from cwjax.adapters import original as of_file

            return of_file(Path(named.bare).expanduser(), **named.adapting(*OPTIONS))
        framework = framework_of(made)
        if framework is None or framework.name not in ("PyTorch", "Keras"):
            return None  # other modules are JAX: the model is the module
        if framework.name == "Keras":
            from cwjax.adapters.keras import keras_original

            return keras_original(made, **named.adapting("layout", "mean", "std", "softmax", "shape"))
        from cwjax.adapters.inputs import inputs_of
        from cwjax.adapters.pytorch.modules import in_torch

        size, told = _sized(named, None if "shape" in named.told else shape, "NCHW", "how")
        told.pop("how", None)
        return in_torch(made, inputs_of(size, **told))[0]


@functools.cache
def returned(name: str, function: Callable[[], Any]) -> Any:
    """What the function returns. It is called once in a process, because it may train a network."""
    with functions.blamed("--model", name):
        return function()
