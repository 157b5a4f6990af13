"""What recipes do to rates and labels, and what is learnt by them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cwjax.lab import data
from cwjax.lab.training import nets, training
from cwjax.lab.training.intervals import certified_accuracy
from cwjax.lab.training.recipes import RECIPES, Adversary, one_cycle, optimizer_of
from cwjax.lab.zoo import packing


def test_one_cycle_rises_to_its_peak_and_falls_to_zero():
    rates = np.array([one_cycle(0.1, rise=0.2)(update, 10, 5) for update in range(51)])
    assert rates[0] == pytest.approx(0.005)
    assert rates.argmax() == 10
    assert rates.max() == pytest.approx(0.1)
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[50] == pytest.approx(0, abs=1e-7)


def test_one_cycle_stretches_with_the_number_of_epochs():
    rate = one_cycle(0.1)
    assert float(rate(40, 10, 8)) == pytest.approx(float(rate(20, 10, 4)))


def test_weight_decay_is_added_to_the_gradient():
    optimizer = optimizer_of(RECIPES["zoo_cifar"], per_epoch=10, epochs=3)
    plain = optimizer_of(RECIPES["zoo_cifar"]._replace(weight_decay=0.0), per_epoch=10, epochs=3)
    w, slope = jnp.array(2.0), jnp.array(0.1)
    change, _ = optimizer.update(slope, optimizer.init(w), w)
    expected, _ = plain.update(slope + 5e-4 * w, plain.init(w), w)
    assert float(jnp.asarray(change)) == pytest.approx(float(jnp.asarray(expected)))


def test_distillation_is_the_papers(tmp_path, monkeypatch):
    """Teacher and student start from one epoch at T = 1; the student learns what the teacher says at T."""
    stages = {}

    def fitted(fit, recipe, params, labels, stage):
        stages[stage] = (fit.epochs, recipe.temperature, params, labels)
        changed = nets.build("mnist_cnn", shape=(16, 16, 1), classes=3, seed=len(stages))
        return nnx.state(changed), {}

    monkeypatch.setattr(training, "_fit", fitted)
    settings = training.Training(data="blobs", recipe="distilled", epochs=4)
    student = training.train(settings, tmp_path).model
    start, teacher, pupil = (stages[stage] for stage in ("start", "teacher", "student"))
    assert [start[:2], teacher[:2], pupil[:2]] == [(1, 1.0), (4, 100.0), (4, 100.0)]
    assert teacher[2] is pupil[2]
    digits = data.load("blobs", "train")
    np.testing.assert_array_equal(start[3], digits.labels)
    np.testing.assert_array_equal(teacher[3], digits.labels)
    first, second, third = (nets.build("mnist_cnn", shape=(16, 16, 1), classes=3, seed=k) for k in (1, 2, 3))
    jax.tree.map(np.testing.assert_array_equal, teacher[2], nnx.state(first))
    jax.tree.map(np.testing.assert_array_equal, student.params, nets.as_model(third).params)
    model = nets.as_model(second)
    said = jax.nn.softmax(model.apply(model.params, digits.images) / 100)
    np.testing.assert_allclose(pupil[3], said, rtol=1e-5)


@pytest.mark.long
def test_a_distillation_that_was_killed_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "distilled", RECIPES["distilled"]._replace(batch=32))
    settings = training.Training(data="blobs", recipe="distilled", epochs=2)
    whole = training.train(settings, tmp_path / "whole")
    write, written = training.store.write_arrays, []

    def killed_in_the_student(path, tree, metadata=None):
        write(path, tree, metadata)
        written.append(path.name)
        if len(written) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.store, "write_arrays", killed_in_the_student)
    with pytest.raises(KeyboardInterrupt):
        training.train(settings, tmp_path / "cut")
    resumed = training.train(settings, tmp_path / "cut")
    stages = ["start", "teacher", "teacher", "student", "student"]
    assert written == [*(f"checkpoint-{stage}.safetensors" for stage in stages), "weights.safetensors"]
    jax.tree.map(np.testing.assert_array_equal, resumed.model.params, whole.model.params)


@pytest.mark.long
@pytest.mark.optimized
def test_adversarial_training_at_a_small_size_makes_robust(tmp_path, monkeypatch):
    adversary = Adversary(epsilon=0.1, steps=2, ramp=0.4)
    test = data.load("blobs", "test")
    robust = []
    for name, changes in {"plain": {"adversary": None}, "adversarial": {"adversary": adversary}}.items():
        monkeypatch.setitem(
            RECIPES, name, RECIPES["adversarial"]._replace(batch=16, learning_rate=one_cycle(0.05), **changes)
        )
        trained = training.train(training.Training(data="blobs", recipe=name, epochs=8), tmp_path)
        assert trained.card["test_accuracy"] > 0.9
        robust.append(packing.robust_accuracy(trained.model, test, epsilon=0.2, steps=10))
    assert robust[1] > robust[0]


@pytest.mark.long
def test_photographs_are_learnt_mirrored_and_moved(tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "zoo_cifar", RECIPES["zoo_cifar"]._replace(batch=32))
    settings = training.Training(data="blobs", net="cifar_resnet", recipe="zoo_cifar", epochs=2)
    card = training.train(settings, tmp_path).card
    assert card["history"]["loss"][-1] < card["history"]["loss"][0]


KINDS = {  # recipe -> the network that it is for
    "squared": "mnist_dense",
    "certified": "mnist_small",
    "winners": "mnist_winners",
    "adversarial_l2": "mnist_lenet",
}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """What is learnt of the blobs by a recipe, with something of it changed; each is trained once."""

    @functools.cache
    def train(recipe, **changes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(RECIPES, recipe, RECIPES[recipe]._replace(batch=16, **changes))
            settings = training.Training(data="blobs", net=KINDS[recipe], recipe=recipe, epochs=8)
            return training.train(settings, tmp_path_factory.mktemp(recipe))

    return train


@pytest.mark.parametrize(
    "recipe",
    ["squared", "certified", *(pytest.param(name, marks=pytest.mark.long) for name in ("winners", "adversarial_l2"))],
)
def test_each_kind_of_network_is_learnt(recipe, learnt):
    adversary = RECIPES[recipe].adversary
    card = (learnt(recipe, adversary=adversary._replace(epsilon=0.3, steps=1)) if adversary else learnt(recipe)).card
    assert card["history"]["loss"][-1] < card["history"]["loss"][0]
    assert card["test_accuracy"] > 0.9
    assert ("certified_accuracy" in card) == (recipe == "certified")


def test_logits_that_were_learnt_by_squared_error_are_near_the_one_hot_labels(learnt):
    model = learnt("squared").model
    test = data.load("blobs", "test")
    off = np.asarray(model.apply(model.params, test.images)) - np.eye(3)[test.labels]
    assert np.abs(off).mean() < 0.2


def test_a_certified_network_certifies_more_than_its_twin(learnt):
    shares = []
    for changes in ({"certified": None}, {}):
        net = nets.as_net(learnt("certified", **changes).model)
        shares.append(certified_accuracy(net, data.load("blobs", "test"), epsilon=0.1))
    assert shares[1] > 0.9
    assert shares[1] > shares[0] + 0.2


def test_the_certified_recipe_needs_a_network_with_bounds(tmp_path):
    with pytest.raises(ValueError, match="choose mnist_small"):
        training.train(training.Training(data="blobs", net="mnist_cnn", recipe="certified", epochs=1), tmp_path)
