"""The documents: nothing public is missing in the reference, and links lead somewhere."""

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
