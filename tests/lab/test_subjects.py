"""Models by name, and the data that is taken where the user names none."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

import cwjax as cw
from cwjax.lab import cli, data, subjects
from cwjax.lab.sweeps import grid, units

HERE = "tests.lab.test_subjects"


def affine(shape, classes=10) -> cw.Model:
    size = int(np.prod(shape))
    weights = np.random.default_rng(0).normal(size=(size, classes)).astype(np.float32)
    return cw.bind(lambda weights, x: 10 * x.reshape(len(x), size) @ weights / size, jnp.asarray(weights))


def of_digits() -> cw.Model:
    return affine((28, 28, 1))


def of_photographs() -> cw.Model:
    return affine((32, 32, 3))


def of_three_classes() -> cw.Model:
    return affine((28, 28, 1), 3)


def of_anything() -> cw.Model:
    return cw.bind(lambda params, x: jnp.stack([x.reshape(len(x), -1).mean(1)] * 10, axis=1))


def leaving() -> cw.Model:
    raise SystemExit(3)


NUMBER = 3


def asked(name: str) -> str:
    return subjects.data_for("auto", name, *subjects.model_of(name))


@pytest.mark.parametrize(
    ("name", "expected", "why"),
    [
        (f"{HERE}:of_digits", "mnist5k", "its images [28, 28, 1], and not those of cifar10_sample [32, 32, 3]"),
        (f"{HERE}:of_photographs", "cifar10_sample", "its images [32, 32, 3], and not those of mnist5k [28, 28, 1]"),
        ("zoo:cifar_resnet", "cifar10_sample", "zoo:cifar_resnet takes its images [32, 32, 3]"),
        ("zoo:mnist_cnn", "mnist5k", "zoo:mnist_cnn takes its images [28, 28, 1]"),
    ],
)
def test_the_data_is_that_whose_images_the_model_takes(name, expected, why, capsys):
    assert asked(name) == expected
    said = capsys.readouterr().out
    assert said.startswith(f"Data: {expected}, because ")
    assert why in said


def test_the_samples_have_the_shapes_that_models_are_asked_about():
    for name, shape in subjects._SAMPLES.items():
        assert data.load(name, "test").images.shape[1:] == shape


def test_a_trained_networks_data_is_that_of_its_card(trained, tmp_path, capsys):
    assert asked(str(trained.folder)) == "blobs"
    assert f"the network was trained on it, as {trained.folder / 'card.json'} says" in capsys.readouterr().out
    # A card from elsewhere, without the name of any data: the shape of its images is that of neither.
    shutil.copytree(trained.folder, tmp_path / "other")
    card = json.loads((tmp_path / "other" / "card.json").read_text())
    del card["data"]
    (tmp_path / "other" / "card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="takes none of the images that come with cwjax"):
        asked(str(tmp_path / "other"))


def test_what_is_named_is_taken(capsys):
    model = f"{HERE}:of_digits"
    assert subjects.data_for("blobs", model, *subjects.model_of(model)) == "blobs"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("of_anything", ["takes the images of mnist5k [28, 28, 1] and cifar10_sample [32, 32, 3]", "with --data"]),
        ("of_three_classes", ["mnist5k: the model has 3 classes, and the images have 10", "say which with --data"]),
        ("leaving", [f"--model {HERE}:leaving: it calls sys.exit(3)"]),
        ("nobody", [f"{HERE} has no function nobody: it has affine, of_digits"]),
        ("NUMBER", [f"--model {HERE}:NUMBER is no function, but of the type int"]),
        ("", ["is no MODULE:FUNCTION, such as mynet:model"]),
    ],
)
@pytest.mark.parametrize("command", ["attack", "race", "sweep"])
def test_every_command_says_what_is_wrong_in_one_line(command, name, words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.compiling, "keep", lambda folder: None)
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--model", f"{HERE}:{name}", "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert all(word in line for word in words)
    assert not (tmp_path / "out").exists()


def test_a_sweep_takes_the_data_of_each_of_its_models():
    asked = grid.Sweep(model=(f"{HERE}:of_photographs", f"{HERE}:of_digits"), attack=("fast_l2",), examples=2)
    plan = units.plan(grid.read(None, asked))
    assert [(each.model, each.data) for each in plan.configurations] == [
        (f"{HERE}:of_photographs", "cifar10_sample"),
        (f"{HERE}:of_digits", "mnist5k"),
    ]
    named = grid.over(grid.Sweep(data=("mnist5k", "auto"), model=(f"{HERE}:of_digits",)), asked)
    assert [each.data for each in units.plan(grid.read(None, named)).configurations] == ["mnist5k"]  # once


@pytest.mark.long
def test_an_attack_without_data_runs_and_can_be_verified(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.compiling, "keep", lambda folder: None)
    model = ["--model", f"{HERE}:of_photographs"]
    cli.main(
        [
            "attack",
            *model,
            "--attack",
            "fast_l2",
            "--steps",
            "5",
            "--examples",
            "3",
            "--no-checks",
            "--out",
            str(tmp_path),
        ]
    )
    assert "Data: cifar10_sample" in capsys.readouterr().out
    assert json.loads((tmp_path / "run.json").read_text())["about"]["configuration"]["data"] == "cifar10_sample"
    assert pq.read_table(tmp_path / "results.parquet").num_rows == 3
    cli.main(["verify", str(tmp_path)])
    assert "3 of 3 rows agree" in capsys.readouterr().out
