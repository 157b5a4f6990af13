"""Images of tensorflow-datasets and of Hugging Face, by name."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cwjax.lab.data.dataset import CorruptData, Dataset, MissingData
from cwjax.lab.data.own import Wanted, stacked

TFDS, HF = "tfds:", "hf:"


def read_tfds(name: str, what: str, split: str, wanted: Wanted, folder: Path) -> Dataset:
    """A data set of tensorflow-datasets that was prepared before, as array_record, which needs no TensorFlow.

    Args:
      name: for errors and reports.
      what: its name there, such as cifar10 or imagenet_v2/topimages.
      split: that is read, unless `wanted` names another.
      wanted: options.
      folder: where it was prepared, the data_dir; that of tensorflow-datasets is looked in too.

    Raises:
      MissingData: it is not prepared, or has no such split.
      ValueError: not one image and one label an example; images of several sizes.
    """
    import tensorflow_datasets as tfds

    what = f"{what}/{wanted.config}" if wanted.config else what
    split, builder = wanted.split or split, None
    for place in (folder, None):
        try:
            builder: Any = tfds.builder(what, data_dir=place, try_gcs=False)
        except (tfds.core.DatasetNotFoundError, ValueError, OSError, ImportError):
            continue
        if builder.info.splits:
            break
    if builder is None or not builder.info.splits:
        raise MissingData(
            f"{name} is not prepared in {folder}: run tensorflow_datasets.builder({what!r}, data_dir={str(folder)!r})"
            ".download_and_prepare(file_format='array_record') first"
        )
    if split not in builder.info.splits:
        raise MissingData(f"{name} has no split {split!r}: say {name},split=… ({', '.join(builder.info.splits)})")
    features: Any = builder.info.features
    kinds = {"image": (tfds.features.Image,), "label": (tfds.features.ClassLabel,)}
    image, label = (
        _one(name, kind, [key for key in features if isinstance(features[key], kinds[kind])]) for kind in kinds
    )
    try:
        records: Any = builder.as_data_source(split)
        count = min(len(records), wanted.first or len(records))
        examples = records.__getitems__(list(range(count)))
    except Exception as error:  # every kind of damage, and of another file format, has its own exception
        told = " ".join(str(error).split())[:200]
        raise CorruptData(
            f"{name} cannot be read ({told}): prepare it with download_and_prepare(file_format='array_record')"
        ) from error
    names = [f"{split}/{place}" for place in range(count)]
    pictures = (_picture(np.asarray(example[image])) for example in examples)
    images = stacked(name, list(pictures), names, wanted.resize)
    labels = np.array([int(example[label]) for example in examples])
    return Dataset.of(images, labels, name=name, classes=features[label].names, names=names)


def read_hf(name: str, what: str, split: str, wanted: Wanted, folder: Path) -> Dataset:
    """A data set of Hugging Face: of the hub, by its name there, or a folder that its `save_to_disk` wrote.

    Args:
      name: for errors and reports.
      what: such as uoft-cs/cifar10, or a folder.
      split: that is read, unless `wanted` names another.
      wanted: options.
      folder: where downloads are kept.

    Raises:
      MissingData: the package is missing, or there is no such data set or split.
      ValueError: not one image and one label an example; images of several sizes.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingData(f'{name} needs the package datasets: pip install "cwjax[hf]"') from error
    split = wanted.split or split
    try:
        if Path(what).is_dir() and not wanted.config:
            table = datasets.load_from_disk(what)
            table = table[split] if isinstance(table, dict) else table
        else:
            table = datasets.load_dataset(what, wanted.config, split=split, cache_dir=str(folder / "huggingface"))
    except Exception as error:  # of the network, of the hub, of a script: each has its own
        raise MissingData(f"{name}, split {split}, cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    kinds = {"image": datasets.Image, "label": datasets.ClassLabel}
    image, label = (
        _one(name, kind, [key for key, each in table.features.items() if isinstance(each, kinds[kind])])
        for kind in kinds
    )
    rows = list(itertools.islice(iter(table), wanted.first))
    names = [f"{split}/{place}" for place in range(len(rows))]
    images = stacked(name, [row[image] for row in rows], names, wanted.resize)
    return Dataset.of(images, [row[label] for row in rows], name=name, classes=table.features[label].names, names=names)


def _one(name: str, kind: str, found: Iterable[str]) -> str:
    """The one column of that kind."""
    columns = list(found)
    if len(columns) != 1:
        has = f"{len(columns)}: {', '.join(columns)}" if columns else "none"
        raise ValueError(f"--data {name} must have one {kind} in each example, and has {has}")
    return columns[0]


def _picture(pixels: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
