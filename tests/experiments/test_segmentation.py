"""Blobs on noise, and a tiny network that labels their pixels."""

import numpy as np
import pytest

from cwjax.lab import data
from experiments import segmentation, shown
from tests.experiments.conftest import check_table, check_task, one_of


@pytest.mark.long
def test_the_share_that_was_asked_for_is_mislabelled(tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation, "MISSED", 0.4)
    arguments = segmentation.Arguments(data="blobs", updates=80, shares=(0.5, 0.9), examples=3, steps=40, out=tmp_path)
    rows = segmentation.main(arguments)
    check_table("segmentation", rows, tmp_path)
    half, most, hidden = rows
    assert half["success"] == most["success"] == 1
    assert half["digit mislabelled"] >= 0.5
    assert most["digit mislabelled"] >= 0.9
    assert half["mean L2"] <= 1.01 * most["mean L2"]
    if hidden["success"] == 1:
        assert hidden["digit as background"] >= 0.5


def test_a_scene_is_a_digit_over_noise():
    some = data.load("blobs", "test")
    scenes = segmentation.scenes(some, 0)
    own = scenes.labels > 0
    assert (own == (some.images[..., 0] > segmentation.BRIGHT)).all()
    np.testing.assert_array_equal(scenes.labels.max((1, 2)), 1 + some.labels)
    assert (scenes.images[~own] <= segmentation.NOISE).all()


def test_the_share_counts_what_is_counted():
    outputs = np.zeros((1, 2, 2, 3))
    outputs[0, 0, 0, 2] = outputs[0, 1, 1, 1] = 1
    counted = np.array([[[True, True], [True, False]]])
    assert shown.share_of(outputs, lambda said: said == 2, counted) == pytest.approx([1 / 3])


def test_what_the_network_says_in_words():
    answer, labels = np.array([[0, 4], [4, 4]]), np.array([[0, 4], [4, 4]])
    answer[1, 1] = 0
    assert segmentation.said(answer, labels) == "the digit's pixels:\n67% a 3, 33% background"


@pytest.mark.long
def test_its_task_is_attacked_as_any_other_and_drawn_with_what_the_network_sees(tmp_path):
    task = segmentation.task(segmentation.Arguments(data="blobs", updates=80, examples=3))
    check_task(task, tmp_path)
    assert task.wanted(one_of(task.goal)) == "50% of the digit otherwise"
    height, width = task.x.shape[1:3]
    outputs = np.zeros((height, width, 4), np.float32)
    outputs[0, 0, 2] = 1
    assert task.read(outputs) == "1: 1 px"
    drawn = task.picture(task.x[0], outputs)
    assert drawn.shape == (height, 2 * width, 3)
    np.testing.assert_array_equal(drawn[:, :width], np.repeat(task.x[0], 3, -1))
    assert drawn[0, width].tolist() != [0, 0, 0]
    assert drawn[1, width].tolist() == [0, 0, 0]
