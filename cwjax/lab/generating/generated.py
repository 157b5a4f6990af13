"""What `cwjax generate` leaves in its folder: the rows, the images, and what they are of."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cwjax.lab.files import outputs, store

FILE, ROWS, IMAGES = "generate.json", "tests.parquet", "tests.npz"


class Generated(NamedTuple):
    """A run of `cwjax generate`, of R rows."""

    table: pa.Table
    seeds: np.ndarray  # float32 [R, *S]
    x: np.ndarray  # float32 [R, *S]: the test; where there is none, the seed
    about: dict[str, Any]  # system, settings, models, data, classes, misread, neurons, environment …

    @property
    def met(self) -> np.ndarray:
        """Where a test does what was asked for."""
        return self.table["met"].to_numpy(zero_copy_only=False)

    @property
    def already(self) -> np.ndarray:
        """Where the seed itself does."""
        return self.met & (self.x == self.seeds).reshape(len(self.x), -1).all(1)


def write(tests: Generated, folder: Path) -> None:
    """Writes tests.parquet, tests.npz and, last of all, generate.json; each whole or not at all."""
    with store.atomically(folder / ROWS) as temporary:
        pq.write_table(tests.table, temporary)
    with store.atomically(folder / IMAGES) as temporary, temporary.open("wb") as file:
        index = tests.table["index"].to_numpy()
        np.savez_compressed(file, generated=tests.x, seeds=tests.seeds, met=tests.met, index=index)
    store.write_json(folder / FILE, tests.about)


def is_one(folder: Path) -> bool:
    """Whether the folder is one that `cwjax generate` wrote."""
    return (folder / FILE).is_file()


def read(folder: Path) -> Generated:
    """What a folder has.

    Raises:
      FileNotFoundError: `cwjax generate` has not ended there.
      store.CorruptFile: what it consists of cannot be read, or does not fit together.
    """
    if not is_one(folder):
        raise outputs.none_there(folder, "generate", "tests")
    about = store.read_json(folder / FILE)
    try:
        table = pq.read_table(folder / ROWS)
        with np.load(io.BytesIO((folder / IMAGES).read_bytes())) as arrays:
            seeds, x, met, index = (arrays[name] for name in ("seeds", "generated", "met", "index"))
        if not len(table) == len(seeds) == len(x) or not len(table):
            raise ValueError(f"{len(table)} rows and {len(x)} images")
        if met.tolist() != table["met"].to_pylist() or index.tolist() != table["index"].to_pylist():
            raise ValueError(f"{IMAGES} is of other rows than {ROWS}")
        for name in ("system", "settings", "models", "data", "classes", "misread", "title"):
            about[name]
    except Exception as error:  # whatever a damaged table or archive may raise
        raise store.CorruptFile(f"the tests in {folder} are damaged ({error}): run it again") from error
    return Generated(table, seeds, x, about)
