"""Compiled programs are kept where nobody else can put one."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from cwjax.lab.files import compiling


@pytest.fixture(autouse=True)
def settings_as_they_were():
    names = ("jax_logging_level", "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_the_folder_is_made_private_and_filled(tmp_path):
    folder = tmp_path / "deep" / "programs"
    compiling.keep(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.jit(lambda x: jnp.sort(jnp.sin(x) * 3.14159))(jnp.ones(17)).block_until_ready()
    assert list(folder.iterdir())


@pytest.mark.long
def test_a_program_is_read_back_in_silence(tmp_path):
    code = """
import sys, jax, jax.numpy as jnp
from pathlib import Path
from cwjax.lab.files import compiling
compiling.keep(Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
print(jax.jit(lambda x: jnp.sort(jnp.sin(x) * 3))(jnp.ones(17)).sum())
"""
    folder, files = tmp_path / "programs", []
    for _ in range(2):
        ended = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
        files = sorted(path.name for path in folder.iterdir())
        assert ended.stderr == ""
        assert float(ended.stdout) == pytest.approx(17 * 3 * 0.84147, rel=1e-4)
    assert files == sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path, mode):
    os.chmod(tmp_path, mode)
    with pytest.raises(PermissionError, match="chmod 700"):
        compiling.keep(tmp_path)
    assert jax.config.values["jax_compilation_cache_dir"] != str(tmp_path)


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError):
        compiling.keep(tmp_path)


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv(compiling.VARIABLE, str(tmp_path))
    assert compiling.folder() == tmp_path
    monkeypatch.delenv(compiling.VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("platform.node", lambda: "a-machine")
    assert compiling.folder() == tmp_path / ".cache" / "cwjax" / "programs" / "a-machine"


def test_the_seconds_of_compiling_are_counted():
    with compiling.timed() as seconds:
        jax.jit(lambda x: jnp.cos(x) * 2.71828)(jnp.ones(13)).block_until_ready()
    assert seconds
    assert min(seconds) > 0
    count = len(seconds)
    jax.jit(lambda x: jnp.tan(x) * 2.71828)(jnp.ones(13)).block_until_ready()
    assert len(seconds) == count


def test_a_process_is_crowded_where_half_of_its_maps_are_taken(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self: "1000000000")  # allowed, whatever the tests before left
    assert not compiling.crowded()
    monkeypatch.setattr(Path, "read_text", lambda self: "4")
    assert compiling.crowded() == Path("/proc/self/maps").exists()
