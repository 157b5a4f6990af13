"""`cwjax sweep` and `cwjax results`: what they find, what they say, and that every mistake is one line."""

import dataclasses
import itertools
import json
import re
import sys
import types

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cwjax.lab import cli, data
from cwjax.lab.sweeps import commands, grid, results, units, working
from tests.lab.sweeps import made, small

MODEL = f"{small.HERE}:affine"
WHERE = ["--model", MODEL, "--data", "cifar10_sample", "--attack", "fast_l2", "--steps", "10", "--examples", "12"]
WHERE += ["--no-checks"]

pytestmark = pytest.mark.xdist_group("sweep commands")  # which share what is slow to make


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Programs are not kept, and the command `cwjax` is the one of this process."""
    monkeypatch.setattr(cli.compiling, "keep", lambda folder: None)


def call(*arguments) -> None:
    cli.main([str(argument) for argument in arguments])


def fails(capsys, code: int, *arguments) -> str:
    """What a command says that ends with this code."""
    with pytest.raises(SystemExit) as stop:
        call(*arguments)
    assert stop.value.code == code
    return capsys.readouterr().err.strip()


def test_a_sweep_is_done_once_and_can_be_asked_about(tmp_path, capsys, monkeypatch):
    file, out = tmp_path / "grid.toml", tmp_path / "out"
    file.write_text(
        f'model = "{MODEL}"\ndata = "cifar10_sample"\nattack = "fast_l2"\nsteps = 10\nexamples = 12\nchunk = 5\n'
    )
    axes = ["--confidence", 0, 2, "--seed", 0, 1]
    call("sweep", file, *axes, "--out", out, "--dry-run")
    said = " ".join(capsys.readouterr().out.split())
    assert not out.exists()
    assert said.count("≤ 120 ") == 4
    assert "at most 480 gradients: they take" in said
    assert "compiling and checks included" in said
    call("sweep", file, *axes, "--no-checks", "--out", out, "--dry-run")
    assert "here, compiling included" in " ".join(capsys.readouterr().out.split())
    axes += ["--no-checks"]
    call("sweep", file, *axes, "--out", out)
    said = capsys.readouterr().out
    assert f"4 configurations, 12 units, of which 0 are done: {out}" in said
    assert "sweep: rows 48/48 after" in said
    assert "units 12/12" in said
    assert f"Table: {out / 'results.parquet'}" in said
    table = pq.read_table(out / "results.parquet").to_pandas()
    assert table["row"].tolist() == list(range(48))
    assert table.seed.tolist() == [0] * 24 + [1] * 24
    assert table.confidence.tolist() == ([0.0] * 12 + [2.0] * 12) * 2
    assert table["index"].tolist() == table["index"][:12].tolist() * 4
    assert table.search_steps.isna().all()
    assert table.configuration.nunique() == 4
    assert table.unit.nunique() == 12
    assert table.margin[table.success & (table.confidence == 2)].min() >= 2

    monkeypatch.setattr(working, "attacked", None)  # nothing is left to do
    call("sweep", file, *axes, "--out", out)
    assert "4 configurations, 12 units, of which 12 are done" in capsys.readouterr().out
    call("sweep", file, *axes, "--out", out, "--dry-run")
    assert "at most 0 gradients" in capsys.readouterr().out
    call("results", out, "select confidence, count(*) as n, max(margin) as most from results group by all order by 1")
    said = capsys.readouterr().out
    assert [line.split("│")[1:3] for line in said.splitlines() if "24" in line] == [
        [" 0          ", " 24 "],
        [" 2          ", " 24 "],
    ]
    pd.testing.assert_frame_equal(results.table(out)[0].to_pandas(), table)


def test_images_that_the_model_gets_wrong_can_be_left_out(tmp_path, capsys):
    """Units cut the images that are left, and the next ones take the place of those left out."""
    dataset = data.load("cifar10_sample", "test")
    model = small.affine()
    right = np.asarray(model.apply(model.params, dataset.images)).argmax(1) == dataset.labels
    assert 3 <= right.sum() < 26
    count = int(right.sum())
    sweep = dataclasses.replace(small.SWEEP, only_correct=True, examples=count, chunk=2, confidence=(1.0,))
    plan = small.planned(sweep)
    working.work(tmp_path, plan.all)
    small.finished(tmp_path, plan)
    table = results.table(tmp_path)[0].to_pandas()
    assert table["index"].tolist() == dataset.index[right].tolist()
    assert (table.clean_prediction == table.label).all()
    assert table.only_correct.all()
    more = ["--examples", count + 1, "--only-correct", "--out", tmp_path / "more"]
    line = fails(capsys, 2, "sweep", "--model", MODEL, "--data", "cifar10_sample", *more)
    assert f"asks for more than the {count} test images of cifar10_sample that the model gets right" in line


def test_a_unit_is_named_by_what_decides_it(tmp_path, trained, monkeypatch):
    def digest(**change):
        sweep = {"model": (MODEL,), "data": ("cifar10_sample",), "examples": 4, "chunk": 4} | change
        return units.plan(grid.read(None, grid.Sweep(**sweep))).all[0].digest

    changes = [
        {},
        {"model": (f"{small.HERE}:poisoned",)},
        {"examples": 3},
        {"attack": ("l1",)},
        {"confidence": (1.0,)},
        {"targets": ("random",)},
        {"seed": (1,)},
        {"precision": ("bfloat16",)},
        {"rounded": True},
    ]
    digests = [digest(**change) for change in changes]
    assert len(set(digests)) == len(digests)
    assert digest(width=3) == digest(confidence=(0.0,)) == digests[0]
    monkeypatch.setattr(units, "code", lambda: "other sources")
    assert digest() != digests[0]


@pytest.mark.long
def test_the_same_weights_elsewhere_are_the_same_model(tmp_path, trained):
    (tmp_path / "moved").symlink_to(trained.folder)
    names = (str(trained.folder), str(tmp_path / "moved"))
    sweep = grid.Sweep(model=names, data=("blobs",), attack=("fast_l2",), steps=(4,), examples=4)
    plan = small.planned(sweep)
    assert len(plan.configurations) == 2
    assert len(plan.all) == 1
    working.work(tmp_path / "out", plan.all)
    small.finished(tmp_path / "out", plan)
    table = results.table(tmp_path / "out")[0].to_pandas()
    assert table.model.tolist() == [names[0]] * 4 + [names[1]] * 4


def test_ctrl_c_ends_with_the_command_that_goes_on(tmp_path, capsys, monkeypatch):
    attacked, calls = working.attacked, itertools.count()

    def stop(unit, watch):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return attacked(unit, watch)

    monkeypatch.setattr(working, "attacked", stop)
    out = tmp_path / "a sweep"
    command = ["sweep", *WHERE, "--chunk", "5", "--out", str(out)]
    said = fails(capsys, 130, *command)
    assert "cwjax: stopped: 2 of 3 units are done and kept. Go on with:" in said
    assert said.splitlines()[-1] == f"cwjax {' '.join(command[:-1])} '{out}'"
    assert not list((out / "leases").glob("[!.]*"))
    assert len(list((out / "units").iterdir())) == 2
    assert not (out / "results.parquet").exists()
    call(*command)
    assert "3 units, of which 2 are done" in capsys.readouterr().out


def test_what_is_done_can_be_asked_about_before_the_rest(tmp_path, capsys, monkeypatch):
    attacked, calls = working.attacked, itertools.count()

    def moody(unit, watch):
        if next(calls) == 1:
            raise RuntimeError("no luck today")
        return attacked(unit, watch)

    monkeypatch.setattr(working, "attacked", moody)
    said = fails(capsys, 2, "sweep", *WHERE, "--chunk", "5", "--out", tmp_path)
    assert "1 of 3 units failed, the first for RuntimeError: no luck today" in said
    assert "the same command tries these again" in said
    call("results", tmp_path)
    said = capsys.readouterr().out
    assert "1 of 3 units are not done yet: their rows are not in this table.\n" in said

    # What varies in the sweep as it is planned is told, though one configuration alone is done; another is noted.
    monkeypatch.setattr(working, "attacked", lambda unit, watch: 1 / 0)
    with pytest.raises(SystemExit):
        call("sweep", *WHERE, "--chunk", "5", "--confidence", "0", "5", "--out", tmp_path)
    assert f"{tmp_path} holds another sweep: its units stay, and the table becomes that" in capsys.readouterr().out
    call("results", tmp_path)
    said = capsys.readouterr().out
    [headings] = [line for line in said.splitlines() if "rows" in line and "┃" in line]
    assert [each.strip() for each in headings.split("┃")[1:4]] == ["#", "confidence", "rows"]
    assert "4 of 6 units are not done yet" in said
    assert said.endswith("Nothing is done of 2 (confidence 5).\n")


def test_results_show_what_the_checks_said_by_the_names_of_the_table(tmp_path, capsys):
    def told(verdict, name, note):
        check = {"verdict": verdict, "number": 0.5, "threshold": 0.05, "what": "a share", "note": note, "source": "us"}
        check |= {"advice": "More steps.", "rows": [0], "index": [7]}
        return {"verdict": verdict, "line": f"{verdict}.", "examples": 5, "checks": {name: check}}

    asked = [made.configuration(steps=10), made.configuration(steps=20), made.configuration("fast_linf")]
    fail = told("fail", "weaker_wins", "2 of 5: images 7 and 8")
    made.sweep(tmp_path, asked, told={0: fail, 2: told("pass", "second_look", "")})
    commands.answer(tmp_path)
    said = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in said if line[:1] in "│┃"]
    assert cells[0][:4] == ["#", "attack", "steps", "rows"]
    assert cells[0][-2:] == ["checks", "norm"]
    assert [row[:2] for row in cells[1:]] == [["1", "fast_l2"], ["2", "fast_l2"], ["3", "fast_linf"]]
    assert [row[-2:] for row in cells[1:]] == [["fail: weaker_wins", "L2"], ["", "L2"], ["pass", "L∞"]]
    assert said[-3:] == [
        "FAIL: do not believe these numbers yet: 1 of 2 configurations: 1 (fast_l2, steps 10).",
        "  1: weaker_wins (2 of 5: images 7 and 8). More steps.",
        "PASS: nothing speaks against these numbers: 1 of 2 configurations: 3 (fast_linf, steps 300).",
    ]
    commands.answer(tmp_path, "select count(*) as n from results")
    assert "checks" not in capsys.readouterr().out


def test_a_tracker_is_told_of_every_unit(tmp_path, monkeypatch):
    told, ended = [], []
    run = types.SimpleNamespace(log=told.append, finish=lambda: ended.append(True))
    begun = {}
    module = types.SimpleNamespace(init=lambda **options: begun.update(options) or run)
    monkeypatch.setitem(sys.modules, "trackio", module)
    call("sweep", *WHERE, "--chunk", "5", "--out", tmp_path / "mine", "--track", "trackio")
    assert (begun["project"], begun["name"]) == ("cwjax", "mine")
    [(digest, axes)] = begun["config"].items()
    assert axes["steps"] == 10
    assert [line[f"{digest}/rows"] for line in told] == [5, 5, 2]
    assert [line[f"{digest}/units"] for line in told] == [1, 2, 3]
    assert ended == [True]


def test_what_happened_is_in_the_log(tmp_path):
    call("sweep", *WHERE, "--chunk", "5", "--out", tmp_path)
    [file] = (tmp_path / "events").glob("*.jsonl")
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [event["event"] for event in events] == ["began", "done"] * 3
    assert [event["rows"] for event in events if event["event"] == "done"] == [5, 5, 2]
    assert all({"time", "host", "process", "unit"} <= set(event) for event in events)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("sweep --out OUT", ["a sweep needs a --model"]),
        (
            "sweep nowhere.toml --out OUT",
            ["there is no file nowhere.toml: write", "give the axes as options, such as --attack fast_l2"],
        ),
        (f"sweep --model {MODEL} --data nothing --out OUT", ["no data is called 'nothing'"]),
        (
            f"sweep --model {MODEL} --data cifar10_sample --examples 101 --out OUT",
            ["--examples 101", "100 test images"],
        ),
        pytest.param(
            f"sweep --model {MODEL} --data mnist5k --out OUT",
            ["refused an input of shape [28, 28, 1]"],
            marks=pytest.mark.long,  # as of `attack`
        ),
        (f"sweep --model {MODEL} --launcher slurm --jobs 0 --out OUT", ["--jobs"]),
        (f"sweep --model {MODEL} --confidence many --out OUT", ["--confidence", "many"]),
        (f"sweep --model {MODEL} --data cifar10_sample --attack l3 --out OUT", ["unknown attack 'l3'"]),
        ("sweep --model nowhere --out OUT", ["there is no folder nowhere"]),
        (f"sweep --model {MODEL} --out /proc/nowhere", ["/proc/nowhere"]),
        ("results OUT", ["there is no folder OUT"]),
    ],
)
def test_a_mistake_is_one_line(arguments, words, tmp_path, capsys):
    out = str(tmp_path / "out")
    line = fails(capsys, 2, *(out if argument == "OUT" else argument for argument in arguments.split()))
    assert len(line.splitlines()) == 1
    assert line.startswith("cwjax: error: ")
    assert all(word.replace("OUT", out) in line for word in words)


def test_a_question_that_duckdb_does_not_understand_is_one_line(tmp_path, capsys):
    call("sweep", *WHERE, "--chunk", "5", "--out", tmp_path)
    capsys.readouterr()
    said = fails(capsys, 2, "results", tmp_path, "select nonsense from results")
    assert "DuckDB: " in said
    assert said.endswith(f'; all columns: cwjax results {tmp_path} "describe results"')
