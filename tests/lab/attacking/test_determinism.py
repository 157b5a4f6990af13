"""The same command on the same machine writes the same bytes, whichever process runs it."""

import os
import subprocess
import sys

import pytest


@pytest.mark.long
def test_the_same_command_writes_the_same_bytes(tmp_path):
    words = "attack --model tests.lab.sweeps.small:affine --data cifar10_sample --attack fast_l2 l2 --targets random"
    words += " --steps 20 --examples 20 --width 8 --no-checks --out"
    settings = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs")}
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        command = [sys.executable, "-m", "cwjax.lab.cli", *words.split(), str(folder)]
        subprocess.run(command, check=True, env=os.environ | settings, capture_output=True)
    for name in ("results.parquet", "adversarial.npz"):
        first, second = ((folder / name).read_bytes() for folder in folders)
        assert first == second
        assert len(first) > 1000
