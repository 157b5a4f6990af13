"""How far a target can lead, by ascent and by what natural images have."""

import numpy as np
import pytest

import cwjax as cw
from cwjax.lab import data
from cwjax.lab.sweeps.vault import Vault
from experiments import figure9_confidence
from tests.lab.generating import made


def test_margins_are_of_the_target_over_the_strongest_other():
    logits = np.array([[1.0, 5, 3], [1, 5, 3]])
    assert figure9_confidence.margins(logits, np.array([1, 2])).tolist() == [2, -2]


def test_ascent_finds_the_largest_margin_of_an_affine_model(tmp_path, monkeypatch):
    """The lead of one class of two is affine, so its maximum over the box is the sum of the slopes above zero."""
    weights = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    model = cw.bind(lambda w, x: x @ w, weights)
    x, target = np.random.default_rng(1).uniform(size=(6, 20)).astype(np.float32), np.array([0, 1] * 3)
    found = figure9_confidence.climbed(Vault(tmp_path), model, x, target, steps=200)
    slopes = weights[:, 0] - weights[:, 1]
    most = np.maximum(slopes, 0).sum(), np.maximum(-slopes, 0).sum()
    np.testing.assert_allclose(found.margin, np.take(most, target), rtol=1e-4)
    assert found.x.min() >= 0
    assert found.x.max() <= 1
    monkeypatch.setattr(Vault, "put", None)  # another ascent would call it
    again = figure9_confidence.climbed(Vault(tmp_path), model, x, target, steps=200)
    np.testing.assert_array_equal(found.x, again.x)


@pytest.mark.long
def test_the_tables_on_a_tiny_network(tmp_path):
    arguments = figure9_confidence.Arguments(
        model="tests.lab.generating.made:one",
        data="blobs",
        confidence=3.0,
        examples=4,
        starts=3,
        ascent=60,
        gradients=(40,),
        rounds=4,
        steps=60,
        out=tmp_path,
    )
    classes, ways = figure9_confidence.main(arguments)
    assert [row["class"] for row in classes] == list(data.load("blobs", "test").classes)
    test, model = data.load("blobs", "test"), made.one()
    logits = np.asarray(model.apply(model.params, test.images))
    own = (test.labels == 0) & (logits.argmax(-1) == 0)
    assert classes[0]["natural: largest"] == pytest.approx(np.ptp(np.sort(logits[own], -1)[:, 1:], -1).max(), rel=1e-5)
    for row in classes:
        assert row["natural: median"] <= row["natural: largest"] <= row["from its images: largest"]
    names = [row["way"] for row in ways]
    assert names[-2:] == ["ascent from the image", "nearest point of the first table"]
    by = {row["way"]: row for row in ways}
    assert by["fast, 40 gradients"]["reach kappa"] > 0
    assert by["fast, 40 gradients"]["mean L2"] < by["nearest point of the first table"]["mean L2"]
    assert {path.name for path in tmp_path.glob("*.md")} == {"figure9_margins.md", "figure9_rows.md"}
