"""The command line: what it writes, what it says, and that every mistake is one line and exit code 2."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cwjax as cw
from cwjax.evaluation.diagnosis.diagnose import CHECKS
from cwjax.lab import cli, data
from cwjax.lab.attacking import attacking, demo, presets, runs
from cwjax.lab.attacking.attack import _summary
from cwjax.lab.console import progress
from cwjax.lab.training import training
from tests.lab.conftest import canned
from tests.lab.reporting.test_run_report import make_run

QUICK = ["--steps", "60", "--search-steps", "2", "--initial-c", "1", "--learning-rate", "0.1"]


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """The folders that compiled programs would have been kept in from then on."""
    folders = []
    monkeypatch.setattr(cli.compiling, "keep", folders.append)
    return folders


def call(*arguments):
    cli.main([str(argument) for argument in arguments])


def fails(capsys, *arguments) -> str:
    """The one line that a mistaken command prints."""
    with pytest.raises(SystemExit) as stop:
        call(*arguments)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("cwjax: error: ")
    return lines[0]


def probabilities():
    """A model that forgot to leave the softmax out."""
    return cw.bind(lambda params, x: jnp.ones((x.shape[0], 3)) / 3)


def nothing():
    return None


def broken():
    """A function that fails in a way of its own."""
    raise KeyError("weights")


def brightness():
    """A user's own model: bright in one of three corners."""
    corners = [(slice(2, 7), slice(2, 7)), (slice(2, 7), slice(9, 14)), (slice(9, 14), slice(2, 7))]
    return cw.bind(lambda params, x: jnp.stack([10 * x[:, a, b, 0].mean((1, 2)) for a, b in corners], axis=1))


def test_train_then_attack_then_read(tmp_path, capsys):
    call("train", "--data", "blobs", "--recipe", "paper_mnist", "--epochs", 6, "--out", tmp_path / "models")
    said = capsys.readouterr().out
    assert "right on the blobs test images" in said
    [folder] = (tmp_path / "models").iterdir()
    assert str(folder) in said
    out = tmp_path / "run"
    where = ["--data", "blobs", "--model", folder, "--examples", 3, "--targets", "all", "--out", out]
    call("attack", *where, "--no-checks", *QUICK)
    said = capsys.readouterr().out
    assert f"Report: {out / 'report.html'}" in said
    names = {"report.html", "report.md", "results.parquet", "adversarial.npz", "run.json", "figures"}
    assert names == {path.name for path in out.iterdir()}
    assert pq.read_table(out / "results.parquet").num_rows == 6
    assert "blobs" in (out / "report.html").read_text()


def test_a_users_own_model_can_be_attacked_and_the_result_is_checked(tmp_path, capsys):
    call(
        "attack",
        "--data",
        "blobs",
        "--model",
        "tests.lab.test_cli:brightness",
        "--examples",
        4,
        "--out",
        tmp_path,
        *QUICK,
    )
    table = pq.read_table(tmp_path / "results.parquet").to_pandas()
    assert table.success.all()
    assert (table.target == -1).all()
    said = json.loads((tmp_path / "diagnosis.json").read_text())
    assert list(said) == ["l2"]
    assert len(said["l2"]["checks"]["second_look"]["evidence"]) == 4
    assert said["l2"]["checks"]["second_look"]["index"] == table["index"].tolist() == [1000, 1001, 1002, 1003]
    assert said["l2"]["examples"] == 4
    assert set(said["l2"]["checks"]["weaker_wins"]) >= {"weaker attack", "attack's distance"}
    console = capsys.readouterr().out
    assert f"l2 attack: {said['l2']['line']}" in console
    assert "which say little" in said["l2"]["line"]
    assert "l2 attack: rows finished 0/4  compiling the attack" in console
    assert f"l2 attack: checks {len(CHECKS)}/{len(CHECKS)} after" in console
    assert said["l2"]["line"] in (tmp_path / "report.html").read_text()


def test_several_attacks_make_one_report(tmp_path, capsys):
    where = ["--data", "blobs", "--model", "tests.lab.test_cli:brightness", "--examples", 3, "--out", tmp_path]
    more = ["--attack", "linf", "lbfgs", "--objective", "f6", "--largest-c", 50, "--rounded", "--no-checks"]
    call("attack", *where, *more, *QUICK[:2], "--initial-c", "1")
    said = capsys.readouterr().out
    assert "--largest-c goes to linf alone: it is no setting of lbfgs." in said
    assert "linf attack: objective f6, box change_of_variables, optimizer adam" in said
    table = pq.read_table(tmp_path / "results.parquet").to_pandas()
    assert table.attack.tolist() == ["linf"] * 3 + ["lbfgs"] * 3
    assert table.success.all()
    markdown = (tmp_path / "report.md").read_text()
    assert markdown.startswith("# L∞ and lbfgs attacks on blobs\n")
    assert "| largest_c | 50 | – |" in markdown
    assert "## Rounding to 8 bits" in markdown
    page = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    call("report", tmp_path)
    assert (tmp_path / "report.html").read_bytes() == page


@pytest.mark.long
@pytest.mark.optimized
def test_the_demo_at_a_small_size(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(attacking, "diagnosed", lambda *_, **__: canned())
    monkeypatch.setattr(demo, "TRAINING", training.Training(data="mnist5k", epochs=2))
    quick = presets.Settings(steps=6, initial_c=10.0, learning_rate=0.1)
    shrinking = dataclasses.replace(quick, steps=3, learning_rate=0.3, largest_c=20.0)
    monkeypatch.setitem(demo.ATTACKS, "l2", dataclasses.replace(quick, steps=40, search_steps=2))
    monkeypatch.setitem(demo.ATTACKS, "l0", shrinking)
    monkeypatch.setitem(demo.ATTACKS, "linf", shrinking)
    call("demo", "--out", tmp_path / "demo", "--models", tmp_path / "models")
    said = capsys.readouterr().out
    assert "Report:" in said
    assert said.count("FAIL: do not believe these numbers yet") == 3
    assert set(json.loads((tmp_path / "demo" / "diagnosis.json").read_text())) == {"l2", "l0", "linf"}
    table = pq.read_table(tmp_path / "demo" / "results.parquet").to_pandas()
    assert set(table.attack) == {"l2", "l0", "linf"}
    for _, rows in table.groupby("attack"):
        pairs = sorted(zip(rows.label, rows.target, strict=True))
        assert pairs == [(a, b) for a in range(10) for b in range(10) if a != b]
        assert rows.success.any()
    columns = [
        "attack",
        "index",
        "label",
        "target",
        "success",
        "l0",
        "l1",
        "l2",
        "linf",
        "margin",
        "c",
        "forwards",
        "backwards",
    ]
    assert set(columns) <= set(table.columns)


@pytest.mark.parametrize("command", [[], ["train"], ["attack"], ["demo"], ["race"], ["verify"], ["results"]])
def test_help_is_there_and_ends_well(command, capsys):
    with pytest.raises(SystemExit) as stop:
        call(*command, "--help")
    assert not stop.value.code
    assert "usage: cwjax" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["attack", "sweep", "train", "report", "results", "demo"])
def test_help_says_what_holds_for_what_is_left_out(command, capsys):
    with pytest.raises(SystemExit):
        call(command, "--help")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "None" not in said
    assert "(default: )" not in said
    if command in ("attack", "sweep"):
        assert (
            "(default: 10000 (l2, l1), 1000 (l0, linf, lbfgs), 300 (fast_l2, alternating_l2, fast_l1, fast_linf, "
            "fast_l0))" in said
        )
        assert "(default: f6 (l2, l1, l0, linf, fast_l2), f1 (lbfgs))" in said


def test_every_settings_own_values_are_those_of_the_attacks():
    names = {field.name for field in dataclasses.fields(presets.Settings)}
    assert set(presets.MEANINGS) == names
    assert presets.own_values("starts") == "1"
    assert presets.own_values("largest_c") == "2e+06 (l0), 20 (linf)"
    for name in names - {"starts", "radius"}:
        said = presets.own_values(name)
        for attack, kind in presets.PRESETS.items():
            assert (re.search(rf"\b{attack}\b", said) is None) == (getattr(kind.own, name) is None)


def found(attack: str, norm: str, answers) -> runs.Run:
    """What an attack that moved three images came to; the model had said this of the clean ones."""
    rows = [(0, 0, -1, 1.0), (1, 1, -1, 3.0), (2, 2, -1, 0.0)]
    run = make_run(rows, attack=attack, norm=norm)
    place = run.table.column_names.index("clean_prediction")
    return run._replace(table=run.table.set_column(place, "clean_prediction", pa.array(answers, pa.int32())))


def printed(table, monkeypatch, capsys, columns: int) -> list[list[str]]:
    """The cells of the table on a terminal so wide."""
    monkeypatch.setenv("COLUMNS", str(columns))
    progress.show(table)
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:1] in "│┃"]
    return [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in lines]


def test_the_table_names_its_norm_and_is_not_cut(monkeypatch, capsys):
    several = [found("alternating_l2", "l2", [0, 1, 2]), found("fast_l2", "l2", [0, 1, 2])]
    assert printed(_summary(several, "a title"), monkeypatch, capsys, 40) == [
        ["attack", "attacks", "success %", "mean L2", "median L2", "seconds"],
        ["alternating_l2", "3", "100.0", "1.333", "1.000", "61.50"],
        ["fast_l2", "3", "100.0", "1.333", "1.000", "61.50"],
    ]
    mixed = [found("l2", "l2", [0, 1, 5]), found("linf", "linf", [0, 1, 5])]
    assert printed(_summary(mixed, "a title"), monkeypatch, capsys, 40) == [
        [
            *("attack", "attacks", "success %", "mean distance", "median distance", "misclassified"),
            *("mean without them", "norm", "seconds"),
        ],
        ["L2", "3", "100.0", "1.333", "1.000", "1", "2.000", "L2", "61.50"],
        ["L∞", "3", "100.0", "1.333", "1.000", "1", "2.000", "L∞", "61.50"],
    ]


def dim():
    """The same, but blind to images whose first pixel is dark: of those it says the first class."""
    model = brightness()
    return cw.bind(lambda params, x: jnp.where(x[:, 0, 0] < 0.1, jnp.array([[9.0, 0.0, 0.0]]), model.apply(params, x)))


def test_images_that_the_model_gets_wrong_are_counted_or_left_out(tmp_path, capsys):
    dataset = data.load("blobs", "test")
    right = np.asarray(dim().apply((), dataset.images)).argmax(1) == dataset.labels
    assert 4 <= right.sum() < 24
    where = ["--data", "blobs", "--model", "tests.lab.test_cli:dim", "--no-checks", *QUICK]
    call("attack", *where, "--examples", 4, "--only-correct", "--out", tmp_path / "right")
    table = pq.read_table(tmp_path / "right" / "results.parquet").to_pandas()
    assert table["index"].tolist() == dataset.index[right][:4].tolist()
    assert (table.clean_prediction == table.label).all()
    assert "misclassified" not in capsys.readouterr().out
    line = fails(capsys, "attack", *where, "--examples", 30, "--only-correct", "--out", tmp_path / "none")
    assert f"--examples 30 asks for more than the {right.sum()} test images of blobs that the model gets right" in line


def test_only_the_elements_of_the_mask_change(tmp_path, capsys):
    """Of attacks whose programs are several: the engine, the checks, the second look and the rounding."""
    file, mask = tmp_path / "upper.npy", np.arange(28)[:, None, None] < 9
    shape = data.load("blobs", "test").images.shape[1:]
    mask = mask[: shape[0]]
    np.save(file, mask)
    where = ["--data", "blobs", "--model", "tests.lab.test_cli:brightness", "--examples", 3, "--mask", file]
    told = ["--attack", "l2", "fast_l2", "--box", "projected", *QUICK, "--rounded", "--precision", "bfloat16"]
    call("attack", *where, *told, "--out", tmp_path / "out")
    assert "checks" in capsys.readouterr().out
    table = pq.read_table(tmp_path / "out" / "results.parquet").to_pandas()
    assert table.success.all()
    adversarial = np.load(tmp_path / "out" / "adversarial.npz")["adversarial"]
    dataset = data.load("blobs", "test")
    clean = dataset.images[np.searchsorted(dataset.index, table["index"])]
    moved = (adversarial != clean).any(0)
    assert moved.any()
    assert not moved[~np.broadcast_to(mask, shape)].any()
    free = int(np.broadcast_to(mask, shape).sum())
    said = f"{file}: {free} of {np.prod(shape)} elements of an image may change"
    assert json.loads((tmp_path / "out" / "run.json").read_text())["about"]["configuration"]["mask"] == said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.ones((3, 3, 1), bool), "got the shape [3, 3, 1], which does not broadcast"),
        (np.ones((28, 28, 1)), "got an array of float64"),
        (np.zeros((1, 1, 1), bool), "got one that is False everywhere"),
        (b"PNG", "holds no array: write it with numpy.save"),
        (None, "cannot read --mask"),
    ],
)
def test_a_file_that_is_no_mask_is_one_line(content, words, tmp_path, capsys):
    file = tmp_path / "mask.npy"
    if isinstance(content, np.ndarray):
        np.save(file, content)
    elif content:
        file.write_bytes(content)
    where = ["--data", "blobs", "--model", "tests.lab.test_cli:brightness", "--out", tmp_path / "out"]
    assert words in fails(capsys, "attack", *where, "--examples", 3, "--mask", file)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("attack", ["--model", "--out"]),
        ("atack", ["atack"]),
        ("train --epochs many", ["--epochs", "many"]),
        ("train --epochs 0", ["--epochs must be at least 1"]),
        ("train --data mnist6k", ["mnist6k", "mnist5k, mnist"]),
        ("train --data blobs --net vgg", ["vgg", "mnist_cnn, cifar_cnn"]),
        ("train --recipe mine", ["mine", "report, paper_mnist"]),
        ("train --lr 0.1", ["--lr"]),
        ("attack --targets some --model x --out OUT", ["some", "untargeted"]),
        ("attack --attack l3 --model x --out OUT", ["unknown attack 'l3'"]),
        (
            "attack --attack l2 l0 l3 --model x --out OUT",
            ["unknown attack 'l3': choose one of l2, l1, l0, linf, lbfgs"],
        ),
        ("attack --attack l2 l2 --model x --out OUT", ["--attack", "different ones, got l2 l2"]),
        ("attack --attack linf --search-steps 5 --model x --out OUT", ["--search-steps is no setting of linf"]),
        ("attack --largest-c 5 --model x --out OUT", ["--largest-c is no setting of l2", "--search-steps"]),
        ("attack --objective f0 --model x --out OUT", ["unknown objective 'f0': choose one of f1, f2"]),
        ("attack --box none --model x --out OUT", ["unknown box 'none': choose one of change_of_variables"]),
        ("attack --optimizer sgd --model x --out OUT", ["unknown optimizer 'sgd': choose one of gradient_descent"]),
        ("attack --attack l0 --starts 3 --model x --out OUT", ["--starts", "--radius"]),
        ("attack --confidence -3 --model x --out OUT", ["--confidence must be at least 0"]),
        ("attack --examples 0 --model x --out OUT", ["--examples must be at least 1, got 0"]),
        ("attack --examples 999 --data blobs --model TRAINED --out OUT", ["999", "30 test"]),
        ("attack --width 0 --examples 2 --data blobs --model TRAINED --out OUT", ["--width"]),
        ("attack --model nowhere --out OUT", ["no trained network in nowhere"]),
        ("attack --data blobs --examples 2 --model tests.lab.test_cli:broken --out OUT", ["KeyError", "weights"]),
        ("attack --seed -1 --data blobs --examples 2 --model TRAINED --out OUT", ["--seed", "-1"]),
        ("attack --steps 99999999999 --data blobs --examples 2 --model TRAINED --out OUT", ["--steps"]),
        ("train --seed 99999999999999999999 --data blobs", ["--seed"]),
        ("attack --model no.module:f --out OUT", ["--model no.module:f"]),
        ("attack --model tests.lab.test_cli:nothing --out OUT", ["NoneType", "cwjax.bind"]),
        ("attack --data mnist5k --model TRAINED --out OUT", ["refused an input of shape"]),
        (
            "attack --data blobs --examples 2 --model tests.lab.test_cli:probabilities --out OUT",
            ["probabilities", "softmax"],
        ),
        ("attack --model TRAINED --out /proc/nowhere", ["/proc/nowhere"]),
        ("demo --out /proc/nowhere", ["/proc/nowhere"]),
    ],
)
def test_a_mistake_is_one_line(arguments, words, capsys, tmp_path, trained):
    out = tmp_path / "out"
    names = {"OUT": out, "TRAINED": trained.folder}
    line = fails(capsys, *(names.get(argument, argument) for argument in arguments.split()))
    assert all(word in line for word in words)
    assert not out.exists()


def test_missing_data_is_one_line(capsys, tmp_path, monkeypatch):
    def gone(*_):
        raise data.MissingData("cifar10 is not in here: put cifar-10-binary.tar.gz there")

    monkeypatch.setattr(type(data.SOURCES["cifar10"]), "read", gone)
    assert "cifar-10-binary.tar.gz" in fails(capsys, "train", "--data", "cifar10", "--out", tmp_path)


def test_corrupted_weights_are_one_line(capsys, tmp_path):
    training.train(training.Training(data="blobs", epochs=1), tmp_path)
    [weights] = tmp_path.glob("*/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-5])
    line = fails(
        capsys, "attack", "--data", "blobs", "--examples", 2, "--model", weights.parent, "--out", tmp_path / "out"
    )
    assert "weights.safetensors is corrupted" in line


def test_stopping_an_attack_leaves_nothing_half_written(tmp_path, trained, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cw.metrics, "norms", stop)
    with pytest.raises(SystemExit) as stopped:
        call("attack", "--data", "blobs", "--model", trained.folder, "--examples", 2, "--out", tmp_path, *QUICK)
    assert stopped.value.code == 130
    assert list(tmp_path.iterdir()) == []
    assert np.char.find(capsys.readouterr().err, "stopped") >= 0


def test_compiled_programs_are_kept(kept, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(cli.compiling.VARIABLE, str(tmp_path))
    fails(capsys, "attack", "--model", tmp_path / "none", "--out", tmp_path / "out", "--data", "blobs")
    assert kept == [tmp_path]
