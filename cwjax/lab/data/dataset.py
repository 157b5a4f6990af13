"""What a data set is: labelled images of one split, from a source or from arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt8

from cwjax.arguments import broadcasts
from cwjax.lab.data.features import Features
from cwjax.parts.distances import MOST_CHANNELS
from cwjax.tasks import Task

SPLITS = ("train", "validation", "test")


class MissingData(RuntimeError):  # noqa: N818 - it says what is the matter
    """The data is not on disk and cannot be fetched; the message says what to put where."""


class CorruptData(RuntimeError):  # noqa: N818
    """A file on disk is not what it should be; the message names it and says what to do."""


class Images(NamedTuple):
    """What a source hands over for one split."""

    images: UInt8[np.ndarray, "N H W C"]
    labels: UInt8[np.ndarray, " N"]  # in [0, len(classes))
    places: Int64[np.ndarray, " N"]  # in the source's own order, which train and validation share


class Source(Protocol):
    """Where images come from."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each class; a label is a place in this tuple."""
        ...

    def read(self, split: str, folder: Path) -> Images:
        """Images of "train", "validation" or "test", fetched into `folder` where it lacks them.

        Raises:
            MissingData: they are neither in `folder` nor to be fetched.
            CorruptData: a file in `folder` is damaged.
        """
        ...


class Dataset(NamedTuple):
    """Labelled images of one split. `Dataset.of` makes one of arrays."""

    name: str  # the source, "mnist5k"
    split: str  # "train", "validation" or "test"
    images: Float32[np.ndarray, "N H W C"]  # in [0, 1]: a byte of the source over 255
    labels: Int32[np.ndarray, " N"]  # in [0, len(classes))
    classes: tuple[str, ...]  # what each label means
    # The place of each image in the source's own order, so that a result can name its image.
    index: Int64[np.ndarray, " N"]  # pyright: ignore[reportIncompatibleMethodOverride]
    # What is asked of them where it is not the class. `index` then counts the task's inputs, and labels are 0.
    task: Task | None = None
    names: tuple[str, ...] = ()  # of each image, such as its file; empty: it has none
    mask: Bool[np.ndarray, "..."] | None = None  # which elements may change: of one image, or [N, ...]; None: all
    features: Features | None = None  # what the inputs are where they are vectors in their own units

    @classmethod
    def of(
        cls,
        images: np.ndarray,
        labels: np.ndarray | Sequence[int],
        *,
        name: str = "my data",
        split: str = "test",
        classes: Sequence[str] | np.ndarray | None = None,
        names: Sequence[str] | np.ndarray | None = None,
        bounds: tuple[float, float] | None = None,
        mask: np.ndarray | None = None,
        features: Mapping[str, np.ndarray] | None = None,
    ) -> "Dataset":
        """A data set of arrays.

        Args:
          images: uint8, or floats between the bounds: [N, H, W, C], [N, H, W] in grey, or vectors [N, F].
          labels: integers [N], from 0.
          name: to read; it begins every error.
          split: "train", "validation" or "test".
          classes: what each label means. None: the numbers up to the largest label.
          names: of the images, N of them.
          bounds: the values that stand for 0 and 1, which images are scaled to. None: 0 and 255 of uint8, 0 and 1 of
            floats.
          mask: booleans that broadcast to one image, or one for each [N, ...]: True where an element may change.
          features: for vectors that are no images, the arrays of `features.ARRAYS` by name: `low`, `high`, `levels`,
            `steps`, `rises`, `cost`, `features` (their names) and `implies`. They are not scaled then.

        Raises:
          ValueError: arrays that are not that, in one line.

        Example:
          >>> import numpy as np
          >>> from cwjax.lab.data import Dataset
          >>> Dataset.of(np.zeros((2, 8, 8, 3), np.uint8), [0, 1]).images.shape
          (2, 8, 8, 3)
        """
        known_features = None
        if features:
            if bounds is not None:
                raise ValueError(f"{name}: bounds scale images, and features have low and high: give one of both")
            pixels = _unscaled(name, np.asarray(images))
            known_features = Features.of(name, pixels, features)
        else:
            pixels = _scaled(name, np.asarray(images), bounds)
        numbers = _labels(name, np.asarray(labels), len(pixels))
        known = tuple(map(str, classes)) if classes is not None else tuple(map(str, range(int(numbers.max()) + 1)))
        if numbers.max() >= len(known):
            raise ValueError(f"{name}: labels go up to {numbers.max()}, and there are {len(known)} classes from 0")
        called = tuple(map(str, names)) if names is not None else ()
        if called and len(called) != len(pixels):
            raise ValueError(f"{name}: there are {len(called)} names for {len(pixels)} images")
        allowed = None if mask is None else _mask(name, np.asarray(mask), pixels.shape)
        if known_features is not None and allowed is not None:
            known_features.check(name, pixels, allowed)
        index = np.arange(len(pixels))
        return cls(name, split, pixels, numbers, known, index, None, called, allowed, known_features)

    def take(self, places: slice | np.ndarray) -> "Dataset":
        """The images at these places, with their labels."""
        names, mask = self.names, self.mask
        if names:
            names = tuple(np.asarray(names, object)[places].tolist())
        if self.own_masks:
            mask = np.asarray(mask)[places]
        some = {"images": self.images[places], "labels": self.labels[places], "index": self.index[places]}
        return self._replace(**some, names=names, mask=mask)

    @property
    def own_masks(self) -> bool:
        """Whether each image has a mask of its own."""
        return self.mask is not None and self.mask.ndim == self.images.ndim


def _scaled(name: str, images: np.ndarray, bounds: tuple[float, float] | None) -> Float32[np.ndarray, "N *S"]:
    if images.dtype == object:
        raise ValueError(f"{name}: images are an array of objects: have them all of one size, and stack them")
    if images.ndim not in (2, 3, 4) or not images.size:
        raise ValueError(f"{name}: images must be [N, H, W, C], [N, H, W] or [N, F], got shape {list(images.shape)}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.shape[-1] > MOST_CHANNELS:
        first = images.shape[1] <= MOST_CHANNELS
        more = ": channels first? Use images.transpose(0, 2, 3, 1)" if first else ""
        raise ValueError(f"{name}: images [N, H, W, C] have at most 4 channels, got {list(images.shape)}{more}")
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{name}: images must be uint8 or floats, got {images.dtype}")
    if images.dtype == np.uint8 and bounds is None:
        return np.divide(images, np.float32(255), dtype=np.float32)
    low, high = bounds or (0.0, 1.0)
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"{name}: bounds must be two numbers, the lower first, got {low} and {high}")
    values = images.astype(np.float64)
    _check_finite(name, "image", values)
    if not ((values >= low) & (values <= high)).all():
        more = ": store bytes as uint8, or add bounds=(LOW, HIGH), the values that stand for 0 and 1"
        more = "" if bounds else more
        came = f"from {values.min():g} to {values.max():g}"
        raise ValueError(f"{name}: images must lie in [{low:g}, {high:g}], got values {came}{more}")
    return ((values - low) / (high - low)).astype(np.float32)


def _unscaled(name: str, x: np.ndarray) -> Float32[np.ndarray, "N *S"]:
    if not x.size or not (np.issubdtype(x.dtype, np.number) or x.dtype == bool):
        raise ValueError(f"{name}: features must be numbers [N, F], got {x.dtype} {list(x.shape)}")
    _check_finite(name, "input", x)
    return x.astype(np.float32)


def _check_finite(name: str, called: str, values: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))
    if len(bad):
        raise ValueError(
            f"{name}: {len(bad)} of {len(values)} {called}s hold NaN or infinity, the first is [{bad[0]}]: leave such "
            f"{called}s out, or repair them"
        )


def _labels(name: str, labels: np.ndarray, count: int) -> Int32[np.ndarray, " N"]:
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        more = ": one-hot? Use labels.argmax(1)" if labels.ndim == 2 and len(labels) == count else ""
        came = f"{labels.dtype} {list(labels.shape)}"
        raise ValueError(f"{name}: labels must be integers, one for each of {count} images, got {came}{more}")
    if labels.min() < 0:
        raise ValueError(f"{name}: labels count from 0, got {labels.min()}")
    return labels.astype(np.int32)


def _mask(name: str, mask: np.ndarray, shape: tuple[int, ...]) -> Bool[np.ndarray, "..."]:
    own = mask.ndim == len(shape) and len(mask) == shape[0]
    if mask.dtype != bool or not (own or broadcasts(mask.shape, shape[1:])):
        raise ValueError(
            f"{name}: the mask must be booleans that broadcast to an image {list(shape[1:])}, or one for each, got "
            f"{mask.dtype} {list(mask.shape)}"
        )
    if own and not broadcasts(mask.shape[1:], shape[1:]):
        raise ValueError(f"{name}: the masks {list(mask.shape[1:])} do not broadcast to images {list(shape[1:])}")
    if not mask.any():
        raise ValueError(f"{name}: the mask is False everywhere, so nothing may change")
    return np.broadcast_to(mask, shape) if own else mask
