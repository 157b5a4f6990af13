"""One worker at a time, whoever dies and whoever only sleeps."""

import json
import os
import threading
import time

import pytest

from cwjax.lab.sweeps import leases
from tests.lab.sweeps import small


def test_one_at_a_time_and_then_the_next(tmp_path):
    with leases.held(tmp_path, "unit") as first:
        assert first
        with leases.held(tmp_path, "unit") as second:
            assert not second
        with leases.held(tmp_path, "other") as other:
            assert other
    assert not list(tmp_path.glob("unit*"))
    with leases.held(tmp_path, "unit") as again:
        assert again


def test_of_many_one_gets_it(tmp_path):
    barrier, got = threading.Barrier(16), []

    def attempt():
        barrier.wait()
        with leases.held(tmp_path, "unit") as mine:
            got.append(mine)
            barrier.wait()  # all have tried before any gives it back

    threads = [threading.Thread(target=attempt) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 15 + [True]


def die(folder) -> None:
    with leases.held(folder, "unit"):
        os._exit(1)


@pytest.mark.long
def test_a_dead_holder_of_this_machine_is_followed_at_once_by_one(tmp_path):
    process = small.processes().Process(target=die, args=(tmp_path,))
    process.start()
    process.join()
    assert [file.name for file in tmp_path.iterdir()] == ["unit.0"]
    with leases.held(tmp_path, "unit") as mine:
        assert mine
        assert (tmp_path / "unit.1").exists()
        with leases.held(tmp_path, "unit") as second:
            assert not second
    assert not list(tmp_path.glob("unit*"))


def elsewhere(folder, seconds: float) -> None:
    """A lease of another machine that was last touched so long ago."""
    file = folder / "unit.0"
    file.write_text(json.dumps({"machine": "elsewhere", "process": 1, "born": 0.0}))
    then = time.time() - seconds
    os.utime(file, (then, then))


def test_a_silent_holder_elsewhere_is_followed_when_it_was_silent_for_long(tmp_path):
    elsewhere(tmp_path, 30)
    with leases.held(tmp_path, "unit", stale=60.0) as mine:
        assert not mine
    elsewhere(tmp_path, 90)
    with leases.held(tmp_path, "unit", stale=60.0) as mine:
        assert mine


def test_a_file_that_was_cut_off_counts_as_silent_not_as_dead(tmp_path):
    (tmp_path / "unit.0").write_text("{")
    with leases.held(tmp_path, "unit") as mine:
        assert not mine
    os.utime(tmp_path / "unit.0", (0, 0))
    with leases.held(tmp_path, "unit") as mine:
        assert mine


def test_a_holder_is_heard(tmp_path):
    with leases.held(tmp_path, "unit", beat=0.02):
        file = tmp_path / "unit.0"
        os.utime(file, (0, 0))
        time.sleep(0.3)
        assert time.time() - file.stat().st_mtime < 60


def test_who_slept_too_long_takes_nothing_from_who_came_after(tmp_path):
    with leases.held(tmp_path, "unit", beat=60.0):
        os.utime(tmp_path / "unit.0", (0, 0))
        with leases.held(tmp_path, "unit") as followed:
            assert followed
        after = leases.held(tmp_path, "unit")  # under the first name again
        assert after.__enter__()
        assert (tmp_path / "unit.0").exists()
    assert (tmp_path / "unit.0").exists()
    with leases.held(tmp_path, "unit") as another:
        assert not another
    after.__exit__(None, None, None)
    assert not list(tmp_path.glob("unit*"))


def test_a_lease_that_somebody_tidied_away_is_no_error(tmp_path):
    with leases.held(tmp_path, "unit", beat=0.01) as mine:
        assert mine
        (tmp_path / "unit.0").unlink()
        time.sleep(0.05)
    assert not list(tmp_path.glob("unit*"))


def test_leases_of_what_is_over_are_tidied_away(tmp_path):
    elsewhere(tmp_path, 0)
    leases.tidy(tmp_path, lambda name: False)
    assert (tmp_path / "unit.0").exists()
    leases.tidy(tmp_path, lambda name: name == "unit")
    assert not list(tmp_path.glob("unit*"))
