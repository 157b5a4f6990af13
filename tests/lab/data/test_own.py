"""Images of your own: files and folders as users have them, and what is said of those that cannot be read."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from cwjax.lab import data

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (4, 6, 5, 3), np.uint8)
LABELS = np.array([0, 2, 1, 2])


def written(folder, **arrays) -> str:
    path = folder / "mine.npz"
    every: dict[str, Any] = {"images": BYTES, "labels": LABELS} | arrays
    np.savez(path, **every)
    return str(path)


def test_a_file_of_arrays_says_all_there_is(tmp_path):
    more = {"names": ["a", "b", "c", "d"], "classes": ["x", "y", "z"], "mask": np.ones((6, 5, 1), bool)}
    found = data.load(written(tmp_path, **more), "test")
    np.testing.assert_array_equal(found.images, BYTES.astype(np.float32) / np.float32(255))
    assert found.labels.tolist() == [0, 2, 1, 2]
    assert (found.names, found.classes) == (("a", "b", "c", "d"), ("x", "y", "z"))
    assert found.mask is not None
    assert found.mask.shape == (6, 5, 1)
    assert found.index.tolist() == [0, 1, 2, 3]
    some = found.take(np.array([3, 1]))
    assert (some.names, some.index.tolist(), some.labels.tolist()) == (("d", "b"), [3, 1], [2, 2])


def test_bounds_are_what_zero_and_one_stand_for(tmp_path):
    images = BYTES / np.float32(127.5) - 1
    found = data.load(written(tmp_path, images=images, bounds=(-1.0, 1.0)), "test")
    np.testing.assert_allclose(found.images, BYTES / 255, atol=1e-6)
    grey = data.load(written(tmp_path, images=BYTES[..., 0], mask=BYTES[..., :1] > 9), "test")
    assert grey.images.shape == (4, 6, 5, 1)
    assert grey.take(slice(1, 3)).mask is not None
    assert grey.take(slice(1, 3)).mask.shape == (2, 6, 5, 1)  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"images": BYTES.astype(np.float32)},
            r"must lie in \[0, 1\], got values from 0 to 255: store bytes as uint8, or .* bounds=",
        ),
        ({"images": BYTES.astype(np.int64)}, "must be uint8 or floats, got int64"),
        (
            {"images": np.where(np.arange(4) == 2, np.nan, BYTES.T / 255).T},
            r"1 of 4 images hold NaN or infinity, the first is \[2\]: leave such images out, or repair them",
        ),
        ({"images": BYTES.transpose(0, 3, 1, 2)}, r"channels first\? Use images.transpose\(0, 2, 3, 1\)"),
        ({"images": np.array([BYTES[0], None], object)}, "array of objects: images of several sizes"),
        ({"labels": np.eye(3, dtype=int)[LABELS]}, r"one-hot\? Use labels.argmax\(1\)"),
        ({"labels": LABELS[:2]}, "one for each of 4 images"),
        ({"labels": LABELS - 1}, "labels count from 0, got -1"),
        ({"classes": ["x", "y"]}, "labels go up to 2, and there are 2 classes"),
        ({"names": ["a"]}, "1 names for 4 images"),
        ({"mask": np.ones((6, 5), bool)}, r"must be booleans that broadcast to an image \[6, 5, 3\]"),
        ({"mask": np.zeros((6, 5, 1), bool)}, "False everywhere"),
        ({"bounds": (1.0, 0.0), "images": BYTES / 255}, "the lower first, got 1.0 and 0.0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(tmp_path, arrays, words, as_users_have_it):
    with pytest.raises(ValueError, match=words) as caught:
        data.load(written(tmp_path, **arrays), "test")
    assert "mine.npz" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    np.savez(tmp_path / "other.npz", x=BYTES, labels=LABELS)
    with pytest.raises(ValueError, match=r"lacks images: has labels, x"):
        data.load(str(tmp_path / "other.npz"), "test")
    np.save(tmp_path / "alone.npy", BYTES)
    one_array, archive = ((tmp_path / name).read_bytes() for name in ("alone.npy", "other.npz"))
    for content in (b"some text", b"", b"PK\x03\x04 but no archive", one_array, archive[:-30]):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(data.CorruptData, match=r"bad\.npz is no \.npz file, or was cut off: write it with numpy\."):
            data.load(str(tmp_path / "bad.npz"), "test")
    (tmp_path / "bad.npz").write_bytes(archive.replace(b"NUMPY", b"NUMPX"))
    with pytest.raises(data.CorruptData, match=r"bad\.npz cannot be read"):
        data.load(str(tmp_path / "bad.npz"), "test")
    with pytest.raises(data.MissingData, match="there is no file"):
        data.load(str(tmp_path / "none.npz"), "test")
    with pytest.raises(data.MissingData, match="test images alone, no train split"):
        data.load(written(tmp_path), "train")
    with pytest.raises(ValueError, match="the option 'reisze', which is not known here: choose one of resize"):
        data.load(f"{written(tmp_path)},reisze=3", "test")
    assert len(data.load(f"{written(tmp_path)},first=2", "test").labels) == 2
    for name in ("alone.npy", "alone.csv"):
        (tmp_path / name).write_bytes(one_array)
        with pytest.raises(ValueError, match=r"a \.npz, which has labels .* numpy\.savez\('alone\.npz', "):
            data.load(str(tmp_path / name), "test")
    with pytest.raises(ValueError, match=r"no data is called 'minst': choose one of mnist5k.*FILE\.npz, a folder"):
        data.load("minst", "test")


def pictures(root, sizes=((6, 5), (6, 5), (6, 5)), modes=("RGB", "RGB", "L")):
    for place, (label, (height, width), mode) in enumerate(zip(("cat", "dog", "dog"), sizes, modes, strict=True)):
        (root / label).mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 256, (height, width, 3) if mode == "RGB" else (height, width), np.uint8)
        Image.fromarray(pixels).save(root / label / f"{place}.png")
    return root


def test_a_folder_of_pictures_has_their_classes_and_names(tmp_path):
    found = data.load(str(pictures(tmp_path / "photos")), "test")
    assert found.classes == ("cat", "dog")
    assert found.names == ("cat/0.png", "dog/1.png", "dog/2.png")
    assert found.labels.tolist() == [0, 1, 1]
    assert found.images.shape == (3, 6, 5, 3)
    with Image.open(tmp_path / "photos" / "dog" / "1.png") as picture:
        np.testing.assert_array_equal(np.round(255 * found.images[1]), np.asarray(picture))
    assert (found.images[2, ..., 0] == found.images[2, ..., 2]).all()  # grey among colours
    assert data.load(str(pictures(tmp_path / "grey", modes=("L",) * 3)), "test").images.shape[-1] == 1
    with pytest.raises(data.MissingData, match="no folder train"):
        data.load(str(tmp_path / "photos"), "train")


def test_a_folder_may_have_splits(tmp_path):
    for split in ("train", "val"):
        pictures(tmp_path / split)
    assert len(data.load(str(tmp_path), "train").labels) == len(data.load(str(tmp_path), "validation").labels) == 3
    with pytest.raises(data.MissingData, match="no folder test"):
        data.load(str(tmp_path), "test")


def test_pictures_are_resized_only_when_told(tmp_path):
    folder = str(pictures(tmp_path, sizes=((6, 5), (8, 8), (6, 5))))
    with pytest.raises(ValueError, match=r"cat/0.png 6x5 and dog/1.png 8x8: say .*,resize=6x5, or --resize 6x5"):
        data.load(folder, "test")
    assert data.load(f"{folder},resize=6x5", "test").images.shape == (3, 6, 5, 3)
    assert data.load(f"{folder},resize=4", "test").images.shape == (3, 4, 4, 3)
    with pytest.raises(ValueError, match="resize is a size in pixels"):
        data.load(f"{folder},resize=big", "test")


def test_a_picture_that_is_none_is_named(tmp_path):
    pictures(tmp_path)
    whole = (tmp_path / "dog" / "1.png").read_bytes()
    (tmp_path / "dog" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(data.CorruptData, match=r"dog.1\.png is no picture that can be read"):
        data.load(str(tmp_path), "test")
    Image.fromarray(np.zeros((6, 5, 4), np.uint8)).save(tmp_path / "dog" / "1.png")
    with pytest.raises(ValueError, match=r"dog/1\.png has the mode RGBA, such as transparency"):
        data.load(str(tmp_path), "test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(data.MissingData, match="no folder for each class"):
        data.load(str(tmp_path / "empty"), "test")
