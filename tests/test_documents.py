"""The documents: nothing public is missing in the reference, docstrings are complete, and links lead somewhere."""

import inspect
import re
from pathlib import Path

import pytest

from tests import public
from tests.test_programs import ROOT

MODULES = public.modules()
MADE = ROOT / "docs" / "generated"  # pages that `make docs` writes
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("[!_]*/*.md")]
PAGES += [*(ROOT / "benchmarks").glob("*.md"), *(ROOT / "cwjax").rglob("*.md")]
PAGES = sorted(page for page in PAGES if page.parent != MADE)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_every_public_module_is_in_the_reference():
    """Its names are then there too: `make docs` fails where one is not."""
    written = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    told = set(re.findall(r"^\.\. automodule:: (\S+)$", written, re.MULTILINE))
    assert set(MODULES) - told == set()


def callables(where: str):
    """The public functions and types of a module, by name."""
    if where != "cwjax.adapters":  # whose frameworks may be missing; its pages are held to them by `make docs`
        for name in public.names(MODULES[where]):
            if callable(value := getattr(MODULES[where], name)):
                yield name, value


@pytest.mark.parametrize("where", MODULES)
def test_every_docstring_stands_alone(where):
    """It has a first paragraph that begins and ends as a sentence does, and is not Python's own for a NamedTuple."""
    bad = {}
    for name, value in callables(where):
        first = (inspect.getdoc(value) or "").split("\n\n")[0].rstrip()
        sentence = re.match(r"[A-Z1-9ftk`|]", first) and re.search(r'[.:`")]$', first)
        if len(first) < 15 or first.startswith(f"{value.__name__}(") or not sentence:
            bad[name] = first
    assert not bad


@pytest.mark.parametrize("where", MODULES)
def test_the_arguments_that_a_docstring_names_are_there(where):
    for name, value in callables(where):
        section = re.search(r"^Args:\n((?:  .*\n?|\n)+)", inspect.getdoc(value) or "", re.MULTILINE)
        if section and inspect.isfunction(value):
            told = re.findall(r"^  \**(\w+(?:, \w+)*):", section.group(1), re.MULTILINE)
            told = {each for names in told for each in names.split(", ")}
            assert told <= set(inspect.signature(value).parameters), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:", link):
            continue
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if target.parent == MADE:
            continue
        assert target.exists(), link
        if heading:
            assert heading in {anchor(line) for line in target.read_text("utf-8").splitlines()}, link


def test_on_the_index_the_readme_has_no_relative_link_left(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from absolute import absolute  # pyright: ignore[reportMissingImports]

    text = absolute((ROOT / "README.md").read_text("utf-8"), "https://host/a/b", "v1")
    assert "](https://host/a/b/raw/v1/docs/pictures/first.png)" in text
    assert "](https://host/a/b/blob/v1/docs/start/index.md)" in text
    assert not re.findall(r"\]\((?!https://)[^)]*\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def anchor(line: str) -> str:
    """What a heading is linked to by: "## At a confidence" is #at-a-confidence."""
    heading = re.match(r"#+ (.*)", line)
    words = re.sub(r"[^\w\- ]", "", heading.group(1).lower()) if heading else ""
    return words.replace(" ", "-")
