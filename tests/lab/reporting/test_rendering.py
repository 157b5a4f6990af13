"""Pages from templates, and the files of a report put in their places."""

import re

import pytest
from jinja2 import UndefinedError

from cwjax.lab.reporting import rendering, run_report
from tests.lab.reporting.made import ABOUT, TARGETED, UNTARGETED, make_run, written


def test_a_second_report_takes_the_place_of_the_first(tmp_path):
    written(make_run(TARGETED), tmp_path)
    page, markdown = written(make_run(UNTARGETED, attack="l0", norm="l0"), tmp_path, title="Another", history=None)
    assert "Another" in page
    assert "Training" not in page
    assert "training" not in markdown
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        *("figures", "l0-examples.png", "l0-success.png", "report.html", "report.md"),
    ]


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "file"))):
        run_report.write([make_run(TARGETED)], ABOUT, tmp_path / "file" / "report")


def test_nested_settings_are_flat():
    told = {"a": {"b": [1, 2], "c": {"d": None}}, "e": {}, "f": (0.5,), "g": []}
    assert rendering.flat(told) == {"a.b": "1, 2", "a.c.d": "None", "e": "{}", "f": "0.5", "g": "none"}


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("html", "&lt;b&gt; &amp; *a* _b_ snake_case `c` a|b\n1"),
        ("md", r"&lt;b&gt; &amp; \*a\* \_b\_ snake_case \`c\` a\|b 1"),
    ],
)
def test_every_value_is_text_in_either_format(kind, shown):
    template = rendering._environment(kind).from_string("<p>*{{ value }}*</p>")
    assert template.render(value="<b> & *a* _b_ snake_case `c` a|b\n1") == f"<p>*{shown}*</p>"


def test_a_value_that_was_forgotten_is_an_error():
    with pytest.raises(UndefinedError, match="'value' is undefined"):
        rendering._environment("md").from_string("{{ value }}").render()


def test_files_are_put_in_their_places_and_only_figures_of_reports_are_taken_away(tmp_path):
    (tmp_path / "figures").mkdir()
    old = ["l2-examples.png", "success.png", "training.png", "mine.png", "l2-examples.txt", "examples.png.png"]
    for name in old:
        (tmp_path / "figures" / name).write_bytes(b"old")
    page = rendering.put({"report.html": b"page", "figures/l2-examples.png": b"new"}, tmp_path)
    assert page == tmp_path / "report.html"
    assert page.read_bytes() == b"page"
    left = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert left == {
        "l2-examples.png": b"new",
        "mine.png": b"old",
        "l2-examples.txt": b"old",
        "examples.png.png": b"old",
    }
