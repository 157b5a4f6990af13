"""Files that anybody may have written: whatever is in them, they are read or they are one error, and nothing in them is
run.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cwjax.lab import data
from cwjax.lab.attacking import runs
from cwjax.lab.files import store
from cwjax.lab.reporting import verdicts
from cwjax.lab.sweeps import grid, outcomes, results
from cwjax.lab.training import training
from cwjax.lab.verifying import claims
from tests.lab.attacking.test_runs import record
from tests.lab.conftest import Blobs, canned
from tests.lab.sweeps import made

pytestmark = pytest.mark.usefixtures("as_users_have_it")

AXES = 'model = "m"\nattack = ["l2", "fast_l2"]\nconfidence = [0, 10.5]\nsteps = 50\nrounded = true\n'
WORDS = [*AXES.split(), "[[grid]]", "[", "]", "'", '"', "\n", "0", "-1", "1e999", "nan", "true", "1979-05-27", "{}"]

bounded = settings(
    max_examples=60 if os.environ.get("CWJAX_LONG") else 20,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """The content with some bytes overwritten, put in or left out."""
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        new, gone = draw(st.binary(max_size=8)), draw(st.integers(0, 8) | st.just(len(content)))
        content = content[:place] + new + content[place + gone :]
    return content


@st.composite
def twisted(draw, value: Any) -> bytes:
    """The value as JSON, with another value somewhere in it, or a part missing."""
    root: Any = {"": json.loads(json.dumps(value))}
    node, key = root, ""
    while isinstance(node[key], dict | list) and node[key] and (node is root or draw(st.booleans())):
        node = node[key]
        key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
    if draw(st.booleans()):
        del node[key]
    else:
        node[key] = draw(values)
    return json.dumps(root.get("")).encode()


@contextlib.contextmanager
def refused(*errors: type[Exception]):
    """What the block reads may be refused, in one line."""
    try:
        yield
    except errors as error:
        if "\n" in str(error):
            pytest.fail(f"several lines: {error}")


def replaced(file: Path, content: bytes) -> None:
    """Not through `store`, which forces every write to disk."""
    file.write_bytes(content)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return record(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.SOURCES, "blobs", Blobs())
        made.sweep(folder, [made.configuration(steps=10), made.configuration(steps=20)], told={0: canned().to_json()})
    return folder


@bounded
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=30).map(" ".join) | damaged(AXES.encode()))
def test_a_file_of_axes(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "fuzz.toml"
    replaced(file, text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with refused(ValueError):
        for sweep in grid.read(file):
            grid.configurations(sweep)


@pytest.mark.parametrize("name", ["results.parquet", "adversarial.npz", "run.json"])
def test_the_bytes_of_a_run(run, name):
    content = (run / name).read_bytes()

    @bounded
    @given(damaged(content))
    def read(damage):
        replaced(run / name, damage)
        with refused(store.CorruptFile):
            runs.read(run)

    try:
        read()
    finally:
        replaced(run / name, content)


@pytest.mark.parametrize(
    ("name", "reader"),
    [("sweep.json", results.planned), ("sweep.json", outcomes.read)],
    ids=["plan", "outcomes"],
)
def test_the_plan_of_a_sweep(sweep, name, reader):
    content = (sweep / name).read_bytes()

    @bounded
    @given(twisted(json.loads(content)) | damaged(content))
    def read(damage):
        replaced(sweep / name, damage)
        with refused(store.CorruptFile, FileNotFoundError):
            reader(sweep)

    try:
        read()
    finally:
        replaced(sweep / name, content)


def test_what_a_run_says_of_itself(run):
    told = json.loads((run / "run.json").read_text())

    @bounded
    @given(twisted(told))
    def read(damage):
        replaced(run / "run.json", damage)
        with refused(store.CorruptFile, FileNotFoundError):
            runs.read(run)

    try:
        read()
    finally:
        store.write_json(run / "run.json", told)


@pytest.mark.parametrize("name", ["results.parquet", "adversarial.npz", "run.json"])
def test_what_a_run_claims(tmp_path, name):
    record(tmp_path)
    told = json.loads((tmp_path / "run.json").read_text())
    told["about"]["configuration"] = {"model": "mine", "data": "blobs"}
    (tmp_path / "run.json").write_text(json.dumps(told))
    assert len(list(claims.read(tmp_path))) == 3

    @bounded
    @given((twisted(told) if name == "run.json" else st.nothing()) | damaged((tmp_path / name).read_bytes()))
    def read(damage):
        replaced(tmp_path / name, damage)
        with refused(store.CorruptFile, FileNotFoundError, ValueError):
            list(claims.read(tmp_path))

    read()


def test_what_a_sweep_claims(sweep):
    content = (sweep / "sweep.json").read_bytes()

    @bounded
    @given(twisted(json.loads(content)) | damaged(content))
    def read(damage):
        replaced(sweep / "sweep.json", damage)
        with refused(store.CorruptFile, FileNotFoundError, ValueError):
            list(claims.read(sweep))

    try:
        read()
    finally:
        replaced(sweep / "sweep.json", content)


def test_a_diagnosis(tmp_path):
    @bounded
    @given(twisted({"l2": canned().to_json()}))
    def read(damage):
        replaced(tmp_path / verdicts.FILE, damage)
        with refused(store.CorruptFile):
            verdicts.read(tmp_path)

    read()


@pytest.mark.long
def test_the_card_of_a_network(trained, tmp_path):
    card = store.read_json(trained.folder / "card.json")
    (tmp_path / "weights.safetensors").symlink_to(trained.folder / "weights.safetensors")

    @bounded
    @given(twisted(card))
    def read(damage):
        replaced(tmp_path / "card.json", damage)
        with refused(store.CorruptFile):
            training.load(tmp_path)

    read()


def test_weights(tmp_path):
    like = {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}
    store.write_arrays(tmp_path / "weights", like, {"a": "b"})
    content = (tmp_path / "weights").read_bytes()

    @bounded
    @given(damaged(content))
    def read(damage):
        replaced(tmp_path / "weights", damage)
        with refused(store.CorruptFile):
            assert store.read_arrays(tmp_path / "weights", like)["kernel"].shape == (3, 2)

    read()


class Command:
    """Unpickled, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_nothing_in_a_file_is_run(run, tmp_path):
    content = (run / "adversarial.npz").read_bytes()
    with np.load(run / "adversarial.npz") as arrays:
        kept = dict(arrays)
    kept["clean"] = np.array([Command(tmp_path / "made")], object)
    np.savez(run / "adversarial.npz", **kept)
    try:
        with pytest.raises(store.CorruptFile, match="run it again"):
            runs.read(run)
    finally:
        replaced(run / "adversarial.npz", content)
    assert not (tmp_path / "made").exists()
