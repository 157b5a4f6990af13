"""Ray and Slurm: the same table as at home, whatever is lost on the way."""

import json
import os
import signal
import threading
import time
import warnings

import pytest

from cwjax.lab.sweeps import grid, working
from cwjax.lab.sweeps.launching import Launch, check, launch
from tests.lab.sweeps import small

pytestmark = pytest.mark.xdist_group("launching")  # which share what is slow to make


@pytest.fixture(scope="module")
def plan():
    return small.planned(grid.over(grid.Sweep(confidence=(0.0, 1.0), examples=12), small.SWEEP))


@pytest.fixture(scope="module")
def at_home(plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home") / "sweep"
    folder.mkdir()
    process = small.processes().Process(target=small.worker, args=(folder, plan.all))
    process.start()
    process.join()
    return small.finished(folder, plan)


class Told(list):
    """Whom a launcher tells: the units that were done; and that none failed."""

    def __init__(self):
        self.watcher = working.Watcher(done=lambda unit, facts: self.append(unit), failed=self.fail)

    def fail(self, unit, why):
        raise AssertionError(why)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path_factory):
    """What a worker's own process is told before it begins."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "programs"))


@pytest.mark.long
def test_a_ray_worker_that_is_killed_costs_one_unit(plan, at_home, tmp_path):
    pytest.importorskip("ray", reason='pip install "cwjax[ray]" to test this')
    killed = []

    def kill():
        while not killed:
            for file in (tmp_path / "events").glob("*.jsonl"):
                lines = [json.loads(line) for line in file.read_text().splitlines()]
                if lines and lines[-1]["event"] == "began" and len(lines) > 2:
                    os.kill(lines[-1]["process"], signal.SIGKILL)
                    killed.append(lines[-1])
                    return
            time.sleep(0.01)

    killer, told = threading.Thread(target=kill), Told()
    killer.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        launch(Launch(launcher="ray"), tmp_path, plan.all, told.watcher)
    killer.join()
    assert sorted(told) == sorted(plan.all)
    assert small.finished(tmp_path, plan) == at_home
    lines = [line for file in (tmp_path / "events").glob("*.jsonl") for line in file.read_text().splitlines()]
    began = [event for event in map(json.loads, lines) if event["event"] == "began"]
    assert len(began) == len(plan.all) + 1
    assert [event["unit"] for event in began].count(killed[0]["unit"]) == 2


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # submitit's
def test_slurm_jobs_share_the_units(plan, at_home, tmp_path):
    pytest.importorskip("submitit", reason='pip install "cwjax[slurm]" to test this')
    told = Told()
    launch(Launch(launcher="slurm", cluster="local", jobs=2), tmp_path, plan.all, told.watcher)
    assert sorted(told) == sorted(plan.all)
    assert small.finished(tmp_path, plan) == at_home


@pytest.mark.parametrize("launcher", ["ray", "slurm"])
def test_a_launcher_that_is_not_installed_names_its_extra(launcher, plan, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, {"ray": "ray", "slurm": "submitit"}[launcher], None)
    with pytest.raises(ValueError, match=rf'not installed: pip install "cwjax\[{launcher}\]"'):
        launch(Launch(launcher=launcher), tmp_path, plan.all, working.Watcher())


def test_numbers_out_of_range_are_named():
    with pytest.raises(ValueError, match="--jobs must be at least 1, got 0"):
        check(Launch(jobs=0))
