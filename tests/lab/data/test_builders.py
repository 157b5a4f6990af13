"""How official files become prepared data: what is read of them, in which order, and all of it or nothing."""

import numpy as np
import pytest

from cwjax.lab.data import builders
from tests.lab.data.made import TEST, TRAIN, write_cifar, write_idx

pytestmark = pytest.mark.xdist_group("official files")  # with test_sources.py: they share what is slow to import

KINDS = {"idx": (builders.IdxImages, write_idx), "cifar": (builders.CifarImages, write_cifar)}


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("kind", KINDS)
def test_official_files_are_read_byte_by_byte_in_their_order(kind, part, tmp_path):
    """Of CIFAR-10 the batches are in the order of their numbers, whatever that of the archive."""
    make, write = KINDS[kind]
    wanted = write(tmp_path / "official")[part]
    images, labels = make(data_dir=tmp_path / "none").official(tmp_path / "official", part)
    assert images.dtype == labels.dtype == np.uint8
    np.testing.assert_array_equal(images, wanted[0])
    np.testing.assert_array_equal(labels, wanted[1])
    assert images.shape[1:] == make.SHAPE
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The official files, what they hold, and the folder that they were prepared in."""
    folder = tmp_path_factory.mktemp("builders")
    parts = write_idx(folder / "official")
    builders.prepare(builders.IdxImages, folder / "official", folder / "deep" / "prepared")
    return folder, parts


def test_some_of_what_was_prepared_can_be_read(prepared):
    folder, parts = prepared
    place = folder / "deep" / "prepared"
    for part, places, expected in (("train", slice(3, 7), range(3, 7)), ("test", slice(None), range(TEST))):
        images, labels, index = builders.read(builders.IdxImages, place, part, places)
        assert index.tolist() == list(expected)
        np.testing.assert_array_equal(images, parts[part][0][index])
        np.testing.assert_array_equal(labels, parts[part][1][index])
    assert len(builders.read(builders.IdxImages, place, "train", slice(None))[1]) == TRAIN
    assert [path.name for path in place.parent.iterdir()] == ["prepared"]


def test_who_comes_second_leaves_what_the_first_prepared(prepared):
    folder, _ = prepared
    place = folder / "deep" / "prepared"
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    builders.prepare(builders.IdxImages, folder / "official", place)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    assert [path.name for path in place.parent.iterdir()] == ["prepared"]


def test_a_folder_that_cannot_have_the_name_is_an_error(prepared, tmp_path):
    (tmp_path / "prepared").write_text("a file")
    with pytest.raises(OSError, match="prepared"):
        builders.prepare(builders.IdxImages, prepared[0] / "official", tmp_path / "prepared")
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]
