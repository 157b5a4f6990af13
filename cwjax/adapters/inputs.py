"""How inputs of another framework's model relate to ours: the layout, the normalisation, the dtype and the box."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree

from cwjax.adapters.checking import NotConvertible, kind_of
from cwjax.models import Model, bind, normalised

Layout = Literal["NHWC", "NCHW"]
Scale = ArrayLike | Sequence[float | int]  # one number, or one a channel

_CHANNELS = (1, 3, 4)  # of a picture: grey, colours, colours with transparency
_DRAWN = 3  # examples that a model and its original are compared on
_NAMES = ("logits", "output", "outputs", "logit")  # of the logits among several outputs


class Inputs(NamedTuple):
    """What a module takes, and how to get there from what a cwjax model takes: images [H, W, C] in a box.

    Make it with `inputs_of`.
    """

    shape: tuple[int, ...]  # of one input, as the module takes it
    layout: Layout | None  # None: inputs that are no images, which stay as they are
    mean: np.ndarray | None  # broadcasts to one image [H, W, C]; None: the module takes images as they are
    std: np.ndarray | None
    low: float  # the box of our images
    high: float

    @property
    def ours(self) -> tuple[int, ...]:
        """The shape of one input of the cwjax model."""
        return (*self.shape[1:], self.shape[0]) if self.layout == "NCHW" else self.shape

    def drawn(self, count: int = _DRAWN) -> np.ndarray:
        """Inputs of the cwjax model, drawn from its box: float32 [count, *ours], always the same ones."""
        values = np.random.default_rng(0).uniform(self.low, self.high, (count, *self.ours))
        return values.astype(np.float32)

    def to_module(self, x: np.ndarray) -> np.ndarray:
        """A batch of our inputs as the module takes it."""
        scaled = x if self.mean is None else ((x - self.mean) / self.std).astype(x.dtype)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2) if self.layout == "NCHW" else scaled)

    def from_module(self, slope: np.ndarray) -> np.ndarray:
        """A gradient in the module's inputs as one in ours."""
        moved = slope.transpose(0, 2, 3, 1) if self.layout == "NCHW" else slope
        return moved if self.std is None else (moved / self.std).astype(slope.dtype)


def inputs_of(
    shape: Sequence[int] | np.ndarray,
    *,
    layout: Layout | None = None,
    mean: Scale | None = None,
    std: Scale | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Inputs:
    """What a module takes.

    Args:
      shape: of one input as the module takes it, without the batch: (3, 32, 32), (32, 32, 3) or (features,).
      layout: "NCHW" or "NHWC", how the module takes images. None: by the axis that has 1, 3 or 4 channels.
      mean: what images are normalised by before the module: one number, or one a channel. None: 0, or no normalisation.
      std: likewise, > 0. None: 1.
      low: the lower end of the box of our images.
      high: the upper end.

    Raises:
      TypeError, ValueError: a shape, layout, mean, std or box that is none; a shape of which the layout cannot be told.

    Example:
      >>> inputs = cw.adapters.inputs_of((3, 32, 32), mean=0.5, std=0.25)
      >>> inputs.layout, inputs.shape
      ('NCHW', (3, 32, 32))
    """
    try:
        sizes = tuple(int(size) for size in shape)
    except TypeError as error:
        raise TypeError(
            f"shape must be the sizes of one input as the module takes it, such as (3, 32, 32), got {shape!r}"
        ) from error
    if not sizes or min(sizes) < 1:
        raise ValueError(f"shape must be the sizes of one input, without the batch, such as (3, 32, 32), got {shape!r}")
    if not np.isfinite([low, high]).all() or not low < high:
        raise ValueError(f"the box must have a finite low below high, got low={low} and high={high}")
    found = _layout(sizes, layout)
    channels = (sizes[0] if found == "NCHW" else sizes[-1]) if found else None
    if mean is None and std is None:
        return Inputs(sizes, found, None, None, low, high)
    return Inputs(
        sizes,
        found,
        _scale("mean", 0.0 if mean is None else mean, channels, sizes),
        _scale("std", 1.0 if std is None else std, channels, sizes),
        low,
        high,
    )


def adapted(
    apply: Callable[[PyTree, Array], Any], params: PyTree, inputs: Inputs, *, dtype: Any = None, name: str = "the model"
) -> Model:
    """The cwjax model of a function that takes another framework's inputs.

    Args:
      apply: `(params, x) -> outputs`, x a batch [B, *inputs.shape] in the module's layout, already normalised; the
        outputs are logits [B, K], or a tuple, a dictionary or an object that has them (see `logits_of`). It is part of
        the compiled program's identity.
      params: any pytree of arrays; traced.
      inputs: see `inputs_of`. The mean and std are parts of the model's params.
      dtype: that the module computes in, such as bfloat16; logits come back in the dtype of x. None: that of x.
      name: of the module, for an error.

    Returns:
      A model of images [H, W, C] in the box, or of [F].

    Example:
      >>> inputs = cw.adapters.inputs_of((3, 2, 2), layout="NCHW")
      >>> model = cw.adapters.adapted(lambda params, x: x.mean((2, 3)), (), inputs)  # it takes channels first
      >>> model(jnp.zeros((2, 2, 3))).shape
      (3,)
    """
    model = bind(_Adapted(apply, inputs.layout == "NCHW", None if dtype is None else jnp.dtype(dtype), name), params)
    return model if inputs.mean is None or inputs.std is None else normalised(model, inputs.mean, inputs.std)


@dataclasses.dataclass(frozen=True)
class _Adapted:  # a class and not a closure: equal when the inner function is, so that it compiles once
    apply: Callable[[PyTree, Array], Any]
    channels_first: bool
    dtype: Any
    name: str

    def __call__(self, params: PyTree, x: Array) -> Array:
        given = x.transpose(0, 3, 1, 2) if self.channels_first else x
        outputs = self.apply(params, given if self.dtype is None else given.astype(self.dtype))
        return logits_of(outputs, self.name).astype(x.dtype)


def logits_of(outputs: Any, name: str = "the model") -> Any:
    """The logits among what a module returns: the array itself, `.logits`, an entry named logits, or the first of a
    tuple.

    Raises:
      NotConvertible: there are none.
    """
    if hasattr(outputs, "shape"):
        return outputs
    if isinstance(outputs, Mapping):
        entry = next((outputs[key] for key in _NAMES if key in outputs), None)
        if entry is None and len(outputs) == 1:
            entry = next(iter(outputs.values()))
        if entry is not None:
            return logits_of(entry, name)
        keys = ", ".join(map(str, outputs))
        raise NotConvertible(
            f"{name} returns a dictionary of {keys}, none of them logits: wrap it to return its logits"
        )
    if getattr(outputs, "logits", None) is not None:
        return logits_of(outputs.logits, name)
    if isinstance(outputs, tuple | list) and outputs:
        return logits_of(outputs[0], name)
    raise NotConvertible(f"{name} returns {kind_of(outputs)}, which has no logits: wrap it to return an array [B, K]")


def _layout(shape: tuple[int, ...], given: str | None) -> Layout | None:
    """Raises ValueError where it cannot be told, or does not go with the shape."""
    if given not in (None, "NHWC", "NCHW"):
        raise ValueError(f'layout must be "NHWC" or "NCHW", got {given!r}')
    if len(shape) != 3:
        if given:
            raise ValueError(f"layout={given!r} is for images of three axes, and shape is {list(shape)}: leave it out")
        return None
    if given:
        return given
    first, last = shape[0] in _CHANNELS, shape[2] in _CHANNELS
    if first == last:
        raise ValueError(
            f'shape {list(shape)} does not tell where the channels are: say layout="NCHW" (first) or "NHWC" (last)'
        )
    return "NCHW" if first else "NHWC"


def _scale(name: str, value: Scale, channels: int | None, shape: tuple[int, ...]) -> np.ndarray:
    try:
        numbers = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be one number, or one a channel, got {value!r}") from error
    fits = numbers.ndim == 0 or (channels is not None and numbers.shape == (channels,)) or numbers.shape == shape[-1:]
    if channels is not None and numbers.shape not in ((), (channels,)):
        fits = False
    if not fits:
        wanted = f"one a channel, {channels} of them" if channels else f"one an element, {shape[-1]} of them"
        raise ValueError(f"{name} must be one number or {wanted}, got shape {list(numbers.shape)}")
    if not np.isfinite(numbers).all() or (name == "std" and not (numbers > 0).all()):
        raise ValueError(f"{name} must be finite{' and above 0' if name == 'std' else ''}, got {value!r}")
    return numbers
