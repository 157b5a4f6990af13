"""A run is read as it was recorded, and damage to any of its files is one error."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cwjax.lab.attacking import rows, runs
from cwjax.lab.files import store
from cwjax.lab.reporting import run_report
from tests.lab.reporting.made import ABOUT, several


def record(folder):
    """Three attacks, as `cwjax attack` leaves them, in the folder."""
    found = several()
    attacked = [
        rows.Attacked(
            attack=run.attack,
            settings=run.settings,
            table=run.table.add_column(0, "attack", pa.array([run.attack] * len(run.table))),
            clean=run.clean,
            adversarial=run.adversarial,
            seconds=run.seconds,
        )
        for run in found
    ]
    rows.write(attacked, folder)
    runs.record(found, ABOUT, folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return record(tmp_path)


def test_the_report_is_the_same_again(folder):
    page = run_report.write(several(), ABOUT, folder / "first").read_text()
    found, about = runs.read(folder)
    assert about == ABOUT
    assert [run.attack for run in found] == ["l2", "l0", "linf"]
    np.testing.assert_array_equal(found[1].adversarial, several()[1].adversarial)
    assert run_report.write(found, about, folder / "again").read_text() == page


@pytest.mark.parametrize("name", ["run.json", "results.parquet", "adversarial.npz"])
def test_damage_is_one_error(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(store.CorruptFile, match=r"run (it )?again"):
        runs.read(folder)


def test_rows_and_images_of_different_runs_are_not_put_together(folder):
    table = pq.read_table(folder / "results.parquet")
    pq.write_table(table.take(list(range(len(table)))[::-1]), folder / "results.parquet")
    with pytest.raises(store.CorruptFile, match="another attack than results"):
        runs.read(folder)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run\.json is missing"):
        runs.read(tmp_path)
