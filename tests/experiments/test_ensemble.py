"""One perturbation for two tiny networks."""

import jax
import numpy as np
import optax
import pytest

import cwjax as cw
from cwjax.lab import data
from experiments import ensemble, shown, small_nets
from tests.experiments.conftest import check_table


def tiny(seed):
    train = data.load("blobs", "train")

    def loss(params, key, x, labels):
        return optax.softmax_cross_entropy_with_integer_labels(small_nets.answered(params, x), labels).mean()

    params = small_nets.convolutional(seed, (16, 16, 1), 3, channels=(4,), units=32)
    params = small_nets.train("tiny", loss, params, (train.images, train.labels), updates=60, rate=1e-2)
    return cw.bind(small_nets.answered, params)


@pytest.mark.long
def test_what_fools_both_is_as_far_as_the_harder_of_them(tmp_path):
    models = {"first": tiny(0), "second": tiny(1)}
    arguments = ensemble.Arguments(data="blobs", examples=6, steps=60, out=tmp_path)
    rows = ensemble.main(arguments, models)
    check_table("ensemble", rows, tmp_path)
    first, second, both = rows
    assert both["success"] == both["fools all"] == both["fools first"] == both["fools second"] == 1
    assert first["fools first"] == second["fools second"] == 1
    assert both["least over hardest alone"] >= 0.99
    assert both["mean L2"] >= 0.99 * max(first["mean L2"], second["mean L2"])


@pytest.mark.long
def test_a_success_that_is_none_is_refused():
    clean = np.zeros((2, 4, 4, 1), np.float32)
    model = cw.bind(lambda params, x: x.reshape(len(x), -1)[:, :2] + np.array([[0.1, 0]], np.float32))
    keys = jax.random.split(jax.random.key(0), 2)
    result = cw.batched(cw.fast("l2", steps=20))(model, keys, clean, cw.untargeted([0, 0]))
    met = shown.misread(shown.outputs_of(model, np.asarray(result.x)), np.zeros(2, int))
    assert shown.checked(result, clean, met)["verified"] == 1
    with pytest.raises(RuntimeError, match="1 of 2 reported successes are none"):
        shown.checked(result, clean, met & [True, False])
    with pytest.raises(RuntimeError, match="distance"):
        shown.checked(result._replace(distance=2 * result.distance), clean, met)


def test_a_network_that_gets_nothing_right_is_refused():
    assert shown.first_of(np.array([False, True, True]), 1).tolist() == [1]
    with pytest.raises(RuntimeError, match="none of 3 images right"):
        shown.first_of(np.zeros(3, bool), 1)
