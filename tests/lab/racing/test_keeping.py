"""What is kept of a race runs again when what made it is another."""

import importlib.metadata

import numpy as np

from cwjax.lab.racing import contestants, entries, keeping, racing
from tests.lab.racing.made import a_subject, returning


def test_what_is_kept_runs_again_when_its_version_is_another(tmp_path, monkeypatch):
    ran = []

    def run(task):
        ran.append(importlib.metadata.version("cwjax"))
        return returning(np.roll(task.x, 1, 0))

    kinds = {"first": contestants.Contestant(("l2",), run, source="cwjax.attacks.fast.attacks")}
    settings = racing.Race(budgets=(8,), examples=3)
    for version in ("1", "1", "2"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, version=version: version)
        racing.race([a_subject()], kinds, settings, tmp_path)
    assert ran == ["1", "2"]


def test_what_is_kept_of_ones_own_attack_runs_again_when_its_file_changes(tmp_path, monkeypatch):
    (tmp_path / "an_attack_of_mine.py").write_text(
        "import cwjax as cw\ndef it(norm, steps, classes):\n    return cw.attacks.ddn(steps=steps)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "an_attack_of_mine:it"
    first = keeping._version(entries.own([name])[name].source)
    assert keeping._version(name) == first
    with (tmp_path / "an_attack_of_mine.py").open("a") as file:
        file.write("# changed\n")
    assert keeping._version(name) != first
