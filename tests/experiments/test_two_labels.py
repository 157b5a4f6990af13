"""Two blobs side by side, and a tiny network that says where each kind is."""

import numpy as np
import pytest

from cwjax.lab import data
from experiments import two_labels
from tests.experiments.conftest import check_table, check_task, one_of


@pytest.mark.long
def test_the_more_is_asked_for_the_farther_it_is(tmp_path):
    arguments = two_labels.Arguments(data="blobs", pairs=200, updates=80, examples=4, steps=40, out=tmp_path)
    rows = two_labels.main(arguments)
    check_table("two_labels", rows, tmp_path)
    found = {row["goal"]: row for row in rows}
    one, two, left, both = (found[name] for name in (two_labels.ONE, two_labels.TWO, two_labels.LEFT, two_labels.BOTH))
    assert one["success"] == two["success"] == 1
    assert one["labels flipped"] >= 1
    assert two["labels flipped"] >= 2
    assert both["labels flipped"] >= 2
    assert one["mean L2"] < two["mean L2"]
    if left["success"] == both["success"] == 1:
        assert left["mean L2"] <= 1.01 * both["mean L2"]


def test_a_pair_has_a_label_of_each_side():
    some = data.load("blobs", "test")
    images, labels = two_labels.pairs_of(some, 7, 0)
    assert images.shape == (7, 16, 32, 1)
    assert labels.shape == (7, 6)
    assert (labels[:, :3].sum(1) == 1).all()
    assert (labels[:, 3:].sum(1) == 1).all()


def test_what_the_network_says_in_words():
    yes = np.array([True, True, False, False, False, False])
    assert two_labels.said(yes, ("a", "b", "c")) == "left: a and b; right: nothing"


@pytest.mark.long
def test_its_task_is_attacked_as_any_other(tmp_path):
    task = two_labels.task(two_labels.Arguments(data="blobs", pairs=200, updates=80, examples=3))
    check_task(task, tmp_path)
    assert task.wanted(one_of(task.goal)) == "2 labels otherwise"
