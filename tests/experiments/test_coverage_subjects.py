"""Networks of a file of weights, made up here in DeepXplore's shapes."""

import numpy as np
import pytest

import cwjax as cw
from experiments import coverage_subjects as subjects

SHAPES = {
    "lenet1": {"block1_conv1": (5, 5, 1, 4), "block2_conv1": (5, 5, 4, 12), "before_softmax": (588, 10)},
    "lenet4": {
        "block1_conv1": (5, 5, 1, 6),
        "block2_conv1": (5, 5, 6, 16),
        "fc1": (784, 84),
        "before_softmax": (84, 10),
    },
    "lenet5": {
        "block1_conv1": (5, 5, 1, 6),
        "block2_conv1": (5, 5, 6, 16),
        "fc1": (784, 120),
        "fc2": (120, 84),
        "before_softmax": (84, 10),
    },
}


@pytest.fixture
def weights(tmp_path):
    rng, arrays = np.random.default_rng(0), {}
    for network, layers in SHAPES.items():
        for layer, shape in layers.items():
            arrays[f"{network}.{layer}.kernel"] = rng.normal(size=shape).astype(np.float32) / 10
            arrays[f"{network}.{layer}.bias"] = np.zeros(shape[-1], np.float32)
    np.savez(tmp_path / "weights.npz", allow_pickle=False, **arrays)
    return tmp_path / "weights.npz"


def test_the_lenets_have_the_neurons_that_deepxplore_counts(weights):
    x = np.random.default_rng(1).random((2, 28, 28, 1)).astype(np.float32)
    for (name, params), neurons in zip(subjects.lenets(weights).items(), (52, 148, 268), strict=True):
        units = cw.coverage.from_function(subjects.activations_of, params, x)
        assert units.convention.neurons == neurons, name
        names = [layer.name.split()[1] for layer in units.convention.layers]
        assert names[:2] == ["block1_conv1", "block1_pool1"]
        assert names[-2:] == ["before_softmax", "predictions"]


def test_a_file_without_them_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", allow_pickle=False, **{"lenet1.fc1.kernel": np.zeros((2, 2))})
    with pytest.raises(ValueError, match="no lenet4"):
        subjects.lenets(tmp_path / "other.npz")


def test_a_named_network_has_its_data_and_its_errors(hidden_net):
    [network] = subjects.networks(subjects.Common(data="blobs", models=("zoo:any",)))
    assert network.name == "any"
    assert subjects.hidden_layers(network) == ["relu_0"]
    assert 0 < network.wrong.mean() < 0.5
    assert not network.wrong[subjects.right(network, 5).index - 1000].any()
    seen = subjects.activations(network.neurons, network.test.images, at_once=7)
    assert seen.values.shape == (30, 6)
