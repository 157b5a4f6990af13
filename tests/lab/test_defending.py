"""Defended networks by name: kept, attacked, swept."""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

from cwjax.defences import DEFENCES
from cwjax.lab import data, defending
from cwjax.lab.files import compiling, store
from cwjax.lab.subjects import dataset_of, model_and_data, model_of
from cwjax.lab.sweeps import grid, units
from tests.defences import made
from tests.lab.called import call, fails

NAME = "tests.lab.called:brightness"


@pytest.fixture
def train():
    x, labels = made.pictures(0)
    return data.Dataset.of(x, labels, name="corners", split="train")


def test_what_was_learnt_is_kept_and_read_again(train, tmp_path, monkeypatch):
    options = {"updates": 20}
    first = defending.defended("bounded_relu", made.classifier(), train, folder=tmp_path, **options)
    [place] = tmp_path.iterdir()
    assert [file.name for file in place.iterdir()] == ["network.safetensors"]
    monkeypatch.setattr(store, "write_arrays", lambda *given: pytest.fail("it learnt again"))
    second = defending.defended("bounded_relu", made.classifier(), train, folder=tmp_path, **options)
    jax.tree.map(np.testing.assert_array_equal, first.model.params, second.model.params)
    with pytest.raises(ValueError, match="unknown defence 'none such'"):
        defending.defended("none such", made.classifier(), train)


def test_a_name_has_its_defence_behind_it():
    assert defending.named("zoo:mnist_cnn", None, "mnist") == "zoo:mnist_cnn"
    assert defending.named("zoo:mnist_cnn", "none", None) == "zoo:mnist_cnn"
    assert defending.named("a:b", "magnet", "mnist") == "a:b,defence=magnet,taught=mnist"
    with pytest.raises(ValueError, match="--defence nothing is not known: choose one of none, distilled"):
        defending.named("a:b", "nothing", None)


@pytest.mark.long
def test_the_command_attacks_a_defended_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compiling, "keep", lambda folder: None)
    monkeypatch.chdir(tmp_path)
    told = ("--data", "blobs", "--defence", "last_components", "--examples", 3, "--attack", "fast_l2", "--steps", 40)
    call("attack", "--model", NAME, *told, "--no-checks", "--only-correct", "--out", tmp_path / "run")
    rows = pq.read_table(tmp_path / "run" / "results.parquet").to_pydict()
    assert all(rows["success"])
    assert all(said.endswith("passes") for said in rows["says"])
    assert rows["wanted"][0].startswith("not ")
    call("verify", tmp_path / "run")
    said = capsys.readouterr().out
    assert "3 of 3 rows agree" in said
    assert "Behind last_components, which the attack knows: clean images classified rightly" in said
    both = (
        "cwjax sweep --defence none last_components --attack fast_l2 --model tests.lab.called:brightness --data blobs"
    )
    told = f"--examples 3 --steps 40 --only-correct --out {tmp_path}/run-defence  # with and without the defence"
    assert f"Next:   {both} {told}\n" in said
    assert "strong enough is another question, which was not asked" in said
    page = (tmp_path / "run" / "report.md").read_text()
    assert page.startswith("# fast_l2 attack on blobs behind last_components\n")
    for heading in (
        "what the attack knows",
        "clean images that are refused",
        "clean images classified rightly, with the defence",
    ):
        assert f"| {heading} | " in page
    said = fails(capsys, "attack", "--model", NAME, "--data", "blobs", "--defence", "x", "--out", tmp_path / "no")
    assert "--defence x is not known" in said


@pytest.mark.long
def test_defences_are_an_axis_of_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = grid.Sweep(model=(NAME,), data=("blobs",), defence=("none", "mean_filter", "last_components"))
    [sweep] = grid.read(None, grid.over(sweep, grid.Sweep(attack=("fast_l2",), examples=2)))
    plan = units.plan([sweep])
    models = [each.model.removeprefix(NAME) for each in plan.configurations]
    assert models == ["", ",defence=mean_filter,taught=blobs", ",defence=last_components,taught=blobs"]
    assert [each.data for each in plan.configurations][:2] == ["blobs", "blobs"]
    assert len({unit.digest for unit in plan.all}) == 3


def test_a_detector_makes_a_task_of_a_classifier(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"{NAME},defence=last_components,taught=blobs"
    model, card, found, _ = model_and_data(name)
    assert card["task"] == "blobs behind last_components"
    assert found == f"task:{name}"
    task = dataset_of(found).task
    assert task
    assert task.model is model
    assert model_of(f"{NAME},defence=mean_filter,taught=blobs")[1]["defence"] == "mean_filter"
    found = defending.on_clean(model, dataset_of(f"task:{name}"))
    rightly, refused = (int(words.removesuffix(" of 30")) for words in found.values())
    scores = np.asarray(task.model.of_batch(jnp.asarray(task.x))[1])
    assert refused == sum(task.read((np.zeros(3), score)).endswith("refused") for score in scores)
    plain = defending.on_clean(model_of(NAME)[0], dataset_of("blobs"))
    assert list(plain.values()) == [f"{rightly} of 30"]
    with pytest.raises(ValueError, match="does not go with"):
        model_and_data(name, "blobs")


def test_the_help_names_every_defence(capsys):
    with pytest.raises(SystemExit):
        call("attack", "--help")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    words = said.partition("--defence NAME")[2].partition("--targets")[0]
    assert {name for name in DEFENCES if name not in words} == set()
