"""Tasks that are no classifiers, through the whole command line: attacked, reported, verified, swept."""

import numpy as np
import pyarrow.parquet as pq
import pytest

import cwjax as cw
from cwjax.lab.attacking import runs
from cwjax.lab.files import compiling
from cwjax.lab.sweeps import results
from cwjax.lab.verifying import verifying
from tests.lab.called import call, fails

CALLED = "tests.lab.called"
FEW = ["--steps", "30", "--no-checks"]
MORE = {"spoken": ["--steps", "100", "--confidence", "2"]}  # that a beam search agrees
EXAMPLES = {"corners": 12, "weighed": 6, "spoken": 5}


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """Nothing is kept of what these tests compile."""
    monkeypatch.setattr(compiling, "keep", lambda folder: None)


def attacked(name, out, *more):
    call(
        "attack",
        "--model",
        f"{CALLED}:{name}",
        "--out",
        out,
        "--examples",
        EXAMPLES[name],
        *FEW,
        *MORE.get(name, ()),
        *more,
    )
    return pq.read_table(out / "results.parquet").to_pydict()


@pytest.mark.parametrize(
    ("name", "attack", "more"),
    [
        ("corners", "fast_l2", ["--rounded"]),
        pytest.param("weighed", "fast_l2", ["--precision", "bfloat16"], marks=pytest.mark.long),
        pytest.param("spoken", "fast_linf", [], marks=pytest.mark.long),
        pytest.param("weighed", "fast_l0", [], marks=pytest.mark.long),
    ],
)
def test_a_task_is_attacked_reported_and_verified(name, attack, more, tmp_path, capsys):
    rows = attacked(name, tmp_path, "--attack", attack, *more)
    assert all(rows["success"])
    assert rows["clean_prediction"] == [0] * EXAMPLES[name]
    assert rows["prediction"] == [1] * EXAMPLES[name]
    assert all(before != after for before, after in zip(rows["clean_says"], rows["says"], strict=True))
    if name == "spoken":
        assert rows["wanted"] == rows["says"]
    page = (tmp_path / "report.md").read_text()
    assert "## What the model says" in page
    assert f"| 0 | {rows['wanted'][0]} | {rows['clean_says'][0]} | {rows['says'][0]} |" in page
    html = (tmp_path / "report.html").read_bytes()
    call("report", tmp_path)
    assert (tmp_path / "report.html").read_bytes() == html  # from the folder alone
    call("verify", tmp_path)
    assert f"{EXAMPLES[name]} of {EXAMPLES[name]} rows agree" in capsys.readouterr().out
    found = pq.read_table(tmp_path / verifying.FILE).to_pydict()
    np.testing.assert_allclose(found["found_margin"], rows["margin"], rtol=1e-3, atol=1e-4)


@pytest.mark.long
def test_what_may_not_change_of_a_task_does_not(tmp_path):
    attacked("weighed", tmp_path, "--attack", "fast_linf")
    [run], _ = runs.read(tmp_path)
    changed = run.adversarial != run.clean
    assert not changed[:, 0].any()
    assert changed[:, 1:].any()


def test_a_success_that_the_second_opinion_does_not_share_is_none(tmp_path, capsys, monkeypatch):
    attacked("spoken", tmp_path, "--attack", "fast_linf")
    monkeypatch.setattr(cw.objectives, "beam_search", lambda outputs: [0])
    with pytest.raises(SystemExit) as stop:
        call("verify", tmp_path)
    assert stop.value.code == 1
    assert "0 of 5 rows agree" in capsys.readouterr().out


def test_a_sweep_on_a_task_is_reported_and_verified(tmp_path, capsys):
    asked = ["--model", f"{CALLED}:corners", "--attack", "fast_l2", "--confidence", "0", "0.2"]
    call("sweep", *asked, *FEW, "--examples", "7", "--chunk", "4", "--out", tmp_path)
    table, missing = results.table(tmp_path)
    assert (len(table), missing.units) == (14, 0)
    rows = table.to_pydict()
    assert all(rows["success"])
    assert set(rows["data"]) == {f"task:{CALLED}:corners"}
    assert set(rows["objective"]) == {None}
    mean = {c: np.mean([d for d, at in zip(rows["l2"], rows["confidence"], strict=True) if at == c]) for c in (0, 0.2)}
    assert mean[0] < mean[0.2]
    call("report", tmp_path)
    assert "What the model says of some examples" in (tmp_path / "report.html").read_text()
    call("verify", tmp_path)
    assert "14 of 14 rows agree" in capsys.readouterr().out


@pytest.mark.long
def test_only_inputs_that_do_not_meet_their_goal_yet_are_attacked_where_that_is_asked(tmp_path, monkeypatch):
    from tests.lab import called

    def half_met():
        goal = called.corners().goal
        wanted = np.where(np.arange(12)[:, None] % 2, goal.wanted, -goal.wanted)  # even ones are met already
        return called.broken(goal=goal._replace(wanted=wanted))

    monkeypatch.setattr(called, "half_met", half_met, raising=False)
    out = {only: tmp_path / only for only in ("--only-correct", "--no-only-correct")}
    for only, folder in out.items():
        call(
            "attack",
            "--model",
            f"{CALLED}:half_met",
            "--examples",
            "4",
            "--attack",
            "fast_l2",
            *FEW,
            only,
            "--out",
            folder,
        )
    index = {only: pq.read_table(folder / "results.parquet")["index"].to_pylist() for only, folder in out.items()}
    assert index == {"--only-correct": [1, 3, 5, 7], "--no-only-correct": [0, 1, 2, 3]}
    page = (out["--no-only-correct"] / "report.md").read_text()
    assert "2 of the 4 inputs met their goal before any attack" in page
    assert "| met before |" in page
    assert "misclassified" not in page.lower()


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--objective", "f3"], "--objective f3 is for classes: the task 'bright corners' has an objective of its own"),
        (["--targets", "random"], "--targets random is for classes: the task 'bright corners' brings its own goals"),
        (["--data", "mnist5k"], "--data mnist5k does not go with --model tests.lab.called:corners: its task brings"),
        (["--examples", "13"], "--examples 13 is more than the 12 test images of bright corners"),
    ],
)
@pytest.mark.parametrize("command", ["attack", "sweep"])
def test_what_is_for_classes_is_refused_of_a_task_in_one_line(command, more, what, tmp_path, capsys):
    if command == "sweep" and "--examples" in more:
        what = what.replace("task:tests.lab.called:corners", "bright corners")
    asked = ["--model", f"{CALLED}:corners", "--examples", "12", "--out", tmp_path / "run", *FEW]
    assert what in fails(capsys, command, *asked, *more)


def test_a_confidence_is_refused_where_the_objective_of_the_task_is_fixed(tmp_path, capsys):
    asked = ["--model", f"{CALLED}:weighed", "--examples", "6", "--out", tmp_path / "run", *FEW, "--confidence", "1"]
    assert "the objective of the task 'a weighted mean' is fixed at 0.01" in fails(capsys, "attack", *asked)


def test_a_fixed_objective_goes_with_every_attack_and_its_own_confidence(tmp_path, capsys):
    rows = attacked(
        "weighed", tmp_path, "--attack", "l0", "--confidence", "0.01", "--largest-c", "10", "--initial-c", "1"
    )
    assert any(rows["success"])
    call("verify", tmp_path)
    assert "6 of 6 rows agree" in capsys.readouterr().out
    [run], _ = runs.read(tmp_path)
    assert run.settings["confidence"] == pytest.approx(0.01)


def test_a_race_is_for_classes(tmp_path, capsys):
    line = fails(capsys, "race", "--model", f"{CALLED}:corners", "--out", tmp_path)
    assert "is the task 'bright corners': races are for models that return classes" in line
