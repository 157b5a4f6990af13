"""What a run or a sweep claims, known to be whole."""

import json
import shutil

import numpy as np
import pytest

from cwjax.lab.attacking import runs
from cwjax.lab.files import store
from cwjax.lab.verifying import claims
from tests.lab.attacking.test_runs import record
from tests.lab.reporting.made import several
from tests.lab.sweeps import made


def changed(folder, change) -> None:
    """With other words in run.json."""
    told = json.loads((folder / runs.FILE).read_text())
    change(told)
    store.write_json(folder / runs.FILE, told)


@pytest.fixture
def run(tmp_path):
    """Three attacks of a model called mine."""
    record(tmp_path)
    changed(tmp_path, lambda told: told["about"].update(configuration={"model": "mine", "data": "blobs"}))
    return tmp_path


def test_each_attack_of_a_run_is_a_claim(run):
    changed(run, lambda told: told["attacks"][1]["settings"].update(confidence=2))
    found = list(claims.read(run))
    assert [(one.name, one.attack, one.model, one.data) for one in found] == [
        (name, name, "mine", "blobs") for name in ("l2", "l0", "linf")
    ]
    assert [one.confidence for one in found] == [0.0, 2.0, 0.0]
    for one, made_up in zip(found, several(), strict=True):
        assert one.table["distance"].equals(made_up.table["distance"])
        np.testing.assert_array_equal(one.adversarial, made_up.adversarial)


def test_data_that_a_run_does_not_name_is_found_later(run):
    changed(run, lambda told: told["about"]["configuration"].pop("data"))
    assert {one.data for one in claims.read(run)} == {"auto"}


def test_a_run_without_a_model_has_nothing_to_verify(tmp_path):
    record(tmp_path)
    with pytest.raises(ValueError, match="does not name its model, as that of the demo does not"):
        list(claims.read(tmp_path))


@pytest.mark.parametrize("confidence", ["much", [1], float("inf")])
def test_a_confidence_that_is_none_is_damage(confidence, run):
    changed(run, lambda told: told["attacks"][0]["settings"].update(confidence=confidence))
    with pytest.raises(store.CorruptFile, match="its confidence cannot be read"):
        list(claims.read(run))


def test_each_unit_of_a_sweep_that_is_done_is_a_claim(tmp_path, capsys):
    plan = made.sweep(tmp_path, [made.configuration(confidence=3.0), made.configuration("fast_linf")])
    shutil.rmtree(tmp_path / "units" / plan.all[1].digest)
    found = list(claims.read(tmp_path))
    done = [plan.all[place] for place in (0, 2, 3)]
    assert [one.name for one in found] == [f"{each.configuration.digest[:12]} {each.digest[:12]}" for each in done]
    assert [(one.attack, one.confidence) for one in found] == [("fast_l2", 3.0), *[("fast_linf", 0.0)] * 2]
    assert {(one.model, one.data) for one in found} == {("mine", "blobs")}
    assert all(len(one.table) == len(one.adversarial) == 5 for one in found)
    assert capsys.readouterr().out == "1 of 4 units are not done, or damaged: their rows are not looked at.\n"


def test_a_sweep_of_which_nothing_is_done_claims_nothing(tmp_path):
    made.sweep(tmp_path, [made.configuration()])
    shutil.rmtree(tmp_path / "units")
    with pytest.raises(FileNotFoundError, match=r"no unit of the sweep in .* is done: run it first"):
        list(claims.read(tmp_path))


def test_a_folder_with_neither_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no run in {tmp_path}"):
        list(claims.read(tmp_path))
