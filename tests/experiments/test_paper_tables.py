"""The experiments on Table IV, on distillation and on transfer, on tiny networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.lab import data
from cwjax.lab.attacking.rows import rows_of
from cwjax.lab.sweeps.vault import Vault
from cwjax.lab.training import training
from experiments import distilling, figure9_transfer, kept, table3_objectives, table4_attacks, table6_distillation
from tests.lab.generating import made

NET: dict[str, Any] = {"data": "blobs", "net": "mnist_dense", "epochs": 2}


def files(name, out):
    """The files of a table in a folder, which has those of `kept` too."""
    return {path.suffix for path in out.iterdir() if path.stem == name}


def some(count=4):
    test = data.load("blobs", "test").take(slice(count))
    return test.images, cw.untargeted(test.labels)


def test_what_was_found_is_kept_and_found_again(tmp_path, monkeypatch):
    settings = {"name": "fgs", "steps": 1, "rounds": 1, "classes": 3}
    (x, goal), vault = some(), Vault(tmp_path)
    first = kept.attacked(vault, table4_attacks.attack, settings, made.one(), x, goal, rounded=True)
    assert first.success.any()
    assert (first.distance[first.success] >= 1 / 256).all()
    assert (first.x * 255 == np.round(first.x * 255)).all()
    monkeypatch.setattr(kept, "_program", None)  # another attack would call it
    again = kept.attacked(vault, table4_attacks.attack, settings, made.one(), x, goal, rounded=True)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    for change in (
        {"rounded": False},
        {"goal": cw.untargeted(1 - np.asarray(goal.label) % 2)},
        {"model": made.other()},
    ):
        told: dict[str, Any] = {"model": made.one(), "x": x, "goal": goal, "rounded": True} | change
        with pytest.raises(TypeError, match="NoneType"):
            kept.attacked(vault, table4_attacks.attack, settings, **told)


def test_a_success_that_is_none_is_refused():
    x, goal = some()
    right = made.flat().apply(made.flat().params, x).argmax(-1) == goal.label
    found = kept.Found(x, np.asarray(right), *(np.zeros(4),) * 3)
    with pytest.raises(RuntimeError, match=f"{int(right.sum())} of {int(right.sum())} reported successes are none"):
        kept.check(made.flat(), found, goal)
    kept.check(made.flat(), found._replace(success=~found.success), goal)


def test_a_goal_is_met_by_the_logits_alone():
    logits = np.array([[0.0, 2, 1], [0, 2, 1]])
    assert kept.met(logits, cw.targeted([1, 2])).tolist() == [True, False]
    assert kept.met(logits, cw.untargeted([1, 2])).tolist() == [False, True]
    assert kept.met(np.zeros((1, 3)), cw.untargeted([2])).tolist() == [False]  # a tie leaves nothing


def test_best_average_and_worst_are_of_each_image():
    test = data.load("blobs", "test").take(slice(2))
    distance = np.array([1, 3, 5, np.inf], np.float32)
    found = kept.Found(test.images, np.isfinite(distance), distance, distance / 2, np.arange(4))
    rows = table4_attacks.cases("IV", "l2", "l2-short", found, rows_of(test, "all", seed=0))
    assert [(row["case"], row["mean"], row["success"]) for row in rows] == [
        ("best", 3, 1),
        ("average", 3, 0.75),
        ("worst", 3, 0.5),
    ]
    assert [row["paper mean"] for row in rows] == [1.36, 1.76, 2.6]
    assert rows[0]["before rounding"] == 1.5
    photographs = table4_attacks.cases("IV-cifar10", "l2", "fast_l2", found, rows_of(test, "all", seed=0))
    assert [row["paper mean"] for row in photographs] == [0.17, 0.33, 0.51]
    untargeted = rows_of(test, "untargeted", seed=0)
    two = kept.Found(*(values[:2] for values in found))
    assert [row["case"] for row in table4_attacks.cases("IV", "l2", "deepfool", two, untargeted)] == ["best"]


def test_the_short_schedules_alone_take_a_rate(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(kept, "attacked", lambda vault, make, settings, *_, **__: asked.update(settings))
    arguments = table4_attacks.Arguments(data="blobs", rate=0.01, examples=2, fast_examples=2, out=tmp_path)
    table4_attacks.attacked(arguments, made.one(), "fast_l2")
    assert "rate" not in asked
    table4_attacks.attacked(arguments, made.one(), "l2-short")
    assert asked["rate"] == 0.01
    x, _ = some(1)
    goal = cw.untargeted(np.asarray(made.one().apply(made.one().params, x)).argmax(-1))
    told: dict[str, Any] = {"name": "l2-short", "steps": 20, "rounds": 2, "classes": 3}
    short = [table4_attacks.attack(**told, rate=rate) for rate in (0.01, 0.2)]
    keys = jax.random.split(jax.random.key(0), 1)
    found = [cw.batched(each)(made.one(), keys, x, goal) for each in short]
    assert not np.array_equal(found[0].x, found[1].x)


@pytest.mark.long
def test_table_4_on_a_tiny_network(tmp_path):
    arguments = table4_attacks.Arguments(data="blobs", attacks=("fgs", "igs"), examples=3, out=tmp_path)
    rows = table4_attacks.main(arguments, made.one())
    assert files("table4", tmp_path) == {".md", ".csv", ".png"}
    by = {(row["attack"], row["case"]): row for row in rows}
    assert len(by) == 6
    for name in ("fgs", "igs"):
        assert by[name, "best"]["mean"] <= by[name, "average"]["mean"]
        assert by[name, "best"]["success"] >= by[name, "worst"]["success"]
    assert by["igs", "best"]["mean"] <= 1.05 * by["fgs", "best"]["mean"]


@pytest.mark.long
@pytest.mark.parametrize("name", [name for some in table4_attacks.NORMS.values() for name in some])
def test_every_attack_of_table_4_succeeds(name, tmp_path):
    if name in table4_attacks.FULL:
        assert table4_attacks.attack(name=name, steps=1, rounds=1, classes=3).terms
        return
    arguments = table4_attacks.Arguments(
        data="blobs", attacks=(name,), examples=2, fast_examples=2, fast_steps=40, steps=100, rounds=3, out=tmp_path
    )
    assert table4_attacks.main(arguments, made.one())[0]["success"] > 0.4


@pytest.fixture(scope="module")
def sets():
    from tests.lab.conftest import Blobs

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.SOURCES, "blobs", Blobs())
        return training.Sets(*(data.load("blobs", split) for split in data.SPLITS))


@pytest.mark.long
def test_images_without_a_name_train_a_network_that_is_found_again(tmp_path, sets, monkeypatch):
    recipe = distilling.recipe(1)._replace(distilled=None, batch=32, source="short")
    settings = training.Training("half", "mnist_dense", "plain", 1)
    half = sets._replace(train=sets.train.take(slice(0, None, 2)))
    first = training.train_on(half, recipe, settings, tmp_path)
    assert first.folder.name.startswith("half-mnist_dense-")
    monkeypatch.setattr(training, "_fit", None)
    assert training.train_on(half, recipe, settings, tmp_path).folder == first.folder
    for changed in ((sets, recipe), (half, recipe._replace(source="other"))):
        with pytest.raises(TypeError, match="NoneType"):
            training.train_on(*changed, settings, tmp_path)


def test_logits_over_t_are_a_model_of_equal_programs():
    x, _ = some()
    one, ten = distilling.over(made.one(), 1), distilling.over(made.one(), 10)
    np.testing.assert_allclose(one.apply(one.params, x), 10 * ten.apply(ten.params, x), rtol=1e-5)
    assert one.apply == ten.apply
    assert distilling.size(np.array([[-1.0, 3.0]])) == (2, 1)


def test_a_saturated_softmax_has_no_slope():
    x, _ = some()
    loss, labels = cw.losses.label_cross_entropy(), np.asarray(made.flat().apply(made.flat().params, x)).argmax(-1)
    assert distilling.without_slope(made.flat(), loss, x, labels) == 0
    hot = distilling.over(made.flat(), 1e-5)
    assert distilling.without_slope(hot, loss, x, labels) == 1
    assert distilling.without_slope(hot, cw.losses.negative_margin(), x, labels) == 0


def test_a_correlation_is_seen_and_has_an_interval():
    temperatures, rng = np.array([1.0, 10, 100]), np.random.default_rng(0)
    noise = rng.normal(size=(3, 50))
    rho, low, high = table6_distillation.correlation(temperatures, noise, draws=200)
    assert low < rho < high
    assert abs(rho) < 0.3
    noise[0, 0] = np.inf  # a failure
    rho, low, high = table6_distillation.correlation(temperatures, noise + 0.1 * temperatures[:, None], draws=200)
    assert 0.9 < low < rho < high <= 1


def test_a_correlation_of_networks_knows_of_chance_in_training():
    """Networks whose distances differ by chance alone: their images agree, so an interval over images is too sure."""
    temperatures, rng = np.linspace(1, 100, 12), np.random.default_rng(3)
    distances = rng.normal(size=(12, 1)) + 0.1 * rng.normal(size=(12, 40))
    rho, low, high = table6_distillation.correlation(temperatures, distances, draws=300)
    same, lower, higher = table6_distillation.correlation(temperatures, distances, draws=300, networks=True)
    assert rho == same
    assert higher - lower > 5 * (high - low)
    assert lower < 0 < higher


def test_an_objective_stands_beside_f6_on_the_rows_of_both():
    far = np.array([2.0, 1.0, np.inf])
    lines = table3_objectives.beside_f6({("f1", "clipped"): far, ("f6", "clipped"): np.array([1.0, 1.0, 1.0])})
    assert lines == ["| f1 | clipped | 2 | 2.000 (1.000 to 4.000) | 1.27 |"]
    drawn = table3_objectives.cases({"distance": [3.0, np.inf], "backwards": [1, 1]}, np.arange(2), "f1", "clipped")
    assert [(row["case"], row["success"], row["mean squared L2"]) for row in drawn] == [("average", 0.5, 9)]


def test_the_checks_that_speak_are_asked_for_and_kept(tmp_path, monkeypatch):
    test = data.load("blobs", "test").take(slice(4))
    arguments = table6_distillation.Arguments(diagnose=2, out=tmp_path)
    settings = {"name": "fgsm", "steps": 1, "classes": 3}
    asked = lambda model: table6_distillation.checks_of("fgsm", settings, model, test, arguments)  # noqa: E731
    blind = distilling.over(made.flat(), 1e-5)
    assert "blind_attack (fail)" in asked(blind)
    assert "blind_attack" not in asked(made.flat())
    monkeypatch.setattr(cw, "diagnose", None)
    assert "blind_attack (fail)" in asked(blind)  # found again


@pytest.mark.long
def test_table_3_takes_a_model_and_f5_without_its_hinge(tmp_path):
    arguments = table3_objectives.Arguments(
        model="tests.lab.generating.made:one",
        data="blobs",
        examples=3,
        targets="average",
        objectives=("f1", "f5", "f5_unhinged"),
        boxes=("projected",),
        steps=40,
        rounds=3,
        initial_c=10.0,
        learning_rate=0.05,
        out=tmp_path,
    )
    rows = {row["objective"]: row for row in table3_objectives.main(arguments)}
    assert set(rows) == {"f1", "f5", "f5_unhinged"}
    assert all(row["success"] > 0 for row in rows.values())
    assert rows["f5_unhinged"]["paper distortion"] == rows["f5"]["paper distortion"] == 3.47
    goal = cw.LabelGoal(jnp.int32(0), jnp.float32(1))
    hinged, bare = (
        table3_objectives.OBJECTIVES[name]().loss(jnp.array([3.0, 0]), goal) for name in ("f5", "f5_unhinged")
    )
    assert hinged == 0 > bare


def test_the_papers_correlation_is_that_of_its_networks_means():
    temperatures, means = map(np.array, zip(*table6_distillation.FIGURE_8.items(), strict=True))
    rho, low, high = table6_distillation.correlation_of_means(temperatures, means)
    assert rho == pytest.approx(-0.05, abs=0.01)
    assert (low, high) == pytest.approx((-0.475, 0.385), abs=0.002)  # tanh(artanh(rho) +- 1.96 / sqrt(18))


@pytest.fixture
def small_batches(monkeypatch):
    """The blobs are too few for batches of 128."""
    recipe = distilling.recipe
    monkeypatch.setattr(distilling, "recipe", lambda temperature: recipe(temperature)._replace(batch=16))


@pytest.mark.long
def test_distillation_on_tiny_networks(tmp_path, small_batches):
    arguments = table6_distillation.Arguments(
        **NET,
        temperatures=(1, 100),
        examples=4,
        fast_steps=20,
        attacks=("fgsm", "ddn", "deepfool"),
        attacked=4,
        steps=10,
        out=tmp_path / "out",
        models=tmp_path / "models",
    )
    train = data.load("blobs", "train")
    pixels, wanted = train.images.reshape(len(train.images), -1), 8 * np.eye(3, dtype=np.float32)[train.labels]
    linear = cw.bind(lambda w, x: x.reshape(len(x), -1) @ w, np.linalg.lstsq(pixels, wanted, rcond=1e-2)[0])
    networks = (linear, distilling.over(linear, 1e-5))
    by_temperature, by_attack = table6_distillation.main(arguments, networks)
    assert [row["T"] for row in by_temperature] == [1, 100]
    assert by_temperature[0]["paper L2"] == 1.91
    success = {(row["attack"], row["network"]): row["success"] for row in by_attack}
    slope = {(row["attack"], row["network"]): row["no slope"] for row in by_attack}
    assert success["ddn", "plain"] > 0.7
    assert success["ddn", "distilled"] == 0
    assert slope["ddn", "distilled"] == 1
    assert success["deepfool", "distilled"] == success["deepfool", "plain"] > 0.5
    assert slope["deepfool", "distilled"] == 0
    assert files("table6", tmp_path / "out") == files("table6_attacks", tmp_path / "out") == {".md", ".csv", ".png"}
    again, _ = table6_distillation.main(arguments, networks)
    assert again == by_temperature


@pytest.mark.long
def test_transfer_on_tiny_networks(tmp_path, small_batches):
    arguments = figure9_transfer.Arguments(
        **dict(NET, epochs=8),
        confidences=(0, 5, 5.5),
        ensembles=(2, 3),
        examples=6,
        steps=30,
        out=tmp_path / "out",
        models=tmp_path,
    )
    rows = figure9_transfer.main(arguments)
    assert [(row["goal"], row["kappa"]) for row in rows] == [
        (goal, kappa) for goal in ("untargeted", "targeted") for kappa in (0, 5, 5.5)
    ]
    assert files("figure9", tmp_path / "out") == {".md", ".csv", ".png"}
    first, second, third = rows[:3]
    assert first["paper to plain"] == 0.03
    assert second["paper to distilled"] == 0.03
    assert np.isnan(third["paper to plain"])
    assert first["mean L2"] < second["mean L2"]
    assert first["mean L2"] <= 1.01 * first["of 2: L2"] <= 1.01**2 * first["of 3: L2"]
    assert first["to plain"] <= second["to plain"]
    assert second["noise to plain"] <= second["to plain"]
