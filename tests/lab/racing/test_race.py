"""`cwjax race`."""

import re

import pyarrow.parquet as pq
import pytest

from cwjax.lab import cli
from cwjax.lab.racing import entries


def test_the_command_races(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.compiling, "keep", lambda folder: None)
    model = "tests.lab.called:brightness"
    told = ["--norm", "l2", "--attack", "ddn", "fmn", "--budgets", "20", "--examples", "4", "--targets", "next"]
    cli.main(["race", "--model", model, "--data", "blobs", *told, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert f"Standings: {tmp_path / 'race.md'} has those of all budgets" in said
    assert "L2 on tests.lab.called:brightness, 20 propagations" in said
    [headings] = [line.strip("┃").split("┃") for line in said.splitlines() if "┃" in line and "optimality" in line]
    assert [each.strip() for each in headings][:4] == ["#", "attack", "success %", "mean over common"]
    assert "Next:      the same command with more" in said
    assert "Rows are in the order of optimality. 1: on every example as near as" in said
    assert f"{model}, l2, next, 20 propagations: ddn: compiling, then running" in said
    assert f"{model}, l2, next, 20 propagations: ddn: " in said
    assert pq.read_table(tmp_path / "race.parquet").num_rows == 8


def test_help_lists_every_attack_by_norm(capsys):
    with pytest.raises(SystemExit):
        cli.main(["race", "--help"])
    said = " ".join(re.sub("[│╭╰]", " ", capsys.readouterr().out).split())
    for norms in ("l2", "linf", "l1", "l0, l0_elements"):
        [told] = re.findall(rf"(?:left out:|\.) {norms}: ([\w, ]+)\.", said)
        own = [name for name, each in entries.OURS.items() if set(norms.split(", ")) <= set(each.norms)]
        assert told.split(", ") == own


def test_a_model_whose_card_names_no_data_has_to_be_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.compiling, "keep", lambda folder: None)
    with pytest.raises(SystemExit):
        cli.main(["race", "--model", "tests.lab.called:brightness", "--out", str(tmp_path)])
    assert "say which with --data" in capsys.readouterr().err
