"""DeepXplore's experiment on tiny networks."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.generation import deepxplore as deepxplore_parts
from experiments import deepxplore, deepxplore_tables
from experiments import deepxplore_documents as documents
from tests.generation import made


@pytest.mark.long
def test_what_is_reported_in_the_box_survives_eight_bits(tmp_path):
    seeds = np.round(255 * made.inputs(10)) / 255
    some = deepxplore.Subject(
        ("first", "second"),
        (made.units(1), made.units(2)),
        (made.model(1), made.model(2)),
        seeds.astype(np.float32),
        made.logits(1, seeds).argmax(-1),
    )
    arguments = deepxplore.Arguments(patch=3, step=1.0, rounds=1, constraints=("occlusion",), norms=(), out=tmp_path)
    rows = deepxplore.main(arguments, some)
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".csv", ".png"}
    with (tmp_path / "deepxplore.csv").open() as file:
        assert [list(row) for row in csv.DictReader(file)] == [list(row) for row in rows]
    assert len(rows) == 3
    for row in rows:
        assert row["after 8 bits"] <= row["found"]
        if "released" not in row["search"]:
            assert row["after 8 bits"] == row["found"]
            assert not row["pixels out of [0, 1]"] > 0
    assert sum(row["found"] for row in rows) > 5


def test_a_step_on_features_in_their_own_units_is_that_on_standardised_ones():
    unit, direction = np.array([1.0, 10.0, 0.1, 5.0], np.float32), np.array([0.3, -0.2, 4.0, 0.0], np.float32)
    grows = np.array([True, False, True, True])
    step = documents.in_deviations(deepxplore_parts.increasing(grows, ~grows), unit)(jax.random.key(0), direction)
    standardised = direction * unit
    standardised = standardised / np.sqrt((standardised**2).mean())
    np.testing.assert_allclose(step, unit * standardised, rtol=1e-3)
    down = documents.in_deviations(deepxplore_parts.increasing(grows), unit)(jax.random.key(0), -direction)
    np.testing.assert_array_equal(down, np.zeros(4))  # what may only grow does not fall, and the second may not move


def test_a_model_of_scaled_features_says_the_same():
    unit, model = np.full(made.inputs(1).shape[1:], 4.0, np.float32), made.model(1)
    x = made.inputs(3)
    same = documents.scaled(model, unit)
    np.testing.assert_allclose(same.of_batch(jnp.asarray(x / unit)), model.of_batch(jnp.asarray(x)), rtol=1e-4)


def test_the_nearest_of_several_searches_is_taken_and_all_of_their_gradients():
    seeds, unit = np.zeros((3, 2), np.float32), np.array([1.0, 10.0], np.float32)
    one, two = np.array([True, False, False]), np.array([True, True, False])
    first = documents.Found(np.array([[2, 0], [0, 0], [0, 0]], np.float32), one, one, np.array([5, 6, 6]))
    second = documents.Found(np.array([[0, 9], [0, 3], [0, 0]], np.float32), two, two, np.array([1, 2, 6]))
    both = documents.nearest([first, second], seeds, unit)
    np.testing.assert_array_equal(both.x[:2], [[0, 9], [0, 3]])
    np.testing.assert_array_equal(both.success, [True, True, False])
    np.testing.assert_array_equal(both.gradients, [6, 8, 12])


@pytest.fixture
def of_documents(tmp_path):
    """Files of 120 documents and of three networks of them."""
    rng = np.random.default_rng(0)
    names = ["count_page", "size", "author_dot", "title_len", "version"]
    counts = rng.integers(0, 9, (60, 5)).astype(np.float32)
    np.savez(tmp_path / "documents.npz", names=names, google_ben=counts, virustotal_mal=counts + 3)
    layers = {}
    for network, hidden in ((1, 2), (2, 3), (3, 4)):
        before = 5
        for place in [*(f"fc{i + 1}" for i in range(hidden)), "before_softmax"]:
            after = 2 if place == "before_softmax" else 7
            layers[f"pdf{network}.{place}.kernel"] = rng.normal(size=(before, after)).astype(np.float32)
            layers[f"pdf{network}.{place}.bias"] = rng.normal(size=after).astype(np.float32)
            before = after
    np.savez(tmp_path / "networks.npz", **layers)
    return {"features": tmp_path / "documents.npz", "networks": tmp_path / "networks.npz"}


@pytest.mark.long
def test_each_search_for_documents_has_a_row(tmp_path, of_documents):
    out = tmp_path / "out"
    rows = documents.main(documents.Arguments(**of_documents, documents=30, steps=4, out=out))
    assert len(rows) == 4 + 2 * 6
    assert {path.suffix for path in out.iterdir()} == {".md", ".csv", ".png"}
    theirs = [row["found"] for row in rows[:3]]
    assert max(theirs) <= rows[3]["found"] <= sum(theirs)
    assert max(row["found"] for row in rows[4:]) > 0
    for row in rows:
        assert row["found"] <= row["with fractions"] <= row["seeds"] <= 30
        assert not row["features changed"] < 1


@pytest.mark.long
@pytest.mark.usefixtures("hidden_net")
def test_the_tables_have_a_row_for_each_network_and_way(tmp_path, of_documents):
    out = tmp_path / "out"
    arguments = deepxplore_tables.Arguments(
        data="blobs",
        models=("first", "second", "third"),
        **of_documents,
        seeds=6,
        documents=30,
        steps=4,
        repeats=2,
        draws=2,
        pairs=3,
        out=out,
    )
    rows = deepxplore_tables.main(arguments)
    assert [row["table"] for row in rows] == ["2"] * (6 + 6) + ["5"] * 2 + ["6"] * 2 + ["7"] * 2
    shares = [float(row["ours"].rstrip("%")) for row in rows if "documents, as released" in row["what"]]
    assert max(shares) > 0
    assert {path.suffix for path in out.iterdir()} == {".md", ".csv", ".png"}
