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


def parts(**options: str):
    """Tests that take long, each for any worker that is free: the argument of each, by name."""
    some = [pytest.param(option, id=name, marks=pytest.mark.xdist_group(name)) for name, option in options.items()]
    return pytest.mark.parametrize("part", some)


QUICK = {"all": "test"}
FULL = {"all_but_precisions": "not any_precision"}
FULL |= {dtype: f"any_precision and [{dtype}-" for dtype in ("bfloat16", "float16", "float32", "float64")}


@pytest.mark.timeout(7200 if LONG else 600)
@parts(**FULL if LONG else QUICK)
def test_every_attack_runner_and_command(part):
    said = passed("tests/sixty_four_bits.py", "-k", part, limit=7000 if LONG else 590, JAX_NUM_CPU_DEVICES="2")
    assert ("skipped" in said) == (not LONG)


@pytest.mark.skipif(not LONG, reason="a quarter of an hour each: CWJAX_LONG=1")
@pytest.mark.timeout(7200)
@parts(laws_in_float32="float32", laws_in_float64="float64")
def test_the_laws(part):
    passed("tests/test_laws.py", limit=7000, CWJAX_LAWS_DTYPE=part)
