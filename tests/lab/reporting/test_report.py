"""`cwjax report`."""

import pytest

from cwjax.lab import cli
from tests.lab.sweeps import made


@pytest.fixture
def three(tmp_path):
    return tmp_path, made.three(tmp_path)


def test_the_command_takes_a_sweep(three, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.compiling, "keep", lambda folder: None)
    folder, _ = three
    cli.main(["report", str(folder), "--out", str(tmp_path / "elsewhere")])
    assert f"Report: {tmp_path / 'elsewhere' / 'report.html'}" in capsys.readouterr().out
    assert not (folder / "report.html").exists()
    with pytest.raises(SystemExit):
        cli.main(["report", str(tmp_path / "nothing")])
    assert capsys.readouterr().err.startswith(f"cwjax: error: there is no folder {tmp_path / 'nothing'}")
    assert not (tmp_path / "nothing").exists()
