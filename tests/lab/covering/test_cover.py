"""`cwjax cover` and its page."""

import json
import re

import pytest

from cwjax.lab.covering import coverage_page, covering
from tests.lab.called import call, fails

pytestmark = pytest.mark.usefixtures("kept")


def test_a_run_is_covered_beside_the_test_images(trained, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "cover"
    options = ("--attack", "fast_linf", "--steps", 12, "--examples", 6, "--no-checks")
    call("attack", "--model", trained.folder, *options, "--out", run)
    call("cover", "--model", trained.folder, "--suite", run, "--sections", 10, "--out", out)
    said = capsys.readouterr().out
    assert "no measure of quality" in said
    assert "here its inputs go to" not in said
    assert f"Next:   cwjax generate --system deepconcolic --model {trained.folder}" in said
    headings = next(line for line in said.splitlines() if "suite" in line and "inputs" in line)
    criteria = {each.split()[0] for each in headings.strip("┃").split("┃")} - {"suite", "inputs"}
    assert criteria == covering.COLUMNS.keys()
    assert all(f"{name}: {words}" in said for name, words in covering.COLUMNS.items())
    assert re.search(r"^Ranges of neurons: from \d+ training images\.$", said, re.MULTILINE)
    assert "suites covered 0/2  compiling" in said
    for name in ("report.html", "report.md"):
        text = (out / name).read_text()
        assert coverage_page.WARNING[:60] in text
        assert "run, fast_linf" in text
        assert "TKNP: how many different sets" in text
        assert "neurons, each the channel mean after the activation function" in text
    found = json.loads((out / "coverage.json").read_text())
    assert found["training images"] > 0
    assert {each["suite"] for each in found["measurements"]} == {"test images", "run, fast_linf"}
    assert (out / "figures" / "coverage.png").exists()


def test_mistakes_are_one_line(trained, tmp_path, capsys):
    mistaken = ("cover", "--model", trained.folder, "--out", tmp_path / "out")
    assert "no layer 'relu_99'" in fails(capsys, *mistaken, "--layers", "relu_99")
    assert "folders that `cwjax attack`, `cwjax sweep` or `cwjax generate` wrote" in fails(
        capsys, *mistaken, "--suite", tmp_path
    )
    assert "--sections must be at least 1" in fails(capsys, *mistaken, "--sections", 0)
