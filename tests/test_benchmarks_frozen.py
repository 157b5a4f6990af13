"""The list of networks and images that are kept apart, and the program that trains them."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import frozen
from cwjax.lab import data, zoo
from cwjax.lab.files import store
from cwjax.lab.training import training
from cwjax.lab.training.training import Training
from tests.lab.conftest import Blobs


def test_the_list_names_two_networks_of_each_kind_as_the_program_makes_them():
    told = store.read_json(frozen.LIST)["networks"]
    assert list(told) == list(frozen.wanted())
    assert len(told) == 2 * 7
    assert len({row["sha256"] for row in told.values()}) == len(told)
    for name, plan in frozen.wanted().items():
        assert {key: told[name][key] for key in ("data", "net", "recipe", "epochs", "seed")} == vars(plan)
        assert told[name]["test_accuracy"] > 0.9


def test_they_are_none_of_the_zoo():
    theirs = {zoo.load(name).card["seed"] for name in zoo.NAMES}
    assert theirs.isdisjoint(frozen.SEEDS)


def test_the_images_are_none_that_attacks_were_tuned_on():
    told = store.read_json(frozen.LIST)
    for what, source in {"digits": "mnist", "photographs": "cifar10"}.items():
        places = told[what]["places"]
        assert told[what]["data"] == source
        assert len(set(places)) == len(places) == 64
        assert min(places) >= 5_000
        assert max(places) < 10_000
    assert set(told["photographs"]["places"]).isdisjoint(data.load("cifar10_sample", "test").index.tolist())


@pytest.fixture
def small(monkeypatch, tmp_path):
    """One kind, on images that are learnt in seconds, and a list of its own; the folder to train into."""
    monkeypatch.setitem(data.SOURCES, "blobs", Blobs())
    monkeypatch.setattr(
        frozen, "KINDS", {"squared": Training(data="blobs", net="mnist_dense", recipe="squared", epochs=1)}
    )
    monkeypatch.setattr(frozen, "LIST", tmp_path / "list.json")
    images = {"data": "blobs", "split": "test", "places": [7, 2]}
    store.write_json(frozen.LIST, {"digits": images, "photographs": images, "networks": {}})
    return tmp_path / "frozen"


def test_what_is_missing_is_trained_once_and_compared_with_the_list(small, monkeypatch, capsys):
    frozen.main(out=small, only=("squared-101",), write=True)
    assert list(store.read_json(frozen.LIST)["networks"]) == ["squared-101"]
    frozen.main(out=small)
    assert {folder.name for folder in small.glob("squared-*")} == {"squared-101", "squared-102"}
    monkeypatch.setattr(training, "train", None)  # training again would call it
    capsys.readouterr()
    frozen.main(out=small)
    same, other = capsys.readouterr().out.splitlines()
    assert same.startswith("squared-101: ")
    assert same.endswith("right, the weights of the list")
    assert "squared-102: " in other
    assert "other weights than those of the list" in other
    first, second = (training.load(small / f"squared-{seed}").card for seed in frozen.SEEDS)
    assert first["sha256"] != second["sha256"]


def test_subjects_are_the_networks_with_the_images_of_the_list(small):
    subjects = frozen.subjects(small, photographs=False)
    assert [subject.name for subject in subjects] == ["squared-101", "squared-102"]
    whole = data.load("blobs", "test")
    for subject in subjects:
        np.testing.assert_array_equal(subject.dataset.images, whole.images[[7, 2]])
        assert subject.model.of_batch(jnp.asarray(subject.dataset.images)).shape == (2, 3)
    assert [subject.name for subject in frozen.subjects(small)][2:] == ["zoo:cifar_cnn", "zoo:cifar_resnet"]


def test_an_unknown_name_lists_the_known_ones(small):
    with pytest.raises(ValueError, match="'squared-7': choose one of squared-101, squared-102"):
        frozen.network("squared-7", small)
