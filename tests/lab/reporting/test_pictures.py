"""The pictures of a report."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cwjax.lab.reporting import findings, pictures
from tests.lab.reporting.made import INF, TARGETED, UNTARGETED, make_run, written

pytestmark = pytest.mark.usefixtures("drawn")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rows", [TARGETED, UNTARGETED], ids=["targeted", "untargeted"])
def test_the_examples_are_drawn_in_grey_and_in_colour(rows, channels, tmp_path):
    written(make_run(rows, channels=channels), tmp_path)
    with Image.open(tmp_path / "figures" / "l2-examples.png") as picture:
        columns = 4 if rows is TARGETED else 10  # fourteen examples, of which ten are shown
        assert columns * 96 < picture.width < (columns + 2) * 114


def test_a_framed_picture_has_the_pixels_of_the_clean_image(tmp_path):
    run = make_run(TARGETED)
    written(run, tmp_path)
    with Image.open(tmp_path / "figures" / "l2-examples.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    wanted = np.kron(np.round(255 * run.clean[0, ..., 0]), np.ones((16, 16)))  # 8 x 6 pixels, each 16 wide
    views = np.lib.stride_tricks.sliding_window_view(pixels[50:210, 50:190], wanted.shape)  # where it may lie
    assert np.abs(views - wanted).max(axis=(2, 3)).min() <= 1


def test_more_classes_than_fit_are_said_to_be_cut(tmp_path):
    rows = [(label, label, target, 1.0) for label in range(12) for target in range(12) if label != target]
    page, _ = written(make_run(rows, classes=tuple(f"class {i}" for i in range(12))), tmp_path)
    assert "10 × 10 of 12 classes are shown" in page


def test_what_cannot_be_drawn_is_no_picture():
    nothing = make_run([(0, 0, -1, INF)])
    assert pictures.curve(nothing, findings.columns_of(nothing)) is None
    for history in (None, {}, {"loss": []}, {"rate": [0.1, 0.2]}):
        assert pictures.training(history) is None


def test_a_picture_is_an_address_too():
    picture = pictures.training({"loss": [2.0, 1.0], "validation_accuracy": [0.5]})
    assert picture
    kind, content = picture.uri.split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == picture.png
    with Image.open(io.BytesIO(picture.png)) as drawn:
        assert drawn.width == 960  # 7.5 inches


@pytest.mark.parametrize(
    ("shape", "side"), [((8, 6), (128, 96)), ((28, 28), (84, 84)), ((28, 56), (84, 168)), ((400, 100), (192, 48))]
)
def test_small_images_are_enlarged_by_whole_pixels_and_large_ones_made_to_fit(shape, side):
    sheet = pictures.Sheet(np.zeros((1, *shape, 1)), (0, 0), ["row"], ["column"])
    assert (sheet.high, sheet.wide) == side
    assert sheet.interpolation == ("nearest" if max(shape) <= 96 else "hanning")
