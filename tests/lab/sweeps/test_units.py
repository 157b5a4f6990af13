"""What a unit's digest is made of: whatever decides its rows, and no more than that."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from cwjax.lab.data import Dataset
from cwjax.lab.sweeps import grid, units
from tests.lab.sweeps import small

DATASET = Dataset(
    name="made",
    split="test",
    images=np.arange(8, dtype=np.float32).reshape(2, 2, 2, 1) / 8,
    labels=np.array([0, 1], np.int32),
    index=np.array([5, 9], np.int64),
    classes=("one", "other"),
)
CHANGES = {
    "labels": np.array([0, 0], np.int32),
    "images": DATASET.images + np.float32(1 / 16),
    "index": np.array([5, 8], np.int64),
    "classes": ("one", "other", "third"),
}


@pytest.fixture
def examples_digest(monkeypatch):
    """The digest of both examples of a dataset."""

    def digest(dataset: Dataset, start: int = 0, stop: int = 2) -> str:
        monkeypatch.setattr(units, "data_named", lambda name, folder: dataset)
        return units._examples_digest.__wrapped__(units._Source("made", None, "", "untargeted"), start, stop)

    return digest


@pytest.mark.parametrize("field", CHANGES)
def test_examples_are_their_images_labels_places_and_how_many_classes(field, examples_digest):
    assert examples_digest(DATASET._replace(**{field: CHANGES[field]})) != examples_digest(DATASET)


def test_examples_of_other_names_are_the_same_examples(examples_digest):
    assert examples_digest(DATASET._replace(name="moved", classes=("a", "b"))) == examples_digest(DATASET)
    assert examples_digest(DATASET, 0, 1) != examples_digest(DATASET)


def test_a_units_digest_changes_with_its_labels(monkeypatch):
    unit = small.planned().all[0]
    dataset = units.data_named(unit.configuration.data, None)
    other = dataset._replace(labels=dataset.labels[::-1])
    monkeypatch.setattr(units, "data_named", lambda name, folder: other)
    units._examples_digest.cache_clear()
    try:
        assert units.digest_of(unit.configuration, unit.start, unit.stop, None) != unit.digest
    finally:
        units._examples_digest.cache_clear()


ROOT = Path(units.cwjax.__file__).parent
SOURCES = units.deciding(ROOT)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The sources that decide, in a folder of their own."""
    folder = tmp_path_factory.mktemp("sources") / "cwjax"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns("__pycache__", "zoo", "*.safetensors"))
    return folder


@pytest.fixture
def code(copied, monkeypatch):
    monkeypatch.setattr(units.cwjax, "__file__", str(copied / "__init__.py"))
    return units.code.__wrapped__


def test_every_source_that_decides_a_result_decides_the_digest(code, copied):
    assert {"attacks/pgd.py", "base.py", "parts/boxes.py", "lab/training/nets.py"} < set(SOURCES)
    assert {f"attacks/{file.name}" for file in (ROOT / "attacks").glob("*.py")} < set(SOURCES)
    seen = {code()}
    some = SOURCES if os.environ.get("CWJAX_LONG") else sorted(SOURCES)[::8]
    for source in some:
        file = copied / source
        text = file.read_bytes()
        file.write_bytes(text + b"\n# another\n")
        seen.add(code())
        file.write_bytes(text)
    assert len(seen) == 1 + len(some)
    assert code() in seen


def test_a_source_that_gets_another_name_is_another_source(code, copied):
    before = code()
    file = copied / "attacks" / "pgd.py"
    file.rename(renamed := copied / "attacks" / "pgd2.py")
    try:
        assert code() != before
    finally:
        renamed.rename(file)


@pytest.mark.parametrize("package", ["jax", "jaxlib", "optax", "numpy"])
def test_packages_that_compute_decide_too(package, code, monkeypatch):
    before, version = code(), units.importlib.metadata.version
    monkeypatch.setattr(
        units.importlib.metadata, "version", lambda name: "another" if name == package else version(name)
    )
    assert code() != before


def test_what_does_not_decide_leaves_the_digest_alone(code, copied):
    before = code()
    (copied / "lab" / "reporting" / "run_report.py").write_text("# another page\n")
    assert code() == before


def test_of_a_class_as_target_the_units_cut_the_images_of_others():
    [sweep] = grid.read(None, dataclasses.replace(small.SWEEP, targets=("2",), confidence=(), examples=26, chunk=20))
    plan = units.plan([sweep])
    labels = np.concatenate([units.examples_of(unit).labels for unit in plan.all])
    whole = units.data_named("cifar10_sample", None).labels
    assert labels.tolist() == whole[whole != 2][:26].tolist()
