"""DeepRoad's and DeepTest's experiments on driving, on small drawn roads."""

import io

import numpy as np
import pytest
from PIL import Image

from experiments import deeproad, deeptest_roads, roads


@pytest.mark.long
def test_translated_weather_is_scored_against_the_weather(tmp_path):
    arguments = deeproad.Arguments(
        roads=True, weathers=("night",), images=30, updates=10, channels=4, steering=100, out=tmp_path
    )
    rows = deeproad.main(arguments)
    nothing, operator, moved, _ = rows
    assert [row["made by"] for row in rows] == ["nothing", "the operator itself", "moved colours", "translator"]
    assert operator["error"] == nothing["reports"] == 0
    assert moved["error"] < 0.05 < nothing["error"]  # night is affine
    assert operator["right"] == 1 or operator["reports"] == 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".csv", ".png"}


@pytest.mark.long
def test_a_larger_lambda_breaks_fewer_frames(tmp_path):
    arguments = deeptest_roads.Arguments(
        images=12, updates=200, steps=5, factors=(1.0, 50.0), transforms=("translation",), out=tmp_path
    )
    drive = roads.drawn(120)
    drive = drive._replace(said={"far": drive.held_out.angles + 1, "near": drive.held_out.angles + np.float32(1e-3)})
    many, few, strictly, rather = deeptest_roads.main(arguments, drive)
    assert few["random"] <= many["random"]
    assert few["clean"] <= many["clean"]
    # the network of least error is the yardstick: 0.001 radians, which the trained one does not come to
    assert {row["MSE of"] for row in (strictly, rather)} == {"near"}
    np.testing.assert_allclose(strictly["tolerance"], 1e-3, rtol=1e-3)
    assert strictly["clean"] > 0.5
    assert "near: squared error 0.0000" in (tmp_path / "deeptest_roads.md").read_text()


def test_a_drive_is_read_from_jpeg_files_and_blocks_are_held_out(tmp_path):
    rng, pieces = np.random.default_rng(0), []
    for _ in range(300):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (9, 10, 3), np.uint8)).save(file, "JPEG")
        pieces.append(file.getvalue())
    offset = np.cumsum([0, *map(len, pieces)])
    path = tmp_path / "drive.npz"
    arrays = {"blob": np.frombuffer(b"".join(pieces), np.uint8), "offset": offset, "steering": np.arange(300.0)}
    np.savez(path, **arrays, rambo=np.arange(300.0) + 7)
    drive = roads.of_file(path)
    assert drive.train.frames.shape[1:] == (8, 8, 3)
    held_out = drive.held_out.angles.reshape(10, 10)  # blocks 1, 4, 7 … of thirty
    np.testing.assert_array_equal(held_out, np.arange(300.0).reshape(30, 10)[1::3])
    assert list(drive.said) == ["rambo"]
    np.testing.assert_array_equal(drive.said["rambo"], drive.held_out.angles + 7)  # of the same frames
    apart = np.abs(drive.train.angles[:, None] - drive.held_out.angles[None]).min()
    assert apart == 2  # the frame beside a block that is held out is in neither part
    assert len(drive.train.angles) == 180


def test_a_file_of_something_else_is_refused_by_name(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(ValueError, match="holds no drive"):
        roads.of_file(tmp_path / "other.npz")
