"""How official image files become `array_record` data: tensorflow-datasets builders that need no TensorFlow.

Images are stored as bytes rather than as PNG, which is quicker both to write and to read, and in the official
order. `cwjax.lab.data` is the way in: it fetches the official files and checks them before it prepares any.
"""

import abc
import contextlib
import gzip
import io
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int64, UInt8

ImagesAndLabels = tuple[UInt8[np.ndarray, "N H W C"], UInt8[np.ndarray, " N"]]


class OfficialImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What all builders share; a subclass says the shape of its images and how to read one part of them.

    Prepare it with `DownloadConfig(manual_dir=...)`, the folder that holds the official files.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "cwjax.lab.data.load says which official files it needs, and where."
    SHAPE: tuple[int, int, int]  # height, width, channels

    @abc.abstractmethod
    def official(self, folder: Path, part: str) -> ImagesAndLabels:
        """Images and labels of the "train" or "test" part of the official files in `folder`."""

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Tensor(shape=self.SHAPE, dtype=np.uint8, encoding=tfds.features.Encoding.BYTES)
        label = tfds.features.ClassLabel(num_classes=10)
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Images of {self.SHAPE} bytes, each with one of 10 labels, in the official order.",
            features=tfds.features.FeaturesDict({"image": image, "label": label}),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        folder = Path(dl_manager.manual_dir)
        return {part: self._generate_examples(folder, part) for part in ("train", "test")}

    def _generate_examples(self, folder: Path, part: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for place, (image, label) in enumerate(zip(*self.official(folder, part), strict=True)):
            yield place, {"image": image, "label": int(label)}


class IdxImages(OfficialImages, skip_registration=True):
    """The four gzipped idx files of MNIST and of those that copy its format."""

    SHAPE = (28, 28, 1)

    def official(self, folder: Path, part: str) -> ImagesAndLabels:
        """See `OfficialImages`. An idx file is a header (16 bytes for images, 8 for labels), then bytes."""
        stem = {"train": "train", "test": "t10k"}[part]
        images = gzip.decompress((folder / f"{stem}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((folder / f"{stem}-labels-idx1-ubyte.gz").read_bytes())
        shaped = np.frombuffer(images, np.uint8, offset=16).reshape(-1, *self.SHAPE)
        return shaped, np.frombuffer(labels, np.uint8, offset=8)


class CifarImages(OfficialImages, skip_registration=True):
    """The binary archive of CIFAR-10, read as a stream: nothing is extracted to disk."""

    SHAPE = (32, 32, 3)

    def official(self, folder: Path, part: str) -> ImagesAndLabels:
        """See `OfficialImages`. A record is one byte of label, then the red, the green and the blue plane."""
        names = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}[part]
        batches: dict[str, bytes] = {}
        with tarfile.open(folder / "cifar-10-binary.tar.gz", "r|gz") as archive:
            for member in archive:
                name, content = Path(member.name).name, archive.extractfile(member)
                if name in names and content is not None:
                    batches[name] = content.read()
        records = np.frombuffer(b"".join(batches[name] for name in names), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def prepare(builder: type[OfficialImages], official: Path, prepared: Path) -> None:
    """Write the official files in one folder as `array_record` into another: all of it, or nothing."""
    prepared.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=prepared.parent) as unfinished:
        whole = Path(unfinished) / "whole"
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):  # its chatter
            builder(data_dir=whole).download_and_prepare(
                download_dir=unfinished,
                download_config=tfds.download.DownloadConfig(manual_dir=official),
                file_format="array_record",
            )
        try:
            whole.rename(prepared)
        except OSError:
            if not prepared.is_dir():  # there by now if another process was quicker
                raise


def read(
    builder: type[OfficialImages], prepared: Path, part: str, places: slice
) -> tuple[UInt8[np.ndarray, "N H W C"], UInt8[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """Images, labels and places of some of the prepared "train" or "test" part; any exception if damaged."""
    stored: Any = builder(data_dir=prepared)
    records = stored.as_data_source(part)
    index = np.arange(len(records))[places]
    examples = records.__getitems__(index.tolist())
    images = np.stack([example["image"] for example in examples])
    return images, np.array([example["label"] for example in examples], np.uint8), index
