"""What needs several devices runs in a process of its own: with eight of them, every other test would be slower."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
def test_on_eight_devices():
    command = [sys.executable, "-m", "pytest", "tests/eight_devices.py", "-n", "0", "-o", "addopts=-q"]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8"}
    root = Path(__file__).parent.parent
    ended = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout
    assert "skipped" not in ended.stdout
