"""Doing the units of a sweep: what a unit finds, what is compiled for it, what is kept of it."""

import dataclasses
import errno
import os

import numpy as np
import pytest

from cwjax.evaluation.diagnosis import diagnose
from cwjax.lab.attacking import attacking, presets
from cwjax.lab.attacking.request import Request
from cwjax.lab.files import compiling
from cwjax.lab.reporting import verdicts
from cwjax.lab.sweeps import grid, results, units, working
from cwjax.lab.sweeps.vault import Vault
from tests.lab.sweeps import made, small

pytestmark = pytest.mark.xdist_group("sweep commands")  # which share what is slow to make


def test_a_unit_finds_what_cwjax_attack_finds_whatever_the_chunk(tmp_path):
    tables = []
    for chunk in (5, 12):
        sweep = grid.Sweep(chunk=chunk, examples=12, confidence=(1.0,))
        plan, folder = small.planned(grid.over(sweep, small.SWEEP)), tmp_path / str(chunk)
        working.work(folder, plan.all)
        small.finished(folder, plan)
        tables.append(results.table(folder)[0].to_pandas())
    settings = presets.Settings(confidence=1.0, steps=10)
    attacked = attacking.run(
        small.affine(), units.examples_of(plan.all[0]), Request("fast_l2", settings, targets="random")
    )
    alone = attacked.table.to_pandas()
    for table in tables:
        for name in ("index", "label", "target", "success", "forwards", "prediction"):
            np.testing.assert_array_equal(table[name], alone[name])
        np.testing.assert_allclose(table.distance, alone.distance, rtol=1e-4)


@pytest.mark.long
def test_numbers_seeds_and_a_short_last_chunk_compile_nothing(tmp_path):
    sweep = grid.Sweep(seed=(0, 1), confidence=(0.0, 1.0), precision=("highest", "bfloat16"), rounded=True, examples=12)
    plan = small.planned(grid.over(sweep, small.SWEEP))
    first = [configuration.precision for configuration in plan.configurations].index("bfloat16")
    working.work(tmp_path, [*plan.units[0], *plan.units[first]])
    with compiling.timed() as seconds:
        working.work(tmp_path, plan.all)
    assert seconds == []
    small.finished(tmp_path, plan)
    table = results.table(tmp_path)[0].to_pandas()
    assert len(table) == 8 * 12
    assert not results.beliefs(tmp_path)  # nobody asked
    assert table.looks.isna().equals(table.precision == "highest")
    assert table.rounded.all()


@pytest.mark.parametrize("checks", [2, pytest.param(len(diagnose.CHECKS), marks=pytest.mark.long)])
def test_the_first_unit_of_each_configuration_is_checked(checks, tmp_path, request):
    if checks == 2:
        request.getfixturevalue("few_checks")
    sweep = dataclasses.replace(small.SWEEP, confidence=(0.0, 1.0), examples=12, checks=True)
    plan = small.planned(sweep)
    working.work(tmp_path, plan.units[0])
    with compiling.timed() as seconds:
        working.work(tmp_path, plan.all)
    assert seconds == []  # the checks of the second configuration, too, run the programs of the first
    told = [[verdicts.FILE in (Vault(tmp_path).get(unit.digest) or {}) for unit in own] for own in plan.units]
    assert told == [[True, False, False]] * 2
    small.finished(tmp_path, plan)
    found = results.beliefs(tmp_path)
    assert set(found) == {1, 2}
    assert all(len(each.rows) == checks for each in found.values())


@pytest.mark.long
def test_programs_are_let_go_where_they_crowd_the_process(tmp_path, monkeypatch):
    plan = small.planned(grid.over(grid.Sweep(confidence=(0.0,), examples=10), small.SWEEP))
    monkeypatch.setattr(compiling, "crowded", lambda: True)
    working.work(tmp_path / "one", plan.all[:1])
    with compiling.timed() as seconds:
        working.work(tmp_path / "two", plan.all)
    assert seconds  # what was let go is compiled again
    assert small.finished(tmp_path / "two", plan)


def test_another_machines_unit_is_not_done_with_other_weights(monkeypatch):
    unit = small.planned().all[0]
    with pytest.raises(ValueError, match=r"has another tests\.lab\.sweeps\.small:affine, cifar10_sample or cwjax"):
        working.attacked(unit._replace(digest="0" * 64))


def test_units_that_are_done_are_told_and_not_done_again(tmp_path):
    """Whoever did them: what they are named after does not matter any more."""
    plan, told, other = made.three(tmp_path), [], []
    watcher = working.Watcher(
        begun=other.append, failed=lambda *given: other.append(given), done=lambda *given: told.append(given)
    )
    working.work(tmp_path, plan.all, watcher)
    assert told == [(unit, made.FACTS) for unit in plan.all]
    assert other == []
    assert not (tmp_path / "events").exists()


def test_what_a_unit_kept_can_be_read(tmp_path):
    diagnosis = {"verdict": "pass", "line": "pass.", "checks": {}}
    plan = made.sweep(tmp_path, [made.configuration(), made.configuration(steps=20)], told={0: diagnosis})
    checked, unchecked = (Vault(tmp_path).get(unit.digest) for unit in (plan.all[0], plan.all[1]))
    assert checked
    assert unchecked
    assert working.table(checked)["distance"].to_pylist() == [1.0, 2, 3, 4, 5]
    arrays = working.arrays(unchecked)
    assert set(arrays) == {"adversarial", "index", "target"}
    assert arrays["index"].tolist() == working.table(unchecked)["index"].to_pylist()
    assert len(arrays["adversarial"]) == 5
    found = working.verdict(checked)
    assert found
    assert found.verdict == "pass"
    assert working.verdict(unchecked) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_an_error_that_says_what_to_do(number, tmp_path):
    words = rf"{tmp_path} is full: what is done is kept .* run the same command again"
    with pytest.raises(working.Full, match=words), working.disk(tmp_path):
        raise OSError(number, os.strerror(number))


def test_what_a_unit_spent_is_told_without_counting_anything_twice():
    assert working._spent({"compile": 3.0, "attack": 9.0}) == {"compiling": 3.0}
    assert working._spent({"compile": 3.0, "attack": 9.0, "checks": 5.0, "compiling of the checks": 4.0}) == {
        "compiling": 3.0,
        "checks": 1.0,
        "compiling of the checks": 4.0,
    }
