"""What may happen to a sweep, and that its table stays the same, byte by byte. CWJAX_FAULTS=1 does it all at length."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pandas as pd
import pytest

from cwjax.lab.sweeps import grid, results, units, working
from cwjax.lab.sweeps.vault import Vault
from tests.lab.sweeps import small

pytestmark = pytest.mark.xdist_group("faults")  # which share what is slow to make


@pytest.fixture(scope="module")
def plan():
    return small.planned()


@pytest.fixture(scope="module")
def undisturbed(plan, tmp_path_factory):
    """The folder of a sweep that nothing happened to, and its table."""
    folder = tmp_path_factory.mktemp("undisturbed") / "sweep"
    working.work(folder, plan.all)
    return folder, small.finished(folder, plan)


def run(target, *arguments) -> int:
    process = small.processes().Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def events(folder, name: str) -> list[dict]:
    lines = [line for file in (folder / "events").glob("*.jsonl") for line in file.read_text().splitlines()]
    return [event for event in map(json.loads, lines) if event["event"] == name]


def files(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.timeout(small.long(300, 3600))
def test_killed_at_any_moment(plan, undisturbed, tmp_path):
    kills = rounds = again = 0
    wanted = small.long(1, 100)
    while kills < wanted:
        folder = tmp_path / f"round{rounds}"
        folder.mkdir()
        rounds += 1
        while kills < wanted:
            before = sum(Vault(folder).has(unit.digest) for unit in plan.all)
            code = run(small.doomed, folder, plan.all, 1000 + kills)
            assert code in (0, -signal.SIGKILL)
            after = sum(Vault(folder).has(unit.digest) for unit in plan.all)
            assert after >= before
            if code == 0:
                break
            kills += 1
        working.work(folder, plan.all)
        assert small.finished(folder, plan) == undisturbed[1]
        assert not list((folder / "units").glob(".*"))
        assert not list((folder / "leases").glob("[!.]*"))
        assert not (folder / "quarantine").exists()
        done = [event["unit"] for event in events(folder, "done")]
        assert len(set(done)) == len(done) <= len(plan.all)  # a kill may come before the line is written
        again += len(events(folder, "began")) - len(plan.all)
    assert again <= kills  # each cost at most the chunk it was at
    print(f"{kills} kills in {rounds} sweeps: {again} of {rounds * len(plan.all)} units were begun once more")


def test_every_corruption_is_found(plan, undisturbed, tmp_path):
    folder, random = tmp_path / "sweep", np.random.default_rng(0)
    shutil.copytree(undisturbed[0] / "units", folder / "units")
    vault, digests = Vault(folder), [unit.digest for unit in plan.all]
    sound = {digest: vault.get(digest) for digest in digests}
    wanted = small.long(200, 1000)
    for _ in range(wanted):
        digest, other = random.choice(digests, 2, replace=False)
        place = folder / "units" / digest
        how = damage(random, place, folder / "units" / other)
        assert vault.get(digest) is None, how
        assert not vault.has(digest)
        for each in {digest, other}:
            shutil.rmtree(folder / "units" / each, ignore_errors=True)
            shutil.copytree(undisturbed[0] / "units" / each, folder / "units" / each)
    assert {digest: vault.get(digest) for digest in digests} == sound
    assert len(list((folder / "quarantine").iterdir())) == wanted


def damage(random, place, other) -> str:
    """Changes something about the unit in `place`; says what."""
    file = random.choice(sorted(place.iterdir()))
    content = bytearray(file.read_bytes())
    at, kind = int(random.integers(len(content))), int(random.integers(7))
    if kind == 0:
        content[at] ^= 1 << int(random.integers(8))
    elif kind == 1:
        del content[at:]
    elif kind == 2:
        content[at:at] = random.bytes(3)
    elif kind == 3:
        end = min(at + 512, len(content))
        content[at:end] = bytes(value ^ 0xFF for value in content[at:end])
    elif kind == 4:
        file.unlink()
        return f"{file.name} is gone"
    elif kind == 5:  # another unit's whole folder, which is sound in itself
        shutil.rmtree(place)
        shutil.copytree(other, place)
        return "another unit's folder"
    elif (other / file.name).read_bytes() != bytes(content):
        content = bytearray((other / file.name).read_bytes())
    else:
        content = bytearray()
    file.write_bytes(content)
    return f"{file.name} by {kind} at {at}"


def test_damage_is_put_away_and_done_again(plan, undisturbed, tmp_path):
    folder = tmp_path / "sweep"
    shutil.copytree(undisturbed[0], folder)
    for unit in plan.all[:2]:
        file = folder / "units" / unit.digest / working.ROWS
        file.write_bytes(file.read_bytes()[:-1])
    table, missing = results.table(folder)
    assert missing == results.Missing(2, len(plan.all))
    assert len(table) == 3 * 26 - 10
    working.work(folder, plan.all)
    assert small.finished(folder, plan) == undisturbed[1]
    assert len(list((folder / "quarantine").iterdir())) == 2


@pytest.mark.long
def test_crowded_workers_do_every_unit_once(tmp_path):
    workers, rows = small.long(3, 8), small.long(20, 200)
    seeds = tuple(range(rows // 20))
    plan = small.planned(grid.over(grid.Sweep(seed=seeds, examples=20, chunk=1, confidence=(0.5,)), small.SWEEP))
    assert len(plan.all) == rows
    folder = tmp_path / "sweep"
    folder.mkdir()
    crowd = [small.processes().Process(target=small.worker, args=(folder, plan.all)) for _ in range(workers)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
        assert each.exitcode == 0
    small.finished(folder, plan)
    table, _ = results.table(folder)
    assert len(table) == len(set(zip(table["seed"].to_pylist(), table["index"].to_pylist(), strict=True))) == rows
    for name in ("began", "done"):  # nothing was computed twice
        assert sorted(event["unit"] for event in events(folder, name)) == sorted(unit.digest for unit in plan.all)
    shares = {event["process"] for event in events(folder, "done")}
    assert len(shares) > 1


@pytest.mark.long
def test_a_full_disk_leaves_nothing_half_written(plan, undisturbed, tmp_path):
    folder = tmp_path / "small disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small disk to be had: mounting one needs root")
    try:
        assert run(full, folder, plan.all) == 0
        assert not list((folder / "units").glob(".*"))
        assert not list((folder / "leases").glob("[!.]*"))
        kept = {unit.digest for unit in plan.all if Vault(folder).get(unit.digest)}
        assert kept == {path.name for path in (folder / "units").iterdir()}
        assert 0 < len(kept) < len(plan.all)
        subprocess.run(["mount", "-o", "remount,size=8m", folder], check=True)
        run(small.worker, folder, plan.all)
        assert small.finished(folder, plan) == undisturbed[1]
    finally:
        subprocess.run(["umount", folder], check=True)


def full(folder, todo) -> None:
    """A worker that meets the end of the disk: at its own look beforehand, and then in the middle of writing."""
    small.quick(folder)
    with pytest.raises(working.Full, match=r"is full: what is done is kept .* run the same command again"):
        working.work(folder, todo)
    working._ROOM = 0
    with pytest.raises(working.Full):
        working.work(folder, todo)


def test_an_error_of_one_unit_is_told_and_the_others_are_done(plan, tmp_path, monkeypatch):
    bad, attacked = plan.all[1], working.attacked

    def moody(unit, watch):
        if unit == bad:
            raise RuntimeError("a bad\nday")
        return attacked(unit, watch)

    monkeypatch.setattr(working, "attacked", moody)
    failed, done = {}, []
    watcher = working.Watcher(
        failed=lambda unit, why: failed.update({unit: why}), done=lambda unit, _: done.append(unit)
    )
    working.work(tmp_path, plan.all[:4], watcher)
    assert failed == {bad: "RuntimeError: a bad day"}
    assert done == [plan.all[0], *plan.all[2:4]]
    assert [event["why"] for event in events(tmp_path, "failed")] == ["RuntimeError: a bad day"]


def test_an_example_that_gives_nan_disturbs_no_other(tmp_path):
    sweep = grid.over(grid.Sweep(confidence=(1.0,), rounded=True), small.SWEEP)
    tables = []
    for name in ("affine", "poisoned"):
        plan, folder = small.planned(grid.over(grid.Sweep(model=(f"{small.HERE}:{name}",)), sweep)), tmp_path / name
        working.work(folder, plan.all)
        small.finished(folder, plan)
        tables.append(results.table(folder)[0].to_pandas())
    clean, bad = tables
    photographs = units.data_named("cifar10_sample", None)
    dark = bad["index"].isin(photographs.index[photographs.images[:, 0, 0, 0] < small.DARK])
    assert 0 < dark.sum() < len(bad)
    assert clean.finite.all()
    assert not bad.finite[dark].any()
    assert not bad.success[dark].any()
    assert (bad.forwards[dark] == 1).all()
    same = [name for name in clean if name not in ("configuration", "unit", "model")]
    pd.testing.assert_frame_equal(bad[same][bad.finite], clean[same][bad.finite], check_exact=True)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_other_errors_of_the_disk_are_not_called_a_full_disk(number, plan, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(working.Vault, "put", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        working.work(tmp_path, plan.all[:1])
    assert not isinstance(caught.value, working.Full)
    assert not list((tmp_path / "leases").glob("[!.]*"))


def test_ctrl_c_gives_the_lease_back_and_leaves_nothing(tmp_path):
    plan = small.planned(dataclasses.replace(small.SWEEP, steps=(10_000_000,)))
    process = small.processes().Process(target=small.interruptible, args=(tmp_path / "sweep", plan.all))
    process.start()
    until(lambda: events(tmp_path / "sweep", "began"))
    time.sleep(0.5)  # it compiles, or attacks
    for _ in range(6):  # in a callback of the compiler's, Python says that there was a KeyboardInterrupt and goes on
        os.kill(process.pid, signal.SIGINT)
        process.join(10)
        if not process.is_alive():
            break
    process.kill()
    process.join()
    assert process.exitcode == 1
    assert not files(tmp_path / "sweep" / "leases")
    assert not list((tmp_path / "sweep").glob("units/.*"))


def until(true, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
