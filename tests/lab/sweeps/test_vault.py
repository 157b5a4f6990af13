"""A unit is kept whole, once, or not at all."""

import errno
import os
import threading

import pytest

from cwjax.lab.sweeps import vault
from cwjax.lab.sweeps.vault import Vault

FILES = {"a": b"one", "b": b"two"}


def test_what_is_kept_comes_back_and_stays(tmp_path):
    kept = Vault(tmp_path)
    assert not kept.has("unit")
    assert kept.get("unit") is None
    assert kept.put("unit", FILES, {"seconds": 1.5})
    assert not kept.put("unit", {"a": b"other"}, {})
    assert kept.get("unit") == FILES
    assert kept.facts("unit") == {"seconds": 1.5}
    assert [path.name for path in tmp_path.iterdir()] == ["units"]
    assert [path.name for path in (tmp_path / "units").iterdir()] == ["unit"]


def test_of_many_writers_one_is_kept(tmp_path):
    barrier, kept = threading.Barrier(16), []

    def write(name: int):
        barrier.wait()
        if Vault(tmp_path).put("unit", {"a": b"%d" % name}, {}):
            kept.append(name)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 1
    assert Vault(tmp_path).get("unit") == {"a": b"%d" % kept[0]}
    assert len(list((tmp_path / "units").iterdir())) == 1


@pytest.mark.parametrize("step", range(4))  # two files, their manifest, their folder
def test_a_write_that_fails_leaves_nothing(step, tmp_path, monkeypatch):
    calls, real = 0, os.fsync

    def fail(handle):
        nonlocal calls
        calls += 1
        if calls > step:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(vault.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        Vault(tmp_path).put("unit", FILES, {})
    assert not list((tmp_path / "units").iterdir())


def test_what_is_kept_is_on_disk_and_so_is_its_name(tmp_path, monkeypatch):
    kept, real, forced = Vault(tmp_path), os.fsync, []

    def record(handle):
        forced.append((os.fstat(handle).st_ino, kept.has("unit")))
        real(handle)

    monkeypatch.setattr(vault.os, "fsync", record)
    kept.put("unit", FILES, {})
    place = tmp_path / "units" / "unit"
    contents = {path.stat().st_ino for path in (*place.iterdir(), place)}
    assert {inode for inode, named in forced if not named} == contents  # before the folder has its name
    assert [inode for inode, named in forced if named] == [(tmp_path / "units").stat().st_ino]  # and after


def test_what_a_killed_writer_left_is_swept_up(tmp_path):
    kept = Vault(tmp_path)
    kept.put("unit", FILES, {})
    for name in (".unit-1", ".other-2"):
        (tmp_path / "units" / name).mkdir()
        (tmp_path / "units" / name / "a").write_text("half")
    kept.sweep_up("unit")
    assert sorted(path.name for path in (tmp_path / "units").iterdir()) == [".other-2", "unit"]


def test_a_disk_that_cannot_be_read_is_not_damage(tmp_path, monkeypatch):
    kept = Vault(tmp_path)
    kept.put("unit", FILES, {})

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(vault.Path, "read_bytes", fail)
    with pytest.raises(OSError, match="Input/output"):
        kept.get("unit")
    monkeypatch.undo()
    assert kept.get("unit") == FILES
