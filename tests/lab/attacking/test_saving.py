"""From a file of images to saved adversarial images and back, through the command line."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cwjax.lab import data
from cwjax.lab.attacking import saving
from tests.lab.called import call, fails

MODEL = "tests.lab.called:brightness"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Six blobs with names and a mask each, attacked; in images so grey that some successes are lost in 8 bits."""
    folder = tmp_path_factory.mktemp("own")
    blobs = data.SOURCES["blobs"].read("test", folder)
    names = [f"blob {place}" for place in blobs.places[:6]]
    masks = np.ones((6, 16, 16, 1), bool)
    masks[:, :, :2] = False
    masks[3, 0] = False
    file = folder / "mine.npz"
    np.savez(file, images=blobs.images[:6], labels=blobs.labels[:6], names=names, mask=masks)
    out, quick = folder / "run", ["--attack", "fast_l2", "--steps", "30", "--examples", "6", "--no-checks"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cwjax.lab.cli.compiling.keep", lambda folder: None)
        call("attack", "--model", MODEL, "--data", file, *quick, "--save", "png", "npz", "--out", out)
        call("verify", out)
    return file, out


@pytest.fixture(scope="module", autouse=True)
def source():
    from tests.lab.conftest import Blobs

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.SOURCES, "blobs", Blobs())
        yield


def test_rows_name_their_images_and_keep_to_their_masks(run):
    file, out = run
    table = pq.read_table(out / "results.parquet").to_pydict()
    assert table["name"] == [f"blob {1000 + place}" for place in range(6)]
    with np.load(out / "adversarial.npz") as arrays, np.load(file) as given:
        moved = arrays["adversarial"] != arrays["clean"]
        assert moved.any()
        assert not moved[~given["mask"]].any()
    assert json.loads((out / "run.json").read_text())["about"]["configuration"]["data"] == str(file)
    assert all(pq.read_table(out / "verification.parquet")["agrees"].to_pylist())


def test_saved_images_are_the_successes(run):
    _, out = run
    table = pq.read_table(out / "results.parquet").to_pydict()
    hits = [place for place, hit in enumerate(table["success"]) if hit]
    assert hits
    found = data.load(str(out / "fast_l2.npz"), "test")
    assert found.names == tuple(table["name"][place] for place in hits)
    assert found.labels.tolist() == [table["label"][place] for place in hits]
    with np.load(out / "adversarial.npz") as arrays:
        adversarial = arrays["adversarial"][hits]
    np.testing.assert_array_equal(found.images, adversarial)
    files = sorted((out / "images" / "fast_l2").rglob("*.png"), key=lambda file: file.name)
    assert len(files) == len(hits)
    for file, image in zip(files, adversarial, strict=True):
        with Image.open(file) as picture:
            np.testing.assert_array_equal(np.asarray(picture)[..., None], np.round(255 * image))


def test_successes_that_8_bits_lose_are_counted(run, capsys, kept, tmp_path):
    file, _ = run
    quick = ["--attack", "fast_l2", "--steps", "30", "--examples", "6", "--no-checks"]
    call("attack", "--model", MODEL, "--data", file, *quick, "--save", "png", "--out", tmp_path / "run")
    said = capsys.readouterr().out
    table = pq.read_table(tmp_path / "run" / "results.parquet").to_pydict()
    with np.load(tmp_path / "run" / "adversarial.npz") as arrays:
        levels = np.round(255 * arrays["adversarial"]) / 255
    corners = [levels[:, a : a + 5, b : b + 5, 0].mean((1, 2)) for a, b in ((2, 2), (2, 9), (9, 2))]
    answers = np.stack(corners, 1)
    own = answers[np.arange(6), table["label"]]
    lead = np.sort(np.where(np.arange(3) == np.array(table["label"])[:, None], -1, answers))[:, -1] - own
    lost = np.flatnonzero(np.array(table["success"]) & (lead <= 0))
    assert len(lost)  # so that the line is there
    rows = zip(*(table[name] for name in ("label", "index", "prediction")), strict=True)
    files = [f"class-{label:04d}/{index:06d}-is-{answer}.png" for label, index, answer in rows]
    which = ", ".join(files[place] for place in lost)
    counted = f"{len(lost)} of {sum(table['success'])} are none as they are on disk, in 8 bits: {which}; --rounded"
    assert counted in said


def test_what_cannot_be_saved_is_said_before_the_attack(capsys, kept, tmp_path):
    line = fails(capsys, "attack", "--model", MODEL, "--data", "blobs", "--save", "png", "png", "--out", tmp_path / "a")
    assert "names a kind twice" in line
    line = fails(capsys, "attack", "--model", "tests.lab.called:corners", "--save", "npz", "--out", tmp_path / "b")
    assert "--save is for images with labels" in line
    vectors = data.Dataset.of(np.zeros((2, 9)), [0, 1])
    with pytest.raises(ValueError, match=r"takes images \[H, W, 1\] or \[H, W, 3\], and my data has \[9\]"):
        saving.check_pictures(("png",), vectors)
