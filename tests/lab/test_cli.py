"""The command line: what it writes, what it says, and that every mistake is one line and exit code 2."""

import importlib.metadata
import re
import shutil
import subprocess
import sys

import jax.numpy as jnp
import pyarrow.parquet as pq
import pytest

import cwjax as cw
from cwjax.lab import cli, data, start
from cwjax.lab.console import spelling
from tests.lab.called import QUICK, call, fails

pytestmark = pytest.mark.usefixtures("kept")


def probabilities():
    """A model that forgot to leave the softmax out."""
    return cw.bind(lambda params, x: jnp.ones((x.shape[0], 3)) / 3)


def nothing():
    return None


def broken():
    """A function that fails in a way of its own."""
    raise KeyError("weights")


def test_without_the_lab_the_command_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)
    monkeypatch.delitem(sys.modules, "cwjax.lab.cli")
    with pytest.raises(SystemExit, match=r"^cwjax: the command line needs tyro, .*: pip install \"cwjax\[demo\]\"$"):
        start.main()


@pytest.mark.long
def test_a_reader_that_has_enough_is_no_error():
    program = [sys.executable, "-c", "from cwjax.lab.start import main; main()", "attack", "--help"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()  # as `head` does
        said = process.stderr.read()
    assert (process.returncode, said) == (141, "")


def test_train_then_attack_then_read(tmp_path, capsys):
    call(
        "train",
        "--data",
        "blobs",
        "--recipe",
        "paper_mnist",
        "--net",
        "mnist_dense",
        "--epochs",
        6,
        "--out",
        tmp_path / "models",
    )
    said = capsys.readouterr().out
    assert "right on the blobs test images" in said
    [folder] = (tmp_path / "models").iterdir()
    assert str(folder) in said
    out = tmp_path / "run"
    where = ["--data", "blobs", "--model", folder, "--examples", 3, "--targets", "2", "--out", out]
    call("attack", *where, "--no-checks", *QUICK)
    said = capsys.readouterr().out
    assert f"Report: {out / 'report.html'}" in said
    names = {"report.html", "report.md", "results.parquet", "adversarial.npz", "run.json", "figures"}
    assert names == {path.name for path in out.iterdir()}
    table = pq.read_table(out / "results.parquet").to_pandas()
    assert table.target.tolist() == [2, 2, 2]
    assert 2 not in table.label.tolist()
    assert "blobs" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["train"],
        ["attack"],
        ["demo"],
        ["race"],
        ["verify"],
        ["results"],
        ["sweep"],
        ["report"],
        ["cover"],
        ["generate"],
    ],
)
def test_help_is_there_and_ends_well(command, capsys):
    with pytest.raises(SystemExit) as stop:
        call(*command, "--help")
    assert not stop.value.code
    said = capsys.readouterr().out
    assert "usage: cwjax" in said
    assert command == ["demo"] or re.search(
        rf"^ *cwjax {' '.join(command)}.* --|^ *cwjax {' '.join(command)} runs/", said, re.M
    )


@pytest.mark.parametrize("command", ["attack", "sweep", "train", "report", "results", "cover", "demo"])
def test_help_says_what_holds_for_what_is_left_out(command, capsys):
    with pytest.raises(SystemExit):
        call(command, "--help")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "None" not in said
    assert "(default: )" not in said
    if command in ("attack", "sweep"):
        assert "(default: 10000 (l2, l1), 1000 (l0, linf, lbfgs), 300 (fast_l2, fast_l1, fast_linf, fast_l0))" in said
        assert "(default: f6 (l2, l1, l0, linf), f1 (lbfgs))" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("attack", ["attack needs --model and --out, for instance: cwjax attack --model zoo:mnist_cnn "]),
        ("attack --model x", ["attack needs --out, for instance: "]),
        ("verify", ["verify needs FOLDER, for instance: cwjax verify runs/first"]),
        ("atack", ["no command atack: did you mean attack? Commands: attack, verify"]),
        (
            "attack --chunk 5 --count=4 --target 7 --vebose",
            [
                "attack has no --chunk (`cwjax sweep` has it), and no --count (it is --examples here), and no --target "
                "(did you mean --targets?), and no --vebose: see `cwjax attack --help`"
            ],
        ),
        ("attack --attack fats_linf --model x --out OUT", ["'fats_linf': did you mean fast_linf? choose one of l2"]),
        ("attack --attack fmn --model x --out OUT", ["--attack fmn is for Python", "`cwjax race --attack fmn`"]),
        (
            "attack --model mnist_cnn --out OUT",
            ["no folder mnist_cnn; a network that comes", "zoo:mnist_cnn"],
        ),
        ("verify nowhere", ["there is no folder nowhere"]),
        ("results nowhere", ["there is no folder nowhere"]),
        ("report nowhere", ["there is no folder nowhere"]),
        ("generate --system deptest --model x --out OUT", ["'deptest': did you mean deeptest?"]),
        ("train --epochs many", ["--epochs", "many"]),
        ("train --epochs 0 --data blobs", ["--epochs must be at least 1"]),
        ("train --data mnist6k", ["mnist6k", "mnist5k, mnist"]),
        ("train --data blobs --net vgg", ["vgg", "mnist_cnn, cifar_cnn"]),
        ("train --recipe mine", ["mine", "report, paper_mnist"]),
        ("train --lr 0.1", ["--lr"]),
        ("attack --targets some --model x --out OUT", ["some", "untargeted", "or the number of a class"]),
        ("attack --targets 3 --data blobs --model TRAINED --out OUT", ["--targets 3 is no class of blobs", "0 to 2"]),
        (
            "attack --targets 2 --examples 25 --data blobs --model TRAINED --out OUT",
            ["25 is more than the 20 test images of blobs of other classes than 2"],
        ),
        ("sweep --targets some --model x --out OUT", ["some", "or the number of a class"]),
        ("race --targets best --model TRAINED --data blobs --out OUT", ["best", "next, or the number of a class"]),
        (
            "cover --model x --suite nowhere --out OUT",
            ["--suite nowhere: there is no such folder; --suite takes folders"],
        ),
        ("attack --model x --mask nowhere.npy --out OUT", ["--mask nowhere.npy: there is no such file"]),
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
        ("attack --model nowhere --out OUT", ["there is no folder nowhere"]),
        ("attack --data blobs --examples 2 --model tests.lab.test_cli:broken --out OUT", ["KeyError", "weights"]),
        ("attack --seed -1 --data blobs --examples 2 --model TRAINED --out OUT", ["--seed", "-1"]),
        ("attack --steps 99999999999 --data blobs --examples 2 --model TRAINED --out OUT", ["--steps"]),
        ("train --seed 99999999999999999999 --data blobs", ["--seed"]),
        ("attack --model no.module:f --out OUT", ["--model no.module:f"]),
        ("attack --model tests.lab.test_cli:nothing --out OUT", ["NoneType", "cwjax.bind"]),
        (
            "attack --data cifar10_sample --model TRAINED --out OUT",
            ["does not take the images [32, 32, 3] of --data cifar10_sample: it takes [16, 16, 1]"],
        ),
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


def test_the_version_is_told(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cwjax", "--version"])
    start.main()
    assert capsys.readouterr().out == f"cwjax {importlib.metadata.version('cwjax')}\n"


def test_what_a_misspelling_is_compared_with_is_what_there_is():
    assert set(spelling.COMMANDS) == set(cli.COMMANDS)
    assert {"model", "out", "steps", "only-correct", "no-only-correct"} <= spelling.options(cli.COMMANDS["attack"])


@pytest.mark.long
def test_a_misspelt_command_does_not_wait_for_the_lab():
    program = "import sys\nfrom cwjax.lab.start import main\ntry:\n  main()\nfinally:\n  print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, "atack"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "did you mean attack?" in done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"tyro", "rich", "pyarrow", "matplotlib", "flax"}


def test_missing_data_is_one_line(capsys, tmp_path, monkeypatch):
    def gone(*_):
        raise data.MissingData("cifar10 is not in here: put cifar-10-binary.tar.gz there")

    monkeypatch.setattr(type(data.SOURCES["cifar10"]), "read", gone)
    assert "cifar-10-binary.tar.gz" in fails(capsys, "train", "--data", "cifar10", "--out", tmp_path)


def test_corrupted_weights_are_one_line(capsys, tmp_path, trained):
    weights = shutil.copytree(trained.folder, tmp_path / "copy") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    line = fails(
        capsys, "attack", "--data", "blobs", "--examples", 2, "--model", weights.parent, "--out", tmp_path / "out"
    )
    assert "weights.safetensors is corrupted" in line


def test_compiled_programs_are_kept(kept, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(cli.compiling.VARIABLE, str(tmp_path))
    fails(capsys, "attack", "--model", tmp_path / "none", "--out", tmp_path / "out", "--data", "blobs")
    assert kept == [tmp_path]
