"""A tiny source of images, so that training and attacks take seconds."""

import os
from pathlib import Path

import numpy as np
import pytest

import cwjax as cw
from cwjax.evaluation.diagnosis.checks import Cost, Definition, Measured, Skipped, judged
from cwjax.evaluation.diagnosis.diagnose import CHECKS
from cwjax.lab import data
from cwjax.lab.files import compiling
from cwjax.lab.training import training

LONG = bool(os.environ.get("CWJAX_LONG"))
PIXEL = bytes.fromhex(  # as PNG
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)


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


def canned() -> cw.evaluation.Diagnosis:
    """A diagnosis that took no time."""
    rule = Definition(lambda case: case, "share of <what> | was seen", 0.0, 0.5, "a | source", "Do <this> & that.")
    rows = np.arange(3)
    found = {
        "is_fine": Measured(0.0, rows, np.zeros(3)),
        "is_worse": Measured(0.75, rows, np.ones(3), "3 of 4"),
        "is_bad": Measured(0.25, rows, np.array([0.0, np.inf, np.nan])),
        "is_not_there": Skipped("it has no <need>"),
    }
    checks = {name: judged(name, rule, each) for name, each in found.items()}
    return cw.evaluation.Diagnosis(checks, Cost(forwards=1200, backwards=34, seconds=5.6), examples=64)


@pytest.fixture
def drawn():
    """For tests that look at the pictures of reports: they are drawn."""


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """The pictures of reports are a pixel each, which takes a tenth of the time; `make test-all` draws all."""
    if not LONG and "drawn" not in request.fixturenames:
        from matplotlib.figure import Figure

        monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: file.write(PIXEL))


@pytest.fixture
def few_checks(monkeypatch):
    """Two checks, that compile little, are all there are."""
    for name in CHECKS.keys() - {"second_look", "zero_gradient"}:
        monkeypatch.delitem(CHECKS, name)


@pytest.fixture
def kept(monkeypatch):
    """The folders that compiled programs would have been kept in from then on."""
    folders = []
    monkeypatch.setattr(compiling, "keep", folders.append)
    return folders


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A network that tells the blobs apart."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.SOURCES, "blobs", Blobs())
        return training.train(
            training.Training(data="blobs", net="mnist_dense", recipe="paper_mnist", epochs=12), folder
        )
