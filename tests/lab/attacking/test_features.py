"""Features from the file to the report: on their levels, by their names."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

import cwjax as cw
from cwjax.lab import data, subjects
from cwjax.lab.attacking import presets
from cwjax.lab.sweeps import grid, units
from tests.lab.called import call

pytestmark = pytest.mark.usefixtures("kept")

NAMES = ("SEND_SMS", "INTERNET", "NFC", "pages")
SLOPES = np.array([0.1, 0.5, 1.0, 0.3], np.float32)


def network():
    """Harmless (0) where enough is added."""
    return cw.bind(lambda params, x: jnp.stack([x @ params, jnp.full(len(x), 1.2)], 1), SLOPES)


@pytest.fixture
def file(tmp_path):
    x = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0]], np.float32)
    arrays = {"images": x, "labels": np.ones(3, int), "features": NAMES, "classes": ["harmless", "malware"]}
    arrays |= {"levels": np.array([[0, 1, np.nan, np.nan]] * 3 + [[0, 1, 2, 4]]), "high": np.array([1, 1, 1, 4.0])}
    np.savez(tmp_path / "apps.npz", **arrays, rises=np.ones(4, bool), cost=np.array([1, 1, 9, 1.0]))
    return tmp_path / "apps.npz"


def test_what_changes_is_told_by_name(file, tmp_path):
    out = tmp_path / "run"
    name = f"{__name__}:network"
    told = ["--attack", "fast_l1", "--steps", "40", "--examples", "3", "--no-checks", "--save", "npz"]
    call("attack", "--model", name, "--data", str(file), "--out", str(out), *told)
    with np.load(out / "adversarial.npz") as arrays:
        x, clean = arrays["adversarial"], arrays["clean"]
    assert (x >= clean).all()
    assert np.isin(x[:, :3], [0, 1]).all()
    assert np.isin(x[:, 3], [0, 1, 2, 4]).all()
    assert (x @ SLOPES > 1.2).all()
    assert (x[:, 2] == 0).all()  # the dear one
    page = (out / "report.md").read_text()
    assert "## Changed features" in page
    assert "pages" in page
    assert "of 3" in page
    assert "## Examples" not in page
    assert "Features on their levels" in page
    assert not re.findall("(?i)pixel|image|picture", re.sub(r"(?s)## (Configuration|Can these).*?\n## ", "", page))
    assert "L1: the sum of the absolute changes" in page
    assert "how many features changed" in page
    assert json.loads((out / "run.json").read_text())["features"] == list(NAMES)
    again = data.load(str(out / "fast_l1.npz"), "test")
    assert again.features is not None
    np.testing.assert_array_equal(again.images, x)
    call("report", str(out))
    assert (out / "report.md").read_text() == page
    call("verify", str(out))


@pytest.mark.long
def test_a_sweep_of_them(file, tmp_path):
    out, name = tmp_path / "sweep", f"{__name__}:network"
    told = ["--attack", "fast_l1", "--steps", "40", "--confidence", "0", "0.1", "--examples", "3", "--no-checks"]
    call("sweep", "--model", name, "--data", str(file), "--out", str(out), *told)
    rows = pq.read_table(out / "results.parquet")
    assert rows["success"].to_pylist() == 6 * [True]
    assert not any("NFC" in each for each in rows["changed"].to_pylist())  # the dear one
    assert {each.split()[0] for each in rows["changed"].to_pylist()} <= set(NAMES)
    call("report", str(out))
    page = (out / "report.md").read_text()
    assert "in the units of the features" in page
    assert not re.findall("(?i)pixel|image|8 bits", page)
    call("verify", str(out))


def test_sweeps_take_them_and_refuse_what_they_do_not_have(file):
    sweep = grid.Sweep(model=(f"{__name__}:network",), data=(str(file),), attack=("fast_l1",), examples=3)
    assert len(units.plan(grid.read(None, sweep)).all) == 1
    for other, words in (
        ({"attack": ("fast_l2",)}, "keep small: --attack fast_l2"),
        ({"rounded": True}, "--rounded is for images of 8 bits"),
        ({"restored": True}, "--restored is for images"),
    ):
        with pytest.raises(ValueError, match=words):
            units.plan(grid.read(None, dataclasses.replace(sweep, **other)))


def test_what_features_do_not_allow_is_refused_before_anything_runs(file):
    with pytest.raises(ValueError, match="features have costs, which attacks in L0 and L1 keep small: --attack l2"):
        presets.check_features(["fast_l0", "l2"], data.load(str(file), "test").features)
    with pytest.raises(ValueError, match="has features, and races are for images"):
        subjects.subject_of(f"{__name__}:network", str(file))
