"""DeepFault's experiment on a tiny network."""

import numpy as np
import pytest

from experiments import deepfault
from tests.generation import made


def subject():
    x = made.inputs(60)
    logits = made.logits(0, x)
    labels = logits.argmax(-1)
    labels[::5] = (labels[::5] + 1) % 3
    return deepfault.Subject("tiny", made.model(0), made.units(0), x, labels, logits)


@pytest.mark.long
def test_an_attack_on_the_label_finds_most(tmp_path):
    arguments = deepfault.Arguments(suspects=2, epsilon=0.3, seeds=30, out=tmp_path)
    rows = deepfault.main(arguments, [subject()])
    assert {path.name for path in tmp_path.iterdir()} == {"deepfault.md", "deepfault.csv", "deepfault.png"}
    shares = {row["search"]: row["leave the label"] for row in rows}
    assert len(shares) == 6
    assert shares["the label, PGD, 20 steps"] == max(shares.values()) > 0
    assert shares["suspects, one step"] < shares["the label, PGD, 20 steps"]


def test_seeds_are_right_and_of_classes_with_suspects():
    some = subject()
    places = deepfault.seeds_of(some, [np.array([1]), np.array([], int), np.array([2])], 12)
    assert set(some.labels[places]) <= {0, 2}
    assert (some.logits[places].argmax(-1) == some.labels[places]).all()


def test_the_codes_zero_changes_whom_it_suspects():
    some = subject()
    counts = deepfault.zeros(some, [np.array([0, 1]), np.array([2, 3]), np.array([4, 5])])
    assert 0 <= counts <= 6


def test_the_codes_ties_suspect_too_many_and_lose_the_highest():
    layers, scores = (slice(0, 3), slice(3, 6)), np.array([0.5, 0.5, 0.5, 0.5, 0.9, 0.1])
    np.testing.assert_array_equal(deepfault.as_released(layers, scores, 2), [0, 1, 3, 4])  # four, where two are wanted
    scores[3] = 0.1
    np.testing.assert_array_equal(deepfault.as_released(layers, scores, 2), [0, 1])  # not the one of 0.9
    assert deepfault.ties(subject(), [np.array([0, 1])] * 3).startswith("With its rule for ties ")
