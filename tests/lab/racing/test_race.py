"""`cwjax race`."""

import pyarrow.parquet as pq
import pytest

from cwjax.lab import cli


def test_the_command_races(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.compiling, "keep", lambda folder: None)
    model = "tests.lab.called:brightness"
    told = ["--norm", "l2", "--attack", "ddn", "fmn", "--budgets", "20", "--examples", "4", "--targets", "next"]
    cli.main(["race", "--model", model, "--data", "blobs", *told, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert f"Standings: {tmp_path / 'race.md'} has those of all budgets" in said
    assert "L2 on tests.lab.called:brightness, 20 propagations" in said
    [headings] = [line.strip("┃").split("┃") for line in said.splitlines() if "optimality" in line]
    assert [each.strip() for each in headings][:4] == ["#", "attack", "success %", "mean over common"]
    assert "Next:      the same command with more" in said
    assert f"{model}, l2, next, 20 propagations: ddn: " in said
    assert pq.read_table(tmp_path / "race.parquet").num_rows == 8


def test_a_model_whose_card_names_no_data_has_to_be_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.compiling, "keep", lambda folder: None)
    with pytest.raises(SystemExit):
        cli.main(["race", "--model", "tests.lab.called:brightness", "--out", str(tmp_path)])
    assert "say which with --data" in capsys.readouterr().err
