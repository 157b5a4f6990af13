"""`cwjax verify`."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from cwjax.lab.console.parsing import DataFolder, optional
from cwjax.lab.generating import generated
from cwjax.lab.subjects import AUTO
from cwjax.lab.verifying import of_tests, verifying


def verify(
    folder: tyro.conf.Positional[Path],
    *,
    torch: Annotated[str | None, optional("MODULE:FUNCTION", "none")] = None,
    data: str = AUTO,
    data_folder: DataFolder = None,
) -> None:
    """Ask about every stored image once more: without jit, in float32 at the highest precision, with distances in
    NumPy's float64. Exit code 1 if rows disagree; 2 if there is nothing to verify, or it cannot be read.

    Of a folder of `cwjax generate` every test: what each model says, whether it does what it was made for, how far it
    is from its seed, that it is an 8-bit image within [0, 1], and that it changes only what its system may change.

    It asks whether the rows are what they say. Whether the attack was strong enough is another question, which the
    checks of `cwjax attack` ask: diagnosis.json has their answer, and the last line repeats it.

    A model that came from PyTorch, ONNX or Keras is asked in its own framework as well: rows have to agree by both.

    Writes PATH/verification.parquet: the rows, what was found of each, and whether it agrees. For instance:

        cwjax verify runs/first

    Args:
      folder: the folder that `cwjax attack`, `cwjax sweep` or `cwjax generate` wrote.
      torch: MODULE:FUNCTION, a function without arguments that returns the same model as a torch.nn.Module of images
        [B, C, H, W] in [0, 1]: every row has to agree by that as well.
      data: that was attacked; auto: what the folder names. If it names none, see `cwjax attack`.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data).
    """
    way = of_tests.verify if generated.is_one(folder) else verifying.verify
    if way(folder, torch=torch, data=data, data_folder=data_folder):
        sys.exit(1)
