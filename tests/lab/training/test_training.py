"""Training follows its recipe, goes on after a kill, and keeps its result until something changes."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cwjax.lab import data
from cwjax.lab.files import store
from cwjax.lab.training import training

SETTINGS = training.Training(data="blobs", recipe="report", epochs=3)
ONE = training.Training(data="blobs", net="mnist_dense", recipe="paper_mnist", epochs=1)  # which is trained quickly


def test_training_learns_and_its_card_tells_how(trained):
    assert trained.card["test_accuracy"] > 0.9
    test = data.load("blobs", "test")
    answers = np.asarray(trained.model.apply(trained.model.params, test.images)).argmax(1)
    assert trained.card["test_accuracy"] == pytest.approx((answers == test.labels).mean())
    assert set(trained.card["history"]) == {"loss", "accuracy", "validation_loss", "validation_accuracy"}
    assert all(len(curve) == trained.card["epochs"] for curve in trained.card["history"].values())
    assert trained.card["history"]["loss"][-1] < trained.card["history"]["loss"][0]
    for name in ("recipe", "data", "seed", "epochs", "environment", "sha256"):
        assert name in trained.card


def test_a_trained_network_is_read_and_not_trained_again(tmp_path, monkeypatch):
    first = training.train(ONE, tmp_path)
    monkeypatch.setattr(training, "_fit", None)  # training again would call it
    again = training.train(ONE, tmp_path)
    assert again.folder == first.folder
    jax.tree.map(np.testing.assert_array_equal, again.model.params, first.model.params)
    assert jax.tree.structure(again.model) == jax.tree.structure(first.model)


@pytest.mark.parametrize("change", [{"seed": 1}, {"epochs": 2}, {"recipe": "paper_mnist"}])
def test_other_settings_are_another_network(tmp_path, change, monkeypatch):
    def stop(*_):
        raise InterruptedError

    folders = []
    monkeypatch.setattr(training, "_fit", stop)
    for settings in (SETTINGS, dataclasses.replace(SETTINGS, **change)):
        with pytest.raises(InterruptedError):
            training.train(settings, tmp_path)
        folders.append(set(tmp_path.iterdir()))
    assert len(folders[1]) == 2


@pytest.mark.parametrize(
    "settings", [dataclasses.replace(ONE, epochs=3), pytest.param(SETTINGS, marks=pytest.mark.long)]
)
def test_a_killed_run_goes_on_where_it_was_and_ends_the_same(settings, tmp_path, monkeypatch):
    whole = training.train(settings, tmp_path / "whole")

    write, epochs = store.write_arrays, []

    def killed_after_two(path, tree, metadata=None):
        write(path, tree, metadata)
        epochs.append(path.name)
        if len(epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "write_arrays", killed_after_two)
    with pytest.raises(KeyboardInterrupt):
        training.train(settings, tmp_path / "cut")
    resumed = training.train(settings, tmp_path / "cut")
    assert epochs == ["checkpoint.safetensors"] * 3 + ["weights.safetensors"]  # two epochs, then the third alone
    jax.tree.map(np.testing.assert_array_equal, resumed.model.params, whole.model.params)
    assert resumed.card["history"] == whole.card["history"]
    assert not list(resumed.folder.glob("checkpoint*"))


def test_corrupted_weights_are_refused(tmp_path, trained):
    folder = shutil.copytree(trained.folder, tmp_path / "copy")
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)
    with pytest.raises(store.CorruptFile, match=r"weights\.safetensors is corrupted"):
        training.load(folder)
    (folder / "card.json").write_text("{")
    with pytest.raises(store.CorruptFile, match=r"card\.json is not readable as JSON"):
        training.load(folder)
    (folder / "card.json").write_text(json.dumps({"net": "mnist_cnn"}))
    with pytest.raises(store.CorruptFile, match=r"card\.json is no network's card .*shape"):
        training.load(folder)


@pytest.mark.parametrize(
    "damage",
    [{"shape": [16, 16]}, {"net": ["a"]}, {"classes": 5}, {"history": {}}, {"test_accuracy": None}, {"sha256": "0"}],
)
def test_a_damaged_card_is_refused(tmp_path, trained, damage):
    for name in ("card.json", "weights.safetensors"):
        (tmp_path / name).write_bytes((trained.folder / name).read_bytes())
    card = json.loads((tmp_path / "card.json").read_text()) | damage
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(store.CorruptFile, match="delete"):
        training.load(tmp_path)
    (tmp_path / "card.json").write_text("[]")
    with pytest.raises(store.CorruptFile, match="no network's card"):
        training.load(tmp_path)


def test_a_corrupted_checkpoint_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        training.train(ONE, tmp_path)
    [checkpoint] = tmp_path.glob("*/checkpoint.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(store.CorruptFile, match=r"checkpoint\.safetensors is corrupted"):
        training.train(ONE, tmp_path)


def test_bad_requests_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="unknown recipe 'magic': choose one of report, paper_mnist, paper_cifar"):
        training.train(dataclasses.replace(SETTINGS, recipe="magic"), tmp_path)
    with pytest.raises(ValueError, match="--epochs must be at least 1, got 0"):
        training.train(dataclasses.replace(SETTINGS, epochs=0), tmp_path)
    with pytest.raises(ValueError, match="no data is called 'nothing'"):
        training.train(dataclasses.replace(SETTINGS, data="nothing"), tmp_path)
    with pytest.raises(FileNotFoundError, match="no trained network in"):
        training.load(tmp_path / "nowhere")


def recurrence(recipe, slopes, per_epoch):
    """Keras' SGD, printed: v = m·v - rate·g; w += m·v - rate·g with Nesterov, else w += v."""
    w, velocity, path = 1.0, 0.0, []
    for update, slope in enumerate(slopes):
        rate, momentum = (float(schedule(update, per_epoch, 6)) for schedule in (recipe.learning_rate, recipe.momentum))
        velocity = momentum * velocity - rate * slope
        w += momentum * velocity - rate * slope if recipe.nesterov else velocity
        path.append(w)
    return path


@pytest.mark.parametrize("name", ["report", "paper_mnist"])
def test_the_optimiser_is_the_recipes_recurrence(name):
    recipe = training.RECIPES[name]
    slopes = np.random.default_rng(0).normal(size=30)
    optimizer = training.optimizer_of(recipe, per_epoch=5, epochs=6)
    w = jnp.array(1.0)
    state, path = optimizer.init(w), []
    for slope in slopes:
        change, state = optimizer.update(jnp.asarray(slope, jnp.float32), state, w)
        w = jnp.asarray(optax.apply_updates(w, change))
        path.append(float(w))
    np.testing.assert_allclose(path, recurrence(recipe, slopes, 5), rtol=1e-4, atol=1e-6)


def test_rates_follow_the_papers_tables():
    report, mnist, cifar = (training.RECIPES[name] for name in ("report", "paper_mnist", "paper_cifar"))
    assert report.learning_rate(0, 31, 50) == 0.01
    assert report.learning_rate(10**6, 31, 50) == pytest.approx(0.005)  # decay 1e-6 an update
    assert (report.batch, report.epochs, report.nesterov) == (128, 50, True)
    assert mnist.learning_rate(999, 31, 50) == 0.1
    assert [float(cifar.learning_rate(31 * epoch, 31, 50)) for epoch in (0, 9, 10, 20)] == [0.01, 0.01, 0.005, 0.0025]
    assert float(cifar.momentum(31 * 10, 31, 50)) == 0.45
