"""Images of your own: a file of arrays, or a folder of pictures by class."""

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from cwjax.lab.data import features
from cwjax.lab.data.dataset import CorruptData, Dataset, MissingData

ARRAYS = ("images", "labels", "names", "classes", "bounds", "mask", *features.ARRAYS)
"""Of a file .npz; the first two have to be there."""
_PICTURES = (".png", ".jpg", ".jpeg")
_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}  # of a split


class Wanted(NamedTuple):
    """What the options of a name ask for."""

    resize: tuple[int, int] | None  # height and width
    first: int | None  # images
    split: str | None  # as the source calls it
    config: str | None

    @classmethod
    def of(cls, name: str, told: Mapping[str, str]) -> "Wanted":
        """Raises ValueError for a value that is none."""
        size = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", told.get("resize", "1"))
        first = told.get("first", "1")
        if size is None or not first.isdecimal() or int(first) < 1:
            raise ValueError(f"--data {name}: resize is a size in pixels, such as 32 or 32x48, and first is a number")
        resize = (int(size[1]), int(size[2] or size[1])) if "resize" in told else None
        return cls(resize, int(first) if "first" in told else None, told.get("split"), told.get("config"))


def read_npz(name: str, path: Path, split: str, wanted: Wanted) -> Dataset:
    """The images of a file that `numpy.savez` wrote: the arguments of `Dataset.of`, by name.

    Raises:
      MissingData: there is no such file; a split other than "test".
      CorruptData: it cannot be read.
      ValueError: arrays that do not fit together.
    """
    if wanted.resize or wanted.split or wanted.config:
        raise ValueError(f"--data {name}: a file of arrays has no option but first")
    if not path.is_file():
        raise MissingData(f"there is no file {path}")
    if split != "test":
        raise MissingData(f"{path} has test images alone, no {split} split")
    if not zipfile.is_zipfile(path):
        raise CorruptData(
            f"{path} is no .npz file, or was cut off: write it with numpy.savez('{path.name}', images=…, labels=…)"
        )
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {key: file[key] for key in file.files if key in ARRAYS}
            others = [key for key in file.files if key not in ARRAYS]
    except ValueError as error:
        if "allow_pickle" not in str(error) and "Object arrays" not in str(error):
            raise CorruptData(f"{path} cannot be read ({error}): write it again with numpy.savez") from error
        raise ValueError(
            f"{path} holds an array of objects: images of several sizes? Have them all of one size, and stack them"
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise CorruptData(f"{path} cannot be read ({error}): write it again with numpy.savez") from error
    if missing := [key for key in ARRAYS[:2] if key not in found]:
        has = ", ".join([*found, *others]) or "nothing"
        raise ValueError(f"{path} must have the arrays images and labels, and lacks {' and '.join(missing)}: has {has}")
    bounds = found.pop("bounds", None)
    if bounds is not None and (bounds.shape != (2,) or bounds.dtype == object):
        raise ValueError(f"{path}: bounds must be two numbers (low, high), got shape {list(bounds.shape)}")
    told = {"bounds": tuple(map(float, bounds))} if bounds is not None else {}
    own = {key: found.pop(key) for key in features.ARRAYS if key in found}
    told |= {"features": own} if own else {}
    dataset = Dataset.of(found.pop("images"), found.pop("labels"), name=name, split=split, **told, **found)
    return dataset.take(slice(wanted.first))


def read_folder(name: str, folder: Path, split: str, wanted: Wanted) -> Dataset:
    """The PNG and JPEG files of a folder, in a folder for each class: FOLDER/CLASS/*.png, or FOLDER/SPLIT/CLASS/*.png.
    Classes and files are in the order of their names: the first file of each class, then the second of each, and so on,
    so that the first images are of all classes.

    Raises:
      MissingData: there are no pictures, or none of this split.
      CorruptData: a file is no picture.
      ValueError: pictures of several sizes, or with transparency.
    """
    if wanted.split or wanted.config:
        raise ValueError(f"--data {name}: a folder has no options but resize and first")
    root = next((folder / each for each in _FOLDERS[split] if (folder / each).is_dir()), None)
    if root is None and (split != "test" or any((folder / each).is_dir() for each in ("train", "validation", "val"))):
        raise MissingData(f"{folder} has no folder {_FOLDERS[split][0]}, for the {split} split")
    root = root or folder
    classes = sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    found = [(place, label, file) for label, each in enumerate(classes) for place, file in _pictures_in(root / each)]
    files = [(label, file) for _, label, file in sorted(found)]
    if not files:
        raise MissingData(f"{root} has no folder for each class with PNG or JPEG files in it, such as {root}/cat/1.png")
    files = files[: wanted.first]
    pictures = [picture_of(file) for _, file in files]
    names = [file.relative_to(root).as_posix() for _, file in files]
    images = stacked(name, pictures, names, wanted.resize)
    labels = np.array([label for label, _ in files])
    return Dataset.of(images, labels, name=name, split=split, classes=classes, names=names)


def _pictures_in(folder: Path) -> list[tuple[int, Path]]:
    return list(enumerate(sorted(file for file in folder.iterdir() if file.suffix.lower() in _PICTURES)))


def picture_of(file: Path) -> Any:
    """The picture of a file. Raises CorruptData where it cannot be decoded."""
    from PIL import Image

    try:
        with Image.open(file) as picture:
            picture.load()
            return picture
    except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for damaged files
        raise CorruptData(f"{file} is no picture that can be read ({error}): replace or delete it") from error


def stacked(
    name: str, pictures: Sequence[Any], names: Sequence[str], resize: tuple[int, int] | None
) -> UInt8[np.ndarray, "N H W C"]:
    """Pictures of PIL as one array: in grey if all are, else in colours.

    Raises:
      ValueError: pictures of several sizes that nobody asked to resize; with transparency, or of 16 bits.
    """
    modes = {picture.mode for picture in pictures}
    for picture, called in zip(pictures, names, strict=True):
        if picture.mode not in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
            raise ValueError(
                f"--data {name}: {called} has the mode {picture.mode}, such as transparency or 16 bits: save it in RGB "
                "or in grey of 8 bits"
            )
    mode = "L" if modes <= {"1", "L"} else "RGB"
    turned = [picture.convert(mode) for picture in pictures]
    if resize:
        turned = [each if each.size == resize[::-1] else each.resize(resize[::-1]) for each in turned]
    for each, called in zip(turned, names, strict=True):
        if each.size != turned[0].size:
            (w, h), (width, height) = turned[0].size, each.size
            raise ValueError(
                f"--data {name}: images have several sizes, {names[0]} {h}x{w} and {called} {height}x{width}: say "
                f"{name},resize={h}x{w}, or --resize {h}x{w}"
            )
    images = np.stack([np.asarray(each, np.uint8) for each in turned])
    return images[..., None] if images.ndim == 3 else images
