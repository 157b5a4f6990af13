"""Tiny official files, in the formats of MNIST and of CIFAR-10."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np

TRAIN, TEST = 10, 4  # images in the tiny official files


def random_images(count: int, shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, *shape), np.uint8), generator.integers(0, 10, count, np.uint8)


def write_idx(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The four files of MNIST's format, and what they hold."""
    folder.mkdir(parents=True)
    parts = {"train": random_images(TRAIN, (28, 28, 1), 0), "test": random_images(TEST, (28, 28, 1), 1)}
    for stem, (images, labels) in zip(("train", "t10k"), parts.values(), strict=True):
        for file, magic, array in (
            (f"{stem}-images-idx3-ubyte.gz", [0, 0, 8, 3], images[..., 0]),
            (f"{stem}-labels-idx1-ubyte.gz", [0, 0, 8, 1], labels),
        ):
            header = bytes(magic) + np.array(array.shape, ">u4").tobytes()
            (folder / file).write_bytes(gzip.compress(header + array.tobytes()))
    return parts


def write_cifar(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The archive of CIFAR-10's format, its batches in another order than their numbers, and what it holds."""
    folder.mkdir(parents=True)
    parts = {"train": random_images(TRAIN, (32, 32, 3), 2), "test": random_images(TEST, (32, 32, 3), 3)}

    def records(images: np.ndarray, labels: np.ndarray) -> bytes:
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        return np.concatenate([labels[:, None], planes], axis=1).tobytes()

    train_images, train_labels = parts["train"]
    members = {
        f"data_batch_{i + 1}.bin": records(train_images[2 * i : 2 * i + 2], train_labels[2 * i : 2 * i + 2])
        for i in (3, 0, 4, 1, 2)
    }
    members |= {"readme.html": b"<html>", "test_batch.bin": records(*parts["test"])}
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return parts
