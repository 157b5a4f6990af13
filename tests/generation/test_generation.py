"""The front of the package: what the document and the docstrings show."""

import inspect

import pytest

import cwjax as cw
from tests.test_programs import ROOT, blocks


@pytest.mark.long
@pytest.mark.optimized
def test_the_code_of_the_document_runs_as_it_stands(capsys):
    namespace: dict = {}
    for block in blocks(ROOT / "docs" / "generation.md"):
        exec(block, namespace)
    assert 0 < namespace["suite"].share <= 1
    assert namespace["result"].success.any()
    assert "labels break within 15 degrees" in capsys.readouterr().out


def test_what_is_public_is_documented():
    for name in cw.generation.__all__:
        module = getattr(cw.generation, name)
        assert inspect.getdoc(module), name
        for each, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not each.startswith("_"):
                assert inspect.getdoc(value), f"{name}.{each}"


def test_the_front_says_that_coverage_is_no_quality():
    for text in (str(cw.generation.__doc__), (ROOT / "docs" / "generation.md").read_text()):
        assert "no measure of" in " ".join(text.split())
