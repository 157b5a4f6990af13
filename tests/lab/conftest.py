"""A tiny source of images, so that training and attacks take seconds."""

from pathlib import Path

import numpy as np
import pytest

from cwjax.lab import data, training


class Blobs:
    """16×16 images of three classes: a bright square in one of three corners, in noise."""

    classes = ("left", "right", "below")

    def read(self, split: str, folder: Path) -> data.Images:
        rng = np.random.default_rng(data.SPLITS.index(split))
        labels = np.arange(160 if split == "train" else 30, dtype=np.uint8) % 3
        images = rng.integers(0, 60, size=(len(labels), 16, 16, 1))
        for image, (row, column) in zip(images, np.array([(2, 2), (2, 9), (9, 2)])[labels], strict=True):
            image[row : row + 5, column : column + 5] += 120
        return data.Images(images.astype(np.uint8), labels, np.arange(len(labels)) + 1000)


@pytest.fixture(autouse=True)
def blobs(monkeypatch):
    """A source called "blobs"."""
    monkeypatch.setitem(data.SOURCES, "blobs", Blobs())


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A network that tells the blobs apart."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.SOURCES, "blobs", Blobs())
        return training.train(training.Training(data="blobs", recipe="paper_mnist", epochs=8), folder)
