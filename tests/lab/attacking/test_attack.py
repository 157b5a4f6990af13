"""`cwjax attack`: what it writes, what it says, and that it leaves nothing half written."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cwjax as cw
from cwjax.evaluation.diagnosis.diagnose import CHECKS
from cwjax.lab import data
from cwjax.lab.attacking import advising, rows, runs
from cwjax.lab.attacking.attack import _summary
from cwjax.lab.console import progress
from tests.lab.called import QUICK, call, dim, fails
from tests.lab.conftest import canned
from tests.lab.reporting.made import make_run

pytestmark = pytest.mark.usefixtures("kept")


def test_a_users_own_model_can_be_attacked_and_the_result_is_checked(tmp_path, capsys):
    call(
        "attack",
        "--data",
        "blobs",
        "--model",
        "tests.lab.called:brightness",
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
    where = ["--data", "blobs", "--model", "tests.lab.called:brightness", "--examples", 3, "--out", tmp_path]
    for older in ("run.json", "verification.parquet", "diagnosis.json"):
        (tmp_path / older).write_text("{}")
    assert "name another folder, or say --overwrite" in fails(capsys, "attack", *where)
    more = [
        "--overwrite",
        "--attack",
        "linf",
        "lbfgs",
        "--objective",
        "f6",
        "--largest-c",
        50,
        "--rounded",
        "--no-checks",
        "--restored",
    ]
    call("attack", *where, *more, *QUICK[:2], "--initial-c", "1")
    said = capsys.readouterr().out
    assert "--largest-c goes to linf alone: it is no setting of lbfgs." in said
    assert "linf attack: objective f6, box change_of_variables, optimizer adam" in said
    assert not (tmp_path / "verification.parquet").exists()
    assert not (tmp_path / "diagnosis.json").exists()
    for text in (said, (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()):
        assert "Not checked (--no-checks): nothing says whether these numbers can be believed." in text
    table = pq.read_table(tmp_path / "results.parquet").to_pandas()
    assert table.attack.tolist() == ["linf"] * 3 + ["lbfgs"] * 3
    assert table.success.all()
    markdown = (tmp_path / "report.md").read_text()
    assert markdown.startswith("# L∞ and lbfgs attacks on blobs\n")
    assert "| largest_c | 50 | – |" in markdown
    assert "## Rounding to 8 bits" in markdown
    assert "## Undoing what is not needed" in markdown
    assert (table.undone <= table.changed).all()
    assert (table.distance <= table.unrestored_distance).all()
    page = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    call("report", tmp_path)
    assert (tmp_path / "report.html").read_bytes() == page


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
    several = [found("l2", "l2", [0, 1, 2]), found("fast_l2", "l2", [0, 1, 2])]
    assert printed(_summary(several, "a title"), monkeypatch, capsys, 40) == [
        ["attack", "rows", "success %", "mean L2", "median L2", "seconds without compiling"],
        ["L2", "3", "100.0", "1.333", "1.000", "61.50"],
        ["fast_l2", "3", "100.0", "1.333", "1.000", "61.50"],
    ]
    mixed = [found("l2", "l2", [0, 1, 5]), found("linf", "linf", [0, 1, 5])]
    assert printed(_summary(mixed, "a title"), monkeypatch, capsys, 40) == [
        [
            *("attack", "rows", "success %", "mean distance", "median distance", "misclassified"),
            *("mean without them", "norm", "seconds without compiling"),
        ],
        ["L2", "3", "100.0", "1.333", "1.000", "1", "2.000", "L2", "61.50"],
        ["L∞", "3", "100.0", "1.333", "1.000", "1", "2.000", "L∞", "61.50"],
    ]


def test_the_next_command_is_what_the_worst_checks_advise():
    run, diagnosis = found("l2", "l2", [0, 1, 2]), canned()
    [check] = [each for each in diagnosis.checks.values() if each.verdict == "fail"]
    box = "Try the box projected first (cwjax.boxes.projected, --box projected): … Give the attack more steps."
    search = "Give the search over c another first c or more search steps."
    offers = {
        ("Give the attack more steps.",): "--steps 40",
        ("Lower the learning rate.",): "",
        ("Report the rounded images (cwjax.discretised, --rounded), or …",): "--rounded",
        (search, box): "--search-steps 6 --box projected",
        ("Give the attack more steps.", "Give the attack more steps, until …"): "--steps 40",
    }
    settings = {"steps": 20, "search_steps": 3, "largest_c": None}
    for advice, offered in offers.items():
        checks = {f"check {place}": check._replace(advice=each) for place, each in enumerate(advice)}
        checks["warned"] = check._replace(verdict="warn", advice="Say --starts some.")
        told = diagnosis._replace(checks=checks)
        each = rows.Attacked("l2", settings, run.table, run.clean, run.adversarial, {}, told)
        assert advising.options([each], 20, 100) == offered
        assert advising.options([each._replace(diagnosis=None)], 20, 100) == ""


@pytest.mark.parametrize(
    ("examples", "most", "offered"),
    [(8, 800, "--examples 64"), (64, 800, "--examples 128"), (8, 20, "--examples 20"), (8, 8, "")],
)
def test_where_examples_are_too_few_to_tell_more_of_them_are_advised(examples, most, offered):
    run, diagnosis = found("l2", "l2", [0, 1, 2]), canned()
    check = next(iter(diagnosis.checks.values()))._replace(
        verdict="warn", number=0.1, threshold=0.25, advice="Attack more examples."
    )
    told = diagnosis._replace(checks={"too_short": check}, examples=examples)
    each = rows.Attacked("l2", {"steps": 20}, run.table, run.clean, run.adversarial, {}, told)
    assert advising.options([each], examples, most) == offered


def test_images_that_the_model_gets_wrong_are_counted_or_left_out(tmp_path, capsys):
    dataset = data.load("blobs", "test")
    right = np.asarray(dim().apply((), dataset.images)).argmax(1) == dataset.labels
    assert 4 <= right.sum() < 24
    where = ["--data", "blobs", "--model", "tests.lab.called:dim", "--no-checks", *QUICK]
    call("attack", *where, "--examples", 4, "--only-correct", "--out", tmp_path / "right")
    table = pq.read_table(tmp_path / "right" / "results.parquet").to_pandas()
    assert table["index"].tolist() == dataset.index[right][:4].tolist()
    assert (table.clean_prediction == table.label).all()
    assert "misclassified" not in capsys.readouterr().out
    line = fails(capsys, "attack", *where, "--examples", 30, "--only-correct", "--out", tmp_path / "none")
    assert f"--examples 30 asks for more than the {right.sum()} test images of blobs that the model gets right" in line


def test_only_the_elements_of_the_mask_change(tmp_path, capsys, few_checks):
    """Of an attack whose programs are several: the engine, the checks, the second look and the rounding."""
    file, mask = tmp_path / "upper.npy", np.arange(28)[:, None, None] < 9
    shape = data.load("blobs", "test").images.shape[1:]
    mask = mask[: shape[0]]
    np.save(file, mask)
    where = ["--data", "blobs", "--model", "tests.lab.called:brightness", "--examples", 3, "--mask", file]
    told = ["--attack", "l2", "--box", "projected", *QUICK, "--rounded", "--precision", "bfloat16"]
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


def test_stopping_an_attack_leaves_nothing_half_written(tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cw.metrics, "norms", stop)
    where = ["--data", "blobs", "--model", "tests.lab.called:brightness", "--out", tmp_path]
    with pytest.raises(SystemExit) as stopped:
        call("attack", *where, "--examples", 4, *QUICK)
    assert stopped.value.code == 130
    assert list(tmp_path.iterdir()) == []
    assert np.char.find(capsys.readouterr().err, "stopped") >= 0
