"""A folder holds one run: what refuses another, and what is removed with the earlier one."""

import pytest

from cwjax.lab.attacking import demo, runs
from cwjax.lab.files import outputs, store
from tests.lab.called import fails

pytestmark = pytest.mark.usefixtures("kept")

FILE_OF = {command: file for file, command in outputs.OF_COMMAND.items()}


@pytest.mark.parametrize("held", FILE_OF)
@pytest.mark.parametrize("resumed", [False, True])
def test_another_run_is_refused_and_a_commands_own_only_where_it_is_not_resumed(tmp_path, held, resumed):
    outputs.check(tmp_path, "sweep")
    store.write_json(tmp_path / FILE_OF[held], {})
    if held == "sweep" and resumed:
        outputs.check(tmp_path, "sweep", resumed=True)
        return
    with pytest.raises(ValueError, match=rf"^--out {tmp_path} holds a run of `cwjax {held}`: name another folder$"):
        outputs.check(tmp_path, "sweep", resumed=resumed)
    with pytest.raises(ValueError, match="or say --overwrite"):
        outputs.check(tmp_path, "sweep", resumed=resumed, overwrite=False)
    outputs.check(tmp_path, "sweep", resumed=resumed, overwrite=True)


def test_all_of_an_earlier_run_goes_and_nothing_else(tmp_path):
    mine = ["notes.txt", "figures/mine.svg", "images/mine/a.png", "l2.txt"]
    ours = ["results.parquet", "verification.parquet", "diagnosis.json", "figures/l2-success.png"]
    ours += ["images/l2/a.png", "l2.npz", "report.html", "run.json"]
    for name in [*mine, *ours]:
        store.make_folder((tmp_path / name).parent)
        (tmp_path / name).write_text("")
    outputs.forget(tmp_path, ["l2"])
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(mine)


def test_where_there_was_no_run_nothing_is_removed(tmp_path):
    for name in ("results.parquet", "report.html"):
        (tmp_path / name).write_text("somebody else's")
    outputs.forget(tmp_path, ["l2"])
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("command", ["attack", "cover", "sweep", "generate --system deeptest", "race", "demo"])
def test_every_command_that_writes_a_folder_refuses_that_of_another(command, tmp_path, capsys):
    held = "sweep" if command == "attack" else "attack"
    store.write_json(tmp_path / FILE_OF[held], {})
    model = [] if command == "demo" else ["--model", "nowhere"]
    line = fails(capsys, *command.split(), *model, "--out", tmp_path)
    assert f"--out {tmp_path} holds a run of `cwjax {held}`: name another folder" in line
    assert ("--overwrite" in line) == (command in ("attack", "cover", "demo"))


def test_a_report_does_not_go_into_the_folder_of_another_run(tmp_path, capsys):
    for name in ("mine", "other"):
        store.write_json(tmp_path / name / "run.json", {})
    line = fails(capsys, "report", tmp_path / "mine", "--out", tmp_path / "other")
    assert "holds a run of `cwjax attack`" in line


def test_the_demo_knows_itself(tmp_path):
    assert not demo._is_one(tmp_path)
    store.write_json(tmp_path / runs.FILE, {"about": {"configuration": demo.CONFIGURATION}})
    assert demo._is_one(tmp_path)
    store.write_json(tmp_path / runs.FILE, {"about": {"configuration": {"data": "mnist5k"}}})
    assert not demo._is_one(tmp_path)


def test_a_folder_without_results_says_what_is_missing(tmp_path, capsys):
    assert f"no sweep in {tmp_path} (sweep.json is missing): run `cwjax sweep" in fails(capsys, "results", tmp_path)
    store.write_json(tmp_path / "run.json", {})
    line = fails(capsys, "results", tmp_path)
    assert f"{tmp_path / 'results.parquet'} cannot be read" in line
    assert "run it again" in line


def test_files_of_others_are_noted_and_those_of_a_run_that_was_stopped_are_not(tmp_path, capsys):
    (tmp_path / "units").mkdir()
    outputs.check(tmp_path, "sweep", resumed=True)
    assert not capsys.readouterr().out
    (tmp_path / "notes.txt").write_text("")
    outputs.check(tmp_path, "sweep", resumed=True)
    assert f"{tmp_path} holds other files (notes.txt): they stay." in capsys.readouterr().out.replace("\n", " ")
