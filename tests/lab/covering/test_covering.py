import shutil

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.lab import data
from cwjax.lab.covering import covering
from cwjax.lab.covering.covering import NATURAL, Suite
from cwjax.lab.files import store
from tests.lab.sweeps import made

RNG = np.random.default_rng(0)
X = RNG.random((20, 16, 16, 1)).astype(np.float32)


def apply(params, x):
    return jax.nn.relu(x - 0.5).sum((1, 2))


@pytest.fixture(scope="module")
def neurons():
    return cw.coverage.neurons(cw.bind(apply), X, unit="element")


def test_the_counts_of_a_curve():
    assert covering.counts_of(1) == (1,)
    assert covering.counts_of(8) == (1, 2, 4, 8)
    assert covering.counts_of(9) == (1, 2, 4, 8, 9)


def test_each_suite_stands_beside_as_many_test_images(neurons):
    criteria = covering.criteria_of(cw.coverage.profiled(neurons, X[:5]), sections=4)
    suites = [Suite(NATURAL, X), Suite("mine", X[3:9])]
    points = covering.measured(neurons, criteria, suites, [20, 6])
    rows = covering.table(points, list(criteria))
    assert [(row["suite"], row["inputs"]) for row in rows] == [
        (NATURAL, "20"),
        ("mine", "6"),
        (f"{NATURAL}, as many", "6"),
    ]
    natural = cw.coverage.measure(neurons, criteria, X[:6])
    for name, said in natural.items():
        assert rows[2][name] == covering.shown_as(said)
    layers = covering.layers_table(points[-1], list(criteria))
    assert [row["layer"] for row in layers] == ["relu_0"]
    assert "TKNP (k = 2)" not in layers[0]


def stored(folder, **changed):
    arrays = {
        "adversarial": X[:4],
        "success": np.array([1, 0, 1, 1], bool),
        "attack": np.array(["l2", "l2", "l2", "l0"]),
    }
    folder.mkdir()
    np.savez(folder / "adversarial.npz", **(arrays | changed))
    return folder


def test_the_successes_of_each_attack(tmp_path):
    found = list(covering.suites_of([stored(tmp_path / "run")], X.shape[1:], "any"))
    assert [suite.name for suite in found] == ["run, l2", "run, l0"]
    np.testing.assert_array_equal(found[0].images, X[[0, 2]])
    store.write_json(tmp_path / "run" / "run.json", {"about": {"configuration": {"model": "other"}}})
    [note] = covering.moved([tmp_path / "run"], "mine")
    assert note == f"{tmp_path / 'run'} was found on other; here its inputs go to mine."
    assert covering.moved([tmp_path / "run"], "other") == []


def test_the_successes_of_each_configuration_of_a_sweep(tmp_path):
    asked = [made.configuration(confidence=kappa) for kappa in (0.0, 5.0)] + [made.configuration(model="other")]
    plan = made.sweep(tmp_path, asked, reach=lambda place, index: 1.0 if index % (place + 2) else np.inf)
    shutil.rmtree(tmp_path / "units" / plan.all[3].digest)  # the second half of the second configuration
    found = list(covering.suites_of([tmp_path], (16, 16, 1), "mine"))
    names = [suite.name.removeprefix(f"{tmp_path.name}, ") for suite in found]
    assert names == ["1: confidence 0", "2: confidence 5"]
    clean = data.load("blobs", "test").images
    moved = np.clip(clean + 0.1, 0, 1)
    np.testing.assert_allclose(found[0].images, moved[[1, 3, 5, 7, 9]])
    np.testing.assert_allclose(found[1].images, moved[[1, 2, 4]])
    with pytest.raises(ValueError, match="has nothing of --model another: it is of mine, other"):
        list(covering.suites_of([tmp_path], (16, 16, 1), "another"))


def test_mistakes(tmp_path):
    with pytest.raises(ValueError, match="folders that `cwjax attack`, `cwjax sweep` or `cwjax generate` wrote"):
        list(covering.suites_of([tmp_path], (16, 16, 1), "any"))
    with pytest.raises(ValueError, match=r"l0, of .* has no success"):
        list(covering.suites_of([stored(tmp_path / "none", success=np.array([1, 1, 1, 0], bool))], (16, 16, 1), "any"))
    with pytest.raises(ValueError, match=r"has images \[16, 16, 1\], and the data has \[28, 28, 1\]"):
        list(covering.suites_of([stored(tmp_path / "other")], (28, 28, 1), "any"))
    damaged = stored(tmp_path / "damaged")
    (damaged / "adversarial.npz").write_bytes(b"nothing")
    with pytest.raises(store.CorruptFile, match="is damaged"):
        list(covering.suites_of([damaged], (16, 16, 1), "any"))
