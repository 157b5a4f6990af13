"""The front of the package: what the document and the docstring show."""

import inspect

import pytest

import cwjax as cw
from tests.test_programs import ROOT, blocks


@pytest.mark.long
@pytest.mark.optimized
def test_the_code_of_the_document_runs_as_it_stands(capsys):
    namespace: dict = {}
    for block in blocks(ROOT / "docs" / "coverage.md"):
        exec(block, namespace)
    assert 0 < namespace["said"].value < 1
    assert "592 neurons, each the channel mean after the activation function" in capsys.readouterr().out


def test_what_is_public_is_what_is_written():
    for name in cw.coverage.__all__:
        assert inspect.getdoc(getattr(cw.coverage, name)), name


def test_the_front_says_that_coverage_is_no_quality():
    for text in (cw.coverage.__doc__, cw.coverage.Coverage.__doc__, (ROOT / "docs" / "coverage.md").read_text()):
        assert text
        assert "describes" in text


@pytest.mark.long
def test_the_benchmark_at_a_small_size(capsys):
    from benchmarks import coverage

    arguments = coverage.Arguments(batch=3, rounds=1, units="channel", sections=(10,), reference=300)
    rows = coverage.main(arguments)
    assert {row["what"].split(" ")[0] for row in rows} == {"KMNC", "NC", "NBC", "TKNC", "DSA", "forward", "memory"}
    assert "592 neurons" in capsys.readouterr().out
