"""`cwjax verify` of a folder of `cwjax generate`: every test asked once more, by the plainest means there are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cwjax import coverage
from cwjax.lab.attacking.rows import places_of
from cwjax.lab.console.progress import progress, say
from cwjax.lab.data import Dataset
from cwjax.lab.files import store
from cwjax.lab.generating import generated, requirements_met
from cwjax.lab.generating.generated import Generated
from cwjax.lab.generating.settings import OWN
from cwjax.lab.subjects import AUTO, model_and_data, original_of
from cwjax.lab.verifying import verifying
from cwjax.models import Model

_AT_ONCE = 10  # tests
_TOLERANCE = 1e-5  # of a distance, relative


def verify(folder: Path, *, torch: str | None = None, data: str = AUTO, data_folder: Path | None = None) -> int:
    """Looks at every test again, and writes FOLDER/verification.parquet: the rows, what was found, and `agrees`.

    The seed has to be the data set's own image; each model has to answer what the row says of the seed and of the test;
    a test that is said to meet its requirement has to meet it, and to be an 8-bit image in [0, 1] that changes only
    what its system may change; its distances have to be those of the images to 1e-5. A requirement that is said not to
    be met has the seed in the place of a test.

    Args:
      folder: of `cwjax generate`.
      torch: has no meaning here.
      data: of the seeds; "auto": what the folder names.
      data_folder: where data is kept.

    Returns:
      How many rows do not agree.

    Raises:
      FileNotFoundError, store.CorruptFile: see `generated.read`.
      ValueError: a model that cannot be had; a twin in PyTorch; data with other images than the seeds.
    """
    if torch:
        raise ValueError("--torch is for folders of `cwjax attack` and `cwjax sweep`")
    tests = generated.read(folder)
    names = tests.about["models"]
    told = data if data != AUTO else tests.about["data"]
    loaded = [model_and_data(name, told, data_folder, checked=False) for name in names]
    dataset = loaded[0][3]
    if dataset.images.shape[1:] != tests.x.shape[1:]:
        shapes = [list(images.shape[1:]) for images in (dataset.images, tests.x)]
        raise ValueError(f"{dataset.name} has images of shape {shapes[0]}, and the tests are {shapes[1]}")
    models = [each[0] for each in loaded]
    faults: list[str] = []
    with progress("tests verified", len(tests.table)) as advance:
        for first in range(0, len(tests.table), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            faults += _looked_at(tests, some, models, names, dataset)
            advance(len(faults) - first)
    table = tests.table.append_column("fault", pa.array(faults))
    table = table.append_column("agrees", pa.array([not fault for fault in faults]))
    with store.atomically(folder / verifying.FILE) as temporary:
        pq.write_table(table, temporary)
    wrong = [(row, fault) for row, fault in zip(tests.table.to_pylist(), faults, strict=True) if fault]
    say(f"{len(table) - len(wrong)} of {len(table)} rows agree: {folder / verifying.FILE}")
    if none := int((~tests.met).sum()):
        say(f"{none} of them say that no test was found: they agree if their image is the seed, unchanged.")
    for row, fault in wrong[:5]:
        say(f"  test {row['test']}, image {row['index']}, {row['asked']}: {fault}")
    return len(wrong)


def _looked_at(
    tests: Generated, some: slice, models: Sequence[Model], names: Sequence[str], dataset: Dataset
) -> list[str]:
    """What is wrong with each of some rows; empty where all agrees."""
    table = tests.table.take(np.arange(len(tests.table))[some])
    columns = table.to_pydict()
    x, stored = tests.x[some], tests.seeds[some]
    seeds = dataset.images[places_of(table, dataset)]
    values = None
    if "neuron" in columns:
        values = _values(models[0], dataset, tests)
    ways = [verifying.plain(model, name) for model, name in zip(models, names, strict=True)]
    about = tests.about
    found = requirements_met.judged(about["system"], about["settings"], columns, seeds, x, ways, values)
    faults: list[list[str]] = [[each] if each else [] for each in found.faults]

    def say_where(wrong: np.ndarray, words: str) -> None:
        for row in np.flatnonzero(wrong):
            faults[row].append(words)

    axes = tuple(range(1, x.ndim))
    met, moved = np.asarray(columns["met"]), (x != seeds).any(axes)
    say_where((stored != seeds).any(axes), "its seed is not the image of the data")
    say_where(met & ~found.met, "it does not do what was asked for")
    say_where(~met & moved, "it is not met, and its image is not the seed")
    say_where(np.asarray(columns["already"]) != (met & ~moved), "whether a seed meets it is told otherwise")
    for i, name in enumerate(names):
        for when, said in (("before", found.before[i]), ("after", found.after[i])):
            told = np.asarray(columns[f"{when}_{i + 1}"])
            for row in np.flatnonzero(said != told):
                faults[row].append(f"{name} answers {said[row]} {when}, and not {told[row]}")
        way = original_of(name, x.shape[1:])
        if way is not None:
            say_where(np.asarray(way(x)).argmax(-1) != found.after[i], f"{name} answers otherwise in its own framework")
    change = x.astype(np.float64) - seeds
    for norm, measure in verifying.NORMS.items():
        true = measure(change)
        say_where(np.abs(true - columns[norm]) > _TOLERANCE * np.maximum(true, 1e-30), f"its {norm} is told otherwise")
    return ["; ".join(each) for each in faults]


def _values(model: Model, dataset: Dataset, tests: Generated) -> requirements_met.Way:
    """The values of all neurons, without jit and at the highest precision."""
    about: dict[str, Any] = tests.about
    own: Any = OWN[about["system"]].value
    neurons = coverage.neurons(model, dataset.images, value=own, unit=about["settings"]["unit"])

    def values(x: np.ndarray) -> np.ndarray:
        with jax.disable_jit(), jax.default_matmul_precision("highest"):
            return np.asarray(neurons(x)[1].values)

    return values
