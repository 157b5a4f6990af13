"""A tiny network behind three defences, and the rows kept."""

import dataclasses

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.lab import data
from experiments import defences, fresh_masks, shown
from tests.experiments.conftest import check_table


def flat(params, x):
    return jax.nn.relu(x.reshape(len(x), -1) @ params["first"]) @ params["second"]


def network():
    train = data.load("blobs", "train")
    x = train.images.reshape(len(train.images), -1)
    first = np.random.default_rng(2).normal(size=(x.shape[1], 12)).astype(np.float32) / 4
    second = np.linalg.lstsq(np.maximum(x @ first, 0), np.eye(3)[train.labels] - 1 / 3, rcond=None)[0]
    return cw.bind(flat, {"first": first, "second": 10 * second.astype(np.float32)})


@pytest.mark.long
def test_the_defences_at_a_small_size(tmp_path, capsys):
    arguments = defences.Arguments(
        data="blobs",
        defences=("none", "mean_filter", "dropout_uncertainty"),
        learn_from=160,
        clean=30,
        examples=6,
        steps=60,
        diagnose=6,
        out=tmp_path,
    )
    rows = defences.main(arguments, network())
    kept = sorted((tmp_path / "rows").iterdir())
    assert len(kept) == 7  # the attack that does not know, and a row and its checks for each defence
    assert not [path.name for path in kept if "broke off" in path.read_text()]
    text = (tmp_path / "defences.md").read_text()
    assert "pass masks drawn anew (mean of 10 draws)" in text
    assert rows[0]["overhead"] == pytest.approx(1, rel=0.02)
    assert rows[0]["unaware"] == rows[0]["success"] == 1
    assert all(row["checks"] != "not asked" for row in rows)
    again = defences.main(arguments, network())
    assert again == rows
    assert capsys.readouterr().out.count("Done before") == 7
    unasked = defences.main(dataclasses.replace(arguments, diagnose=0), network())
    assert unasked == [row | {"checks": "not asked"} for row in rows]
    assert capsys.readouterr().out.count("Done before") == 4
    for path in kept:
        path.unlink()
    (tmp_path / "rows").rmdir()
    check_table("defences", unasked, tmp_path)


def test_each_draw_of_masks_has_scores_of_its_own():
    train = data.load("blobs", "train")
    detector = cw.defences.dropout_uncertainty(network(), train.images, train.labels, jax.random.key(0), draws=4)
    scores = fresh_masks.scored(detector, train.images[:5], 3)
    assert scores.shape == (3, 5)
    assert (scores.std(0) > 0).any()
    first = cw.defences.with_fresh_masks(detector, jax.random.key(1000))
    assert ((scores[0] > np.asarray(detector.threshold)) == cw.defences.refused(first, train.images[:5])).all()


def test_an_image_that_is_refused_is_not_fooled_with():
    model = cw.bind(lambda params, x: np.array([[1, -1]], np.float32) * x.reshape(len(x), -1)[:, :1])
    detector = cw.bind(lambda params, x: x.reshape(len(x), -1)[:, 1])
    defended = cw.defences.Defended(model, detector, threshold=0.5)
    images = np.array([[-1, 0], [-1, 1], [1, 0]], np.float32)
    assert defences.fooled(defended, images, np.zeros(3, int)).tolist() == [True, False, False]
    assert defences.fooled(defended._replace(detector=None), images, np.zeros(3, int)).tolist() == [True, True, False]
    assert shown.misread(shown.outputs_of(model, images), np.zeros(3, int)).tolist() == [True, True, False]


def test_what_did_not_break_is_said():
    rows = [{"defence": "a", "success": 1.0}, {"defence": "b", "success": 0.5, "told": "more"}]
    assert defences._told(rows) == ["Not broken on 95 % of the images: b.", "more"]
    assert defences._told(rows[:1]) == ["Every defence is broken."]
