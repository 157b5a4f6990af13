"""How a trained network gets into the zoo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.lab import data
from cwjax.lab.zoo import packing
from tests.lab.test_zoo import logits_of


def test_packing_measures_what_rounding_leaves(trained, tmp_path):
    test = data.load("blobs", "test")
    packed = packing.pack(trained, "blobs", test, to=tmp_path, command="by hand")
    answers = logits_of(packed, test).argmax(1)
    assert packed.card["test_accuracy"] == pytest.approx((answers == test.labels).mean())
    assert packed.card["command"] == "by hand"
    assert packed.card["history"] == trained.card["history"]
    jax.tree.map(
        lambda half, whole: np.testing.assert_array_equal(half, whole.astype(jnp.float16)),
        packed.model.params,
        trained.model.params,
    )


MODEL = cw.bind(lambda params, x: 10 * jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1))


def pixels(values, labels) -> data.Dataset:
    """Images of one pixel, of which a bright one is of class 1."""
    images = np.array(values, np.float32).reshape(-1, 1, 1, 1)
    return data.Dataset(
        "pixels", "test", images, np.array(labels, np.int32), ("dark", "bright"), np.arange(len(values))
    )


def test_accuracy_and_cross_entropy_are_those_counted_by_hand():
    accuracy, loss = packing.measured(MODEL, pixels([0.9, 0.6, 0.2, 0.7], [1, 1, 0, 0]))
    assert accuracy == 0.75
    leads = np.array([8, 2, 6, -4])  # of the label's logit
    assert loss == pytest.approx(np.log(1 + np.exp(-leads)).mean(), rel=1e-5)


def test_a_last_part_that_is_not_full_counts_as_much_as_it_holds():
    many = packing.BATCH + 100
    given = pixels(np.where(np.arange(many) < packing.BATCH, 0.9, 0.1), np.ones(many))
    assert packing.measured(MODEL, given)[0] == pytest.approx(packing.BATCH / many)


def test_robust_accuracy_is_the_share_that_stands_at_the_end_of_the_ascent():
    given = pixels([0.9, 0.62, 0.58, 0.1, 0.45, 0.8], [1, 1, 1, 0, 0, 0])
    shares = [packing.robust_accuracy(MODEL, given, epsilon=epsilon, steps=5) for epsilon in (0.01, 0.1, 0.45)]
    assert shares == pytest.approx([5 / 6, 3 / 6, 0])
