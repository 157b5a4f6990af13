"""Data sets of tensorflow-datasets that were prepared before, and of Hugging Face where that is installed."""

import contextlib
import io
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cwjax.lab import data

pytestmark = pytest.mark.xdist_group("official files")  # with test_builders.py: they share what is slow to import

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), np.uint8)


class Shapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Five pictures with their classes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(6, 4, 3)), "label": tfds.features.ClassLabel(names=["a", "b"])}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        for place, image in enumerate(IMAGES):
            file = io.BytesIO()  # tensorflow-datasets turns arrays into PNG by TensorFlow alone
            Image.fromarray(image).save(file, format="PNG")
            file.seek(0)
            yield place, {"image": file, "label": place % 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        Shapes(data_dir=folder).download_and_prepare(file_format="array_record")
    return folder


def test_a_prepared_data_set_is_read_by_its_name(prepared):
    found = data.load("tfds:shapes", "test", prepared)
    np.testing.assert_array_equal(np.round(255 * found.images), IMAGES)
    assert found.labels.tolist() == [0, 1, 0, 1, 0]
    assert (found.classes, found.names[1]) == (("a", "b"), "test/1")
    assert data.load("tfds:shapes,first=2,resize=3x2", "test", prepared).images.shape == (2, 3, 2, 3)


def test_what_is_not_prepared_says_how(prepared):
    with pytest.raises(data.MissingData, match=r"tfds:shapes has no split 'train': say .*split=… \(test\)"):
        data.load("tfds:shapes", "train", prepared)
    with pytest.raises(data.MissingData, match=r"not prepared in .*download_and_prepare\(file_format='array_record'\)"):
        data.load("tfds:no_such_data", "test", prepared)


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(data.MissingData, match=r'pip install "cwjax\[hf\]"'):
        data.load("hf:someone/pictures", "test", tmp_path)


def test_a_data_set_of_hugging_face_that_was_saved(tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs the extra hf")
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"img": [Image.fromarray(image) for image in IMAGES], "label": [0, 1, 0, 1, 0]}
    table = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"test": table}).save_to_disk(str(tmp_path / "saved"))
    found = data.load(f"hf:{tmp_path / 'saved'},first=3", "test")
    np.testing.assert_array_equal(np.round(255 * found.images), IMAGES[:3])
    assert (found.labels.tolist(), found.classes) == ([0, 1, 0], ("a", "b"))
    with pytest.raises(data.MissingData, match="split train, cannot be loaded"):
        data.load(f"hf:{tmp_path / 'saved'}", "train")
