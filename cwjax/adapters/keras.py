"""Keras 3 models on the JAX backend as cwjax models: nothing is converted, Keras' own layers run."""

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from cwjax.adapters.checking import TOLERANCE, NotConvertible, kind_of
from cwjax.adapters.heads import Softmax, check_softmax, ends_in, two_logits
from cwjax.adapters.inference import checked, fingerprint
from cwjax.adapters.inputs import Inputs, Layout, Scale, adapted, inputs_of
from cwjax.adapters.packages import package
from cwjax.models import Model


def from_keras(
    model: str | os.PathLike[str] | Any,
    *,
    layout: Layout | None = None,
    mean: Scale | None = None,
    std: Scale | None = None,
    softmax: Softmax = "refuse",
    weights: str | os.PathLike[str] | None = None,
    shape: Sequence[int] | None = None,
    low: float = 0.0,
    high: float = 1.0,
    tolerance: float = TOLERANCE,
) -> Model:
    """A Keras model in inference mode. Your model is not changed.

    Keras has to run on JAX: set the environment variable KERAS_BACKEND=jax where you import Keras yourself.

    Args:
      model: a `keras.Model` with its weights, or the path of a file .keras or .h5 that has the whole model.
      layout: "NCHW" or "NHWC", how the model takes images. None: as Keras is configured, which is NHWC by default.
      mean: what images are normalised by before the model: one number, or one a channel. None: 0, or not at all.
      std: likewise, > 0.
      softmax: what to do with a softmax, or a sigmoid, at the end: "refuse", or "cut" to take the logits before it.
      weights: the path of a file .h5 or .weights.h5 that has weights alone; `model` is then the net, built anew.
      shape: of one input without the batch, where the model does not say it.
      low: the lower end of the box of images, in which the comparison draws them.
      high: the upper end.
      tolerance: the largest difference from the model's own logits and slopes, as a share of the largest.

    Returns:
      What `cwjax.bind` returns: of a batch of images [B, H, W, C], or of [B, *shape], to logits [B, K]. A model with
      one output s for yes or no becomes the two logits -s/2 and s/2.

    Raises:
      NotConvertible: another backend, a softmax that is not to be cut, a layer in training mode, several inputs, or a
        file without a model.
      ImportError: Keras is missing.

    Example:
      >>> import keras
      >>> net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Softmax()])
      >>> cw.adapters.from_keras(net, softmax="cut")(x[0]).shape
      (2,)
    """
    net, name, inputs = _prepared(model, layout, mean, std, softmax, weights, shape, low, high)
    variables = ([v.value for v in net.trainable_variables], [v.value for v in net.non_trainable_variables])
    identity = _identity(net)
    told = identity[0] if isinstance(identity, tuple) else name
    made = adapted(_Keras(identity, net), {"variables": variables, "net": fingerprint(told)}, inputs)
    _check_inference(net, variables, jnp.asarray(inputs.to_module(inputs.drawn())), name)
    return checked(made, inputs, lambda x: two_logits(net(x, **_evaluating(net))), name, tolerance)


def keras_original(
    model: str | os.PathLike[str] | Any,
    *,
    layout: Layout | None = None,
    mean: Scale | None = None,
    std: Scale | None = None,
    softmax: Softmax = "refuse",
    weights: str | os.PathLike[str] | None = None,
    shape: Sequence[int] | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Callable[[np.ndarray], np.ndarray]:
    """The function of a Keras model, run by Keras on any backend: images in the box to logits, NumPy arrays.

    Args: as for `from_keras`.
    """
    net, _, inputs = _prepared(model, layout, mean, std, softmax, weights, shape, low, high, any_backend=True)
    return _runner(net, inputs)


@dataclasses.dataclass(frozen=True)
class _Keras:
    """Two nets of one structure are equal, so that a second file of the same network compiles nothing."""

    identity: Any
    net: Any = dataclasses.field(compare=False)

    def __call__(self, params: PyTree, x: Array) -> Array:
        return two_logits(self.net.stateless_call(*params["variables"], x, **_evaluating(self.net))[0])


def _evaluating(net: Any) -> dict[str, bool]:
    """The argument that says so, where the net's call has it."""
    return {"training": False} if "training" in inspect.signature(net.call).parameters else {}


def _identity(net: Any) -> Any:
    """The structure of a net, where its configuration tells it; else the net itself."""
    keras = _keras()
    layers = list(net._flatten_layers())
    nets = [each for each in layers if isinstance(each, keras.Model)]
    plain = (keras.Sequential, keras.src.models.Functional)
    told = all(type(each) in plain for each in nets)
    if not told or any(isinstance(each, keras.layers.Lambda) for each in layers):
        return net
    return net.to_json(), tuple(map(type, layers))


def _keras() -> Any:
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "jax")
    return package("keras", extra="keras", wanted_by="from_keras")


def _prepared(
    model, layout, mean, std, softmax: Softmax, weights, shape, low, high, *, any_backend: bool = False
) -> tuple[Any, str, Inputs]:
    check_softmax(softmax)
    keras = _keras()
    backend = keras.backend.backend()
    if backend != "jax" and not any_backend:
        raise NotConvertible(
            f"Keras runs on {backend}, and JAX cannot differentiate that: set the environment variable "
            "KERAS_BACKEND=jax before Keras is imported"
        )
    net, name = _loaded(keras, model, weights)
    net = _without_softmax(keras, net, softmax, name)
    sizes = _shape(net, shape, name)
    if layout is None and len(sizes) == 3:
        layout = "NHWC" if keras.config.image_data_format() == "channels_last" else "NCHW"
    return net, name, inputs_of(sizes, layout=layout, mean=mean, std=std, low=low, high=high)


def _loaded(keras: Any, model: Any, weights: Any) -> tuple[Any, str]:
    """The net, and what to call it."""
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            net = keras.saving.load_model(path, compile=False)
        except Exception as error:
            if "No model config found" in str(error):
                raise NotConvertible(
                    f"{path.name} has weights and no model: build the net anew and say "
                    f"from_keras(net, weights={path.name!r})"
                ) from error
            raise NotConvertible(f"Keras cannot load {path.name}: {error}") from error
        name = f"the Keras file {path.name}"
    else:
        net, name = model, f"the Keras model {getattr(model, 'name', kind_of(model))!r}"
    if not isinstance(net, keras.Model):
        raise NotConvertible(f"from_keras takes a keras.Model or the path of a file, got a {kind_of(net)}")
    if weights is not None:
        net = _with_weights(keras, net, weights, name)
    if not net.built:
        raise NotConvertible(f"{name} has no weights yet: call it with one batch, or begin it with keras.Input(shape)")
    return net, name


def _with_weights(keras: Any, net: Any, weights: Any, name: str) -> Any:
    """A copy of the net with the weights of a file."""
    if not Path(weights).is_file():
        raise FileNotFoundError(f"there is no file {weights}")
    try:
        copy = keras.models.clone_model(net)
    except Exception as error:
        raise NotConvertible(
            f"{name} cannot be copied: say net.load_weights({str(weights)!r}), and leave weights= out"
        ) from error
    try:
        copy.load_weights(weights)
    except Exception as error:
        raise NotConvertible(f"the weights in {Path(weights).name} do not fit {name}: {error}") from error
    return copy


def _shape(net: Any, shape: Sequence[int] | None, name: str) -> tuple[int, ...]:
    if shape is not None:
        return tuple(int(size) for size in shape)
    try:
        several, told = net.inputs, net.input_shape
    except (AttributeError, ValueError):
        several, told = None, None
    if several is not None and len(several) > 1:
        raise NotConvertible(f"{name} takes {len(several)} inputs, and an attack changes one: make a model of that one")
    if not told or None in told[1:]:
        raise NotConvertible(f"{name} does not say the shape of its input: say shape=(…), without the batch")
    return tuple(told[1:])


def _without_softmax(keras: Any, net: Any, softmax: Softmax, name: str) -> Any:
    """The net itself, or another one of the same layers up to the logits."""
    try:
        [output] = net.outputs
        last = output._keras_history.operation
    except (AttributeError, TypeError, ValueError):
        return net  # a class with its own call: what it returns is looked at later
    function = getattr(getattr(last, "activation", None), "__name__", "")
    [given] = net.inputs if len(net.inputs) == 1 else [net.inputs]
    alone = isinstance(last, keras.layers.Softmax | keras.layers.Activation)
    end = "softmax" if isinstance(last, keras.layers.Softmax) else function
    if end not in ("softmax", "sigmoid") or not ends_in(name, f"the {end} of layer {last.name!r}", softmax):
        return net
    if alone:
        return keras.Model(given, last.input, name=f"{net.name}_logits")
    twin = type(last).from_config(last.get_config() | {"activation": "linear", "name": f"{last.name}_logits"})
    logits = twin(last.input)
    twin.set_weights(last.get_weights())
    return keras.Model(given, logits, name=f"{net.name}_logits")


def _check_inference(net: Any, variables: Any, x: Array, name: str) -> None:
    """Raises NotConvertible where a layer updates what it keeps, as in training."""
    _, after = net.stateless_call(*variables, x, **_evaluating(net))
    for variable, before, now in zip(net.non_trainable_variables, variables[1], after, strict=True):
        if not np.array_equal(before, now):
            raise NotConvertible(
                f"{name} updates {variable.path} when it is called with training=False: a layer stays in training "
                "mode. Hand the argument training on to it"
            )


def _runner(net: Any, inputs: Inputs) -> Callable[[np.ndarray], np.ndarray]:
    def run(x: np.ndarray) -> np.ndarray:
        keras = _keras()
        answers = net(keras.ops.convert_to_tensor(inputs.to_module(np.asarray(x))), **_evaluating(net))
        return two_logits(np.asarray(keras.ops.convert_to_numpy(answers), np.float32))

    return run
