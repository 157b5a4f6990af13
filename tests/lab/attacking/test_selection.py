"""Which images are attacked, and which of their elements may change."""

import numpy as np
import pytest

import cwjax as cw
from cwjax.lab import data
from cwjax.lab.attacking import selection
from tests.lab.called import fails

pytestmark = pytest.mark.usefixtures("kept")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.ones((3, 3, 1), bool), "got the shape [3, 3, 1], which does not broadcast"),
        (np.ones((28, 28, 1)), "got an array of float64"),
        (np.zeros((1, 1, 1), bool), "got one that is False everywhere"),
        (b"PNG", "holds no array: write it with numpy.save"),
        (None, "there is no such file: write the booleans with numpy.save"),
    ],
)
def test_a_file_that_is_no_mask_is_one_line(content, words, tmp_path, capsys):
    file = tmp_path / "mask.npy"
    if isinstance(content, np.ndarray):
        np.save(file, content)
    elif content:
        file.write_bytes(content)
    where = ["--data", "blobs", "--model", "tests.lab.called:brightness", "--out", tmp_path / "out"]
    assert words in fails(capsys, "attack", *where, "--examples", 3, "--mask", file)


def dataset(logits: np.ndarray, labels) -> data.Dataset:
    """Images that are their own logits."""
    images = np.asarray(logits, np.float32)[:, None, None]
    count = len(images)
    return data.Dataset("dots", "test", images, np.asarray(labels, np.int32), ("a", "b", "c"), np.arange(count))


ITSELF = cw.bind(lambda params, x: x.reshape(len(x), 3))


def test_an_image_is_right_where_its_label_leads_and_not_where_the_model_says_nan():
    logits = [[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [np.nan, 5, 0], [-3, -2, -1], [-3, -2, -1]]
    assert selection.right_in_block(ITSELF, dataset(np.array(logits), [0, 0, 1, 1, 2, 1]), 0).tolist() == [0, 2, 4]


def test_a_block_has_the_places_of_the_whole():
    labels = np.arange(selection.BLOCK + 6) % 3
    given = dataset(np.eye(3)[np.where(np.arange(len(labels)) % 2, labels, (labels + 1) % 3)], labels)
    assert selection.right_in_block(ITSELF, given, selection.BLOCK).tolist() == [501, 503, 505]
    assert selection.first_right(ITSELF, given, 252).tolist() == [*range(1, 500, 2), 501, 503]


def test_a_model_of_other_images_is_refused():
    with pytest.raises(ValueError, match="refused an input of shape"):
        selection.right_in_block(ITSELF, dataset(np.zeros((2, 4)), [0, 0]), 0)


def test_blocks_are_asked_for_until_there_are_enough():
    asked, given = [], dataset(np.zeros((1300, 3)), np.zeros(1300))

    def in_block(start):
        asked.append(start)
        return start + np.array([7, 9])

    assert selection.first_right(ITSELF, given, 3, in_block).tolist() == [7, 9, 507]
    assert asked == [0, 500]
    with pytest.raises(ValueError, match=r"^--examples 7 asks for more than the 6 test images of dots that the model"):
        selection.first_right(ITSELF, given, 7, in_block)
    with pytest.raises(ValueError, match=r"^seven of them asks for more than the 6 test images"):
        selection.first_right(ITSELF, given, 7, in_block, asked="seven of them")


@pytest.mark.parametrize("shape", [(16, 16, 1), (16, 1, 1), (1,), ()])
def test_a_mask_is_what_the_file_holds(shape, some, tmp_path):
    mask = np.ones(shape, bool)
    np.save(tmp_path / "mask.npy", mask)
    np.testing.assert_array_equal(selection.mask_of(tmp_path / "mask.npy", some), mask)


def test_a_file_of_several_arrays_is_no_mask(some, tmp_path):
    np.savez(tmp_path / "mask.npz", a=np.ones(1, bool), b=np.ones(1, bool))
    with pytest.raises(ValueError, match="got several arrays"):
        selection.mask_of(tmp_path / "mask.npz", some)
