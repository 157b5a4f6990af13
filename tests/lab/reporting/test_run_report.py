"""What a report of one run promises: true numbers, one file that needs no other, everything escaped."""

import base64
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cwjax.lab.reporting import run_report
from tests.lab.reporting.made import ABOUT, HOSTILE, INF, TARGETED, UNTARGETED, Tags, make_run, several, written


def test_the_page_needs_no_other_file_and_has_every_section(tmp_path):
    page, markdown = written(make_run(TARGETED), tmp_path)
    tags = Tags(page)
    assert not tags.open
    addresses = [value for _, attributes in tags.found for name in ("src", "href") if (value := attributes.get(name))]
    assert len(addresses) == 3
    for address in addresses:
        kind, data = address.split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    assert not {"link", "iframe"} & {tag for tag, _ in tags.found}
    assert [tag for tag, _ in tags.found].count("script") == 1  # the page's own, and its policy lets no other run
    assert "url(" not in page
    assert "@import" not in page
    assert all(attributes["alt"] for tag, attributes in tags.found if tag == "img")
    for heading in ("Results", "Examples", "Success within a distance", "Training", "Settings", "Configuration"):
        assert f"<h2>{heading}</h2>" in page
        assert f"## {heading}\n" in markdown
    for text in (page, markdown):
        assert "55.6 % of 9 attacks succeeded; the median successful perturbation has L2 norm 3.00." in text
        for part in ("How it was run", "How to read this", "data attacked.split", "1.2.3", "61.50", "worst"):
            assert part in text
        assert "2.000" in text  # the median c
        assert "Mean and median distances are over the successes alone" in text


def test_a_report_opens_with_what_was_found_and_whether_it_can_be_believed(tmp_path):
    page, markdown = written(make_run(TARGETED), tmp_path, ("l2",))
    line = "FAIL: do not believe these numbers yet (4 checks: 1 failed, 1 warned, 1 passed, 1 skipped; 1,200 forward"
    headings = (
        "Success within a distance",
        "Results",
        "Can these numbers be believed?",
        "Settings",
        "How to read this",
    )
    for text, mark in ((page, "<h2>"), (markdown, "## ")):
        places = [text.index("55.6 % of 9 attacks"), text.index(line), *(text.index(mark + each) for each in headings)]
        assert places == sorted(places)
        assert "<what>" not in text
        assert "A bracket is the interval between" in text
        assert "Do &lt;this&gt; &amp; that." in text
    tags = Tags(page)
    assert not tags.open
    assert [attributes["id"] for tag, attributes in tags.found if tag == "tr" and "id" in attributes] == [
        *("L2-is_worse", "L2-is_bad", "L2-is_fine", "L2-is_not_there"),
    ]
    targets = [attributes["href"] for tag, attributes in tags.found if tag == "a"]
    assert targets == ["#L2-is_worse", "#L2-is_bad"]
    for word in ("fail", "warn", "pass", "skipped"):  # the word, and not its colour alone
        assert f'<td class="word {word}">{word}</td>' in page
    rows = [line for line in markdown.splitlines() if line.startswith("| is ")]
    assert [row.split(" | ")[1] for row in rows] == ["fail", "warn", "pass", "skipped"]
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
    assert "<details>" in page
    assert "2 checks that passed or were skipped" in page


def test_a_report_of_several_attacks_has_a_verdict_of_each(tmp_path):
    page, markdown = written(several(), tmp_path, ("l2", "linf"))
    assert not Tags(page).open
    assert page.count('<p class="verdict fail">') == 2
    assert [line[:10] for line in markdown.splitlines() if line.startswith("> ")] == ["> **L2.** ", "> **L∞.** "]


def test_where_no_checks_were_asked_for_it_is_said(tmp_path):
    for text in written(make_run(TARGETED), tmp_path):
        assert "Not checked (--no-checks): nothing says whether these numbers can be believed." in text
        assert "Can these numbers be believed?" not in text


def test_the_markdown_is_a_table_and_its_pictures_lie_beside_it(tmp_path, drawn):
    _, markdown = written(make_run(TARGETED), tmp_path)
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", markdown)
    assert sorted(links) == [f"figures/{name}.png" for name in ("l2-examples", "l2-success", "training")]
    for link in links:
        with Image.open(tmp_path / link) as picture:
            assert min(picture.size) > 100
    table = [line for line in markdown.splitlines() if line.startswith("|")][:5]
    assert len({line.count("|") for line in table}) == 1
    assert not list(tmp_path.rglob(".*"))


def test_what_the_user_gives_is_text(tmp_path):
    hostile = {HOSTILE: HOSTILE}
    run = make_run(TARGETED, settings=hostile, classes=(HOSTILE, "$\\frac$", "a\nb", "_"))
    about = {
        "title": HOSTILE,
        "configuration": hostile,
        "environment": hostile,
        "model": {"card": {HOSTILE: [HOSTILE]}},
    }
    page, markdown = written(run, tmp_path, **about)
    for text in (page, markdown):
        assert "<script>alert" not in text
        assert "&lt;script&gt;" in text
    assert r"\`code\` \| \*star\*" in markdown


def test_nothing_succeeded(tmp_path):
    page, markdown = written(make_run([(i, i, -1, INF) for i in range(3)]), tmp_path, history=None)
    for text in (page, markdown):
        assert "None of 3 attacks succeeded." in text
        assert "No attack succeeded, so there is no curve to draw." in text
        assert "nan" not in re.sub(r"base64,[^\"]+", "", text)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["l2-examples.png"]


def test_everything_succeeded_without_a_change(tmp_path):
    page, _ = written(make_run([(0, 0, -1, 0.0)], seconds={}), tmp_path, history={})
    assert "All of 1 attack succeeded; the median successful perturbation has L2 norm 0.00." in page


def test_examples_that_are_not_finite_are_named(tmp_path):
    run = make_run(TARGETED)
    finite = pa.array([i != 4 for i in range(9)])
    table = run.table.set_column(run.table.column_names.index("finite"), "finite", finite)
    page, markdown = written(run._replace(table=table), tmp_path)
    for text in (page, markdown):
        assert "a NaN or an infinity in 1 of 9 attacks, which were then given up" in text
        assert "source: 9)" in text


def test_several_attacks_stand_after_each_other(tmp_path):
    page, markdown = written(several(), tmp_path)
    tags = Tags(page)
    assert not tags.open
    assert sum(tag == "img" for tag, _ in tags.found) == 6  # three grids, two curves, training
    lines = markdown.splitlines()
    for heading, after in (("## Examples", ["L2", "L0", "L∞"]), ("## Success within a distance", ["L2", "L0", "L∞"])):
        start = lines.index(heading) + 1
        end = next(i for i in range(start, len(lines)) if lines[i].startswith("## "))
        assert [line[4:] for line in lines[start:end] if line.startswith("### ")] == after
    assert page.count("<h3>") == markdown.count("\n### ") == 6
    for text in (page, markdown):
        assert "55.6 % of 9 attacks succeeded; the median successful perturbation has L2 norm 3.00." in text
        assert "55.6 % of 9 attacks succeeded; the median successful perturbation has L0 norm 30." in text
        assert "None of 9 attacks succeeded." in text
        assert text.count("No attack succeeded, so there is no curve to draw.") == 1
        assert text.count("The counterpart of Figure 5 of") == 1  # L0
        assert text.count("The counterpart of Figure 4 of") == 1  # L2
        assert "2.000 (L2), 2.000 (L0), – (L∞)" in text  # the median c
    assert len(list((tmp_path / "figures").iterdir())) == 6


def test_every_attack_has_its_cases_and_its_settings(tmp_path):
    _, markdown = written(several(), tmp_path)
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines() if line[:1] == "|"]
    rows = [row[:6] for row in table if row[0] in ("L2", "L0", "L∞")]
    assert rows == [
        ["L2", "best", "3", "66.7", "3.000", "3.000"],
        ["L2", "average", "9", "55.6", "3.400", "3.000"],
        ["L2", "worst", "3", "33.3", "3.000", "3.000"],
        ["L0", "best", "3", "66.7", "30.00", "30"],
        ["L0", "average", "9", "55.6", "34.00", "30"],
        ["L0", "worst", "3", "33.3", "30.00", "30"],
        ["L∞", "best", "3", "0.0", "–", "–"],
        ["L∞", "average", "9", "0.0", "–", "–"],
        ["L∞", "worst", "3", "0.0", "–", "–"],
    ]
    start = table.index(["setting", "L2", "L0", "L∞"])
    assert table[start + 2 : start + 7] == [
        ["norm", "L2", "L0", "L∞"],
        ["objective", "f6", "f6", "f6"],
        ["steps", "1,000", "1,000", "1,000"],
        ["search_steps", "9", "–", "–"],
        ["largest_c", "–", "2e+06", "20"],
    ]


def test_what_rounding_cost_is_counted_by_hand(tmp_path):
    run = make_run([(i, i, -1, INF if i > 5 else 2.0) for i in range(8)])
    table = run.table.append_column("unrounded_success", [[True] * 7 + [False]])
    table = table.append_column("unrounded_distance", [[1.0] * 4 + [2.0] * 3 + [INF]])
    table = table.append_column("rounded_success", [[True] * 3 + [False] * 5])
    table = table.append_column("repairs", [[0, 0, 0, 1, 2, 3, 100, 0]])
    page, markdown = written(run._replace(table=table), tmp_path)
    # Of 8: 7 before, 3 after plain rounding, 6 repaired. 106 values in 4 images. 1, 1, 1, 1, 2, 2 before; 2 after.
    assert "| L2 | 8 | 87.5 | 37.5 | 75.0 | 26.50 | 1.333 | 2.000 |" in markdown
    assert "Rounding to 8 bits" in page
    assert "Rounding" not in written(run, tmp_path)[0]


@pytest.mark.parametrize("names", [[], ["l2", "l2"]])
def test_a_report_needs_attacks_with_names_of_their_own(names, tmp_path):
    with pytest.raises(ValueError, match="different names"):
        run_report.write([make_run(TARGETED, attack=name) for name in names], ABOUT, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_the_same_run_gives_the_same_files(tmp_path):
    assert written(make_run(TARGETED), tmp_path / "a") == written(make_run(TARGETED), tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: {"table": run.table.drop_columns(["c", "l0"])}, r"lacks \['c', 'l0'\]"),
        (lambda run: {"clean": run.clean[1:]}, "9 rows, 8 clean and 9 adversarial"),
        (lambda run: {"norm": "l3"}, "'l3'"),
        (lambda run: {"attack": "../l2"}, "different names"),
        (
            lambda run: {"table": run.table[:0], "clean": run.clean[:0], "adversarial": run.adversarial[:0]},
            "at least one row",
        ),
    ],
)
def test_a_run_that_does_not_fit_together_writes_nothing(change, message, tmp_path):
    run = make_run(TARGETED)
    with pytest.raises(ValueError, match=message):
        run_report.write([run._replace(**change(run))], ABOUT, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_images_misclassified_beforehand_are_counted_aloud(tmp_path):
    run = make_run([(7, 1, -1, 0.0), (8, 2, -1, 2.0)])
    columns = {name: run.table[name].to_numpy() for name in run.table.column_names}
    columns["clean_prediction"] = np.array([5, 2], np.int32)
    text = run_report.write([run._replace(table=pa.table(columns))], ABOUT, tmp_path).read_text()
    assert "1 of the 2 images was misclassified before any attack, and counts all the same. To leave" in text
    assert (
        "Two means: 1.00 over all 2 (the 1 that the model already gets wrong counts as 0), 2.00 over the 1 that it "
        "gets right."
    ) in text
    table = Path(tmp_path / "report.md").read_text().split("## Results")[1]
    assert "| attack | rows | success % | mean L2 | median L2 | misclassified | mean without them | mean L0 |" in table
    assert "| L2 | 2 | 100.0 | 1.000 | 1.000 | 1 | 2.000 |" in table


def test_numbers_that_mean_nothing_for_the_attack_are_left_out(tmp_path):
    fast = make_run(UNTARGETED, attack="fast_l2", settings={"confidence": 0.0, "steps": 100, "initial_c": None})
    for text in written(fast, tmp_path):
        assert "median c" not in text
        assert "median margin of the successes, in logits: 0.2500" in text
    for text in written([make_run(UNTARGETED), fast], tmp_path):
        assert "The median c of the successes: 2.000 (L2)." in text


def test_how_many_images_each_check_asked_is_shown(tmp_path):
    page, markdown = written(make_run(TARGETED), tmp_path, ("l2",))
    assert "<td>0.500</td><td>3 of 64</td>" in page
    assert "| 3 of 64 |" in markdown
