"""With `jax_enable_x64`. It is a setting of the whole process, so each of these runs in a process of its own.

Shapes and types are checked there too (see conftest.py). CWJAX_LONG=1 runs every attack in every precision, and all the
laws twice more.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONG = os.environ.get("CWJAX_LONG")


def passed(*tests: str, limit: int, **more: str) -> str:
    """What pytest says of these tests, which must pass."""
    command = [sys.executable, "-m", "pytest", *tests, "-n", "0", "-o", "addopts=-q"]
    environment = os.environ | {"JAX_ENABLE_X64": "1", "CWJAX_CHECKED": "1"} | more
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    assert ended.returncode == 0, ended.stdout[-10_000:]
    assert " passed" in ended.stdout
    return ended.stdout


@pytest.mark.timeout(14_400 if LONG else 600)
def test_every_attack_runner_and_command():
    said = passed("tests/sixty_four_bits.py", limit=14_000 if LONG else 590, JAX_NUM_CPU_DEVICES="2")
    assert ("skipped" in said) == (not LONG)


@pytest.mark.skipif(not LONG, reason="a quarter of an hour each: CWJAX_LONG=1")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_laws(dtype):
    passed("tests/test_laws.py", limit=7000, CWJAX_LAWS_DTYPE=dtype)
