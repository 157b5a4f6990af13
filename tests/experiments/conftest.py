"""Images of blobs for experiments that would attack digits, and what holds of every table."""

import csv
from pathlib import Path

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.lab import data
from cwjax.lab.attacking import attacking, presets, runs
from cwjax.lab.attacking.request import Request
from cwjax.lab.reporting import run_report
from tests.lab.conftest import Blobs


@pytest.fixture(autouse=True)
def blobs(monkeypatch):
    """A source called "blobs"."""
    monkeypatch.setitem(data.SOURCES, "blobs", Blobs())


def check_table(name: str, rows: list[dict], out: Path) -> None:
    """The files are there and whole; what was reported as a success was one when looked at again, and moved."""
    assert {path.name for path in out.iterdir()} == {f"{name}.md", f"{name}.csv", f"{name}.png"}
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with (out / f"{name}.csv").open() as file:
        assert [list(row) for row in csv.DictReader(file)] == [list(row) for row in rows]
    assert (out / f"{name}.md").read_text().count("\n| ") == len(rows) + 1
    for row in rows:
        assert row["verified"] == row["success"] > 0
        assert row["mean L2"] > 0
        assert row["median L2"] > 0


def one_of(tree):
    """The first entry of a batch."""
    return jax.tree.map(lambda leaf: leaf[0], tree)


def check_task(task: cw.Task, out: Path) -> None:
    """The command line's functions attack it, and a report tells what it says."""
    dataset = data.Dataset(
        task.name, "test", task.x, np.zeros(len(task.x), np.int32), ("no", "yes"), np.arange(len(task.x)), task
    )
    attacked = attacking.run(task.model, dataset, Request("fast_l2", presets.Settings(steps=60)))
    rows = attacked.table.to_pydict()
    assert any(rows["success"])
    for before, after, hit in zip(rows["clean_says"], rows["says"], rows["success"], strict=True):
        assert (before != after) == hit
    [run] = runs.runs_of([attacked], dataset)
    page = run_report.write([run], run_report.About("", {}, {}, None, {}), out).read_text()
    assert rows["says"][rows["success"].index(True)].split()[0] in page


@pytest.fixture
def hidden_net(monkeypatch):
    """What every name of a model means: a network of six hidden neurons that gets some blobs wrong."""
    from experiments import coverage_subjects

    train = data.load("blobs", "train")
    flat = train.images.reshape(len(train.images), -1)
    first = np.random.default_rng(2).normal(size=(flat.shape[1], 6)).astype(np.float32) / 8
    hidden = np.maximum(flat @ first, 0)
    wanted = np.eye(3, dtype=np.float32)[train.labels]
    second = np.linalg.lstsq(hidden, wanted, rcond=None)[0].astype(np.float32)

    def apply(params, x):
        return 10 * jax.nn.relu(x.reshape(len(x), -1) @ params["first"]) @ params["second"]

    model = cw.bind(apply, {"first": first, "second": second})
    monkeypatch.setattr(coverage_subjects, "model_of", lambda name: (model, None))
    return model


def check_coverage_table(name: str, rows: list[dict], out: Path) -> None:
    """The files are there, and the page says that coverage is no quality."""
    assert {path.name for path in out.iterdir()} == {f"{name}.md", f"{name}.csv", f"{name}.png"}
    with (out / f"{name}.csv").open() as file:
        assert [list(row) for row in csv.DictReader(file)] == [list(row) for row in rows]
    assert "no measure of" in (out / f"{name}.md").read_text()


@pytest.fixture(scope="session")
def tone_data(tmp_path_factory):
    """Tones in the place of spoken digits, split."""
    from experiments import spoken
    from tests.experiments import tones

    folder = tmp_path_factory.mktemp("tones")
    tones.write(folder)
    return spoken.split(spoken.read(folder), "odd")
