"""The networks that come along are whole, right on digits they never saw, and made as they say."""

import functools
import json
import shutil
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.lab import data, zoo
from cwjax.lab.files import store
from cwjax.lab.subjects import model_of
from cwjax.lab.training import nets, training
from cwjax.lab.training.intervals import certified_accuracy
from cwjax.lab.training.layered import LayeredNet, max_pool
from cwjax.lab.zoo import packing

LEAST = {
    "mnist_cnn": 0.993,
    "mnist_distilled": 0.985,
    "mnist_robust": 0.98,
    "mnist_squared": 0.96,
    "mnist_certified": 0.96,
    "mnist_winners": 0.96,
    "mnist_lenet": 0.97,
    "cifar_cnn": 0.6,
    "cifar_resnet": 0.6,
}


def logits_of(trained: training.Trained, dataset: data.Dataset) -> np.ndarray:
    return np.asarray(jax.jit(trained.model.apply)(trained.model.params, dataset.images))


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("mnist5k", "test")


@pytest.fixture(scope="module")
def said(digits):
    """What a network of this name says of the digits, asked once."""
    return functools.cache(lambda name: logits_of(zoo.load(name), digits))


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A zoo of one network that a test may damage."""
    shutil.copytree(zoo.HERE / "mnist_cnn", tmp_path / "mnist_cnn")
    monkeypatch.setattr(zoo, "HERE", tmp_path)
    return tmp_path / "mnist_cnn"


@pytest.mark.parametrize("name", zoo.NAMES)
def test_each_network_is_whole_small_and_has_a_card(name):
    trained = zoo.load(name)
    assert trained.card["name"] == name
    assert trained.card["test_accuracy"] >= LEAST[name]
    assert sum(file.stat().st_size for file in trained.folder.iterdir()) < 3e6
    for key in ("command", "recipe", "epochs", "source", "environment", "sha256", "parameters"):
        assert key in trained.card
    weights = jax.tree.leaves(trained.model.params)
    assert sum(weight.size for weight in weights) == trained.card["parameters"]
    assert all(weight.dtype == jnp.float32 for weight in weights)
    assert all((weight == weight.astype(jnp.float16)).all() for weight in weights)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] * (name in ("mnist_distilled", "mnist_robust", "mnist_winners")))
        for name in zoo.NAMES
        if name.startswith("mnist")
    ],
)
def test_digits_that_none_of_them_saw_are_told_apart(name, digits, said):
    assert (said(name).argmax(1) == digits.labels).mean() >= LEAST[name]


@pytest.mark.parametrize("name", ["cifar_cnn", "cifar_resnet"])
def test_photographs_that_come_along_are_told_apart(name):
    photographs = data.load("cifar10_sample", "test")
    assert (logits_of(zoo.load(name), photographs).argmax(1) == photographs.labels).mean() >= 0.55


def test_distillation_at_100_makes_logits_large(said):
    plain, distilled = (np.abs(said(name)).mean() for name in ("mnist_cnn", "mnist_distilled"))
    assert distilled > 20 * plain


@pytest.mark.long
def test_adversarial_training_makes_the_network_stand_where_its_twin_falls(digits):
    few = digits._replace(images=digits.images[:50], labels=digits.labels[:50], index=digits.index[:50])
    plain, robust = (
        packing.robust_accuracy(zoo.load(name).model, few, epsilon=0.2, steps=10)
        for name in ("mnist_cnn", "mnist_robust")
    )
    assert plain < 0.2
    assert robust > 0.8


def test_squared_loss_keeps_logits_near_0_and_1(digits, said):
    assert np.abs(said("mnist_squared") - np.eye(10)[digits.labels]).mean() < 0.1
    assert np.abs(said("mnist_cnn")).mean() > 1


@pytest.mark.long
def test_interval_bounds_certify_what_no_attack_changes(digits):
    trained = zoo.load("mnist_certified")
    certified = certified_accuracy(nets.as_net(trained.model), digits, epsilon=0.1)
    assert certified == pytest.approx(trained.card["certified_accuracy"]["0.1"], abs=0.03)
    few = digits.take(slice(100))
    attacked = packing.robust_accuracy(trained.model, few, epsilon=0.1, steps=10)
    assert attacked >= certified_accuracy(nets.as_net(trained.model), few, epsilon=0.1)


def test_a_tenth_of_the_units_win(digits):
    net = nets.as_net(zoo.load("mnist_winners").model)
    assert isinstance(net, LayeredNet)
    first = net.activated(max_pool(net.convolutions[0](jnp.asarray(digits.images[:5]))))
    assert ((first != 0).mean((1, 2, 3)) <= 0.1).all()


@pytest.mark.long
def test_training_on_adversarial_images_in_l2_makes_stand_in_l2(digits):
    few = digits.take(slice(50))
    plain, robust = (
        packing.robust_accuracy(zoo.load(name).model, few, epsilon=2.0, steps=10, norm="l2")
        for name in ("mnist_cnn", "mnist_lenet")
    )
    assert plain < 0.5
    assert robust > plain + 0.2


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match="'vgg': choose one of mnist_cnn, mnist_distilled, mnist_robust, mnist_squared"
    ):
        zoo.load("vgg")


def test_a_large_one_without_its_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cwjax_zoo", None)
    assert zoo.load("mnist_lenet").card["name"] == "mnist_lenet"
    with pytest.raises(ValueError, match=r'not installed: pip install "cwjax\[zoo\]"'):
        zoo.load("cifar_cnn")


def test_what_the_wheel_holds_stays_below_3_megabytes():
    files = [file for file in zoo.HERE.parents[1].rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert sum(len(zlib.compress(file.read_bytes())) for file in files) < 2.9e6  # the rest is for names and places


def test_damaged_weights_are_refused(copy):
    content = bytearray((copy / "weights.safetensors").read_bytes())
    content[-7] ^= 1
    (copy / "weights.safetensors").write_bytes(content)
    with pytest.raises(
        store.CorruptFile, match="zoo:mnist_cnn, which comes with cwjax, is damaged: install cwjax again"
    ):
        zoo.load("mnist_cnn")


@pytest.mark.parametrize("damage", [{"dtype": "float7"}, {"dtype": "float32"}, {"sha256": "0"}, {"shape": [1]}])
def test_a_damaged_card_is_refused(copy, damage):
    card = json.loads((copy / "card.json").read_text()) | damage
    (copy / "card.json").write_text(json.dumps(card))
    with pytest.raises(store.CorruptFile, match="install cwjax again"):
        zoo.load("mnist_cnn")


def test_a_missing_file_is_damage_too(copy):
    (copy / "weights.safetensors").unlink()
    with pytest.raises(store.CorruptFile, match="install cwjax again"):
        zoo.load("mnist_cnn")


def test_the_command_line_knows_them(digits):
    model, card = model_of("zoo:mnist_cnn")
    assert card["name"] == "mnist_cnn"
    assert model.apply(model.params, digits.images[:3]).argmax(1).tolist() == digits.labels[:3].tolist()
    with pytest.raises(ValueError, match="choose one of mnist_cnn"):
        model_of("zoo:vgg")


def test_equal_architectures_are_one_program():
    first, second = (zoo.load(name).model for name in ("mnist_cnn", "mnist_robust"))
    built = nets.as_model(nets.build("mnist_cnn", shape=(28, 28, 1), classes=10, seed=3))
    assert jax.tree.structure(first) == jax.tree.structure(second) == jax.tree.structure(built)
