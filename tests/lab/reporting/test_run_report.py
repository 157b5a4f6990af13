"""What a report of one run promises: true numbers, one file that needs no other, everything escaped."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cwjax.lab.files import store
from cwjax.lab.reporting import findings, run_report, verdicts
from tests.lab.conftest import canned

INF = float("inf")
HOSTILE = "<script>alert(1)</script> & `code` | *star* $\\bad$"


ABOUT = run_report.About(
    title="L2 attack on digits",
    configuration={"data": {"name": "digits", "split": "test"}, "targets": [1, 2]},
    environment={"jax": "1.2.3"},
    history={"loss": [2.0, 1.0], "accuracy": [0.5, 0.9], "validation_loss": [2.5, 1.5]},
    model={"recipe": "paper"},
)


def make_run(rows: list[tuple[int, int, int, float]], *, channels: int = 1, **changes) -> run_report.Run:
    """A run with these rows: index, label, target (-1: untargeted), distance (inf: failed)."""
    index, label, target, distance = (np.array(column) for column in zip(*rows, strict=True))
    success, count = np.isfinite(distance), len(rows)
    generator = np.random.default_rng(0)
    clean = generator.random((count, 8, 6, channels), np.float32)
    moved = np.clip(clean + generator.normal(0, 0.1, clean.shape), 0, 1).astype(np.float32)
    length = np.where(success, distance, 0).astype(np.float32)
    columns = {
        "index": index.astype(np.int64),
        "label": label.astype(np.int32),
        "target": target.astype(np.int32),
        "clean_prediction": label.astype(np.int32),
        "prediction": np.where(success, np.maximum(target, 0), label).astype(np.int32),
        "success": success,
        "distance": distance.astype(np.float32),
        "l0": 10 * length,
        "l1": 5 * length,
        "l2": length,
        "linf": length / 10,
        "margin": np.where(success, 0.25, -1).astype(np.float32),
        "c": np.where(success, 2.0, INF).astype(np.float32),
        "forwards": np.arange(count, dtype=np.int32) + 1,
        "backwards": np.arange(count, dtype=np.int32) + 101,
        "finite": np.ones(count, bool),
    }
    run = run_report.Run(
        attack="l2",
        norm="l2",
        settings={"objective": "f6", "steps": 1000, "search_steps": 9, "largest_c": None},
        table=pa.table(columns),
        clean=clean,
        adversarial=np.where(success[:, None, None, None], moved, clean),
        classes=tuple("0123456789"),
        seconds={"compile": 1.25, "attack": 61.5},
    )
    return run._replace(**changes)


# Three examples, three targets each. Example 7 fails at one target, example 9 at all of them.
TARGETED = [
    (5, 0, 1, 3.0), (5, 0, 2, 1.0), (5, 0, 3, 2.0),
    (9, 1, 0, INF), (9, 1, 2, INF), (9, 1, 3, INF),
    (7, 2, 0, 6.0), (7, 2, 1, INF), (7, 2, 3, 5.0),
]  # fmt: skip
UNTARGETED = [(i, i % 4, -1, INF if i == 3 else 1.0 + i) for i in range(14)]


class Tags(HTMLParser):
    """Every start tag with its attributes, and whether all tags that need an end have theirs."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def written(
    runs: run_report.Run | list[run_report.Run], folder: Path, checked: tuple[str, ...] = (), **changes
) -> tuple[str, str]:
    """The HTML and the Markdown; with a diagnosis of the attacks that were checked."""
    if checked:
        store.write_json(folder / verdicts.FILE, {attack: canned().to_json() for attack in checked})
    told = [runs] if isinstance(runs, run_report.Run) else runs
    page = run_report.write(told, ABOUT._replace(**changes), folder, believed=verdicts.read(folder))
    assert page == folder / "report.html"
    return page.read_text("utf-8"), (folder / "report.md").read_text("utf-8")


def test_the_three_cases_are_those_counted_by_hand():
    best, average, worst = run_report.summary_rows(make_run(TARGETED))

    assert [row["case"] for row in (best, average, worst)] == ["best", "average", "worst"]
    assert [row["attacks"] for row in (best, average, worst)] == [3, 9, 3]
    assert [row["success %"] for row in (best, average, worst)] == pytest.approx([200 / 3, 500 / 9, 100 / 3])
    assert [row["mean L2"] for row in (best, average, worst)] == pytest.approx([3.0, 3.4, 3.0])  # 1 5; 1 2 3 5 6; 3
    assert [row["median distance"] for row in (best, average, worst)] == pytest.approx([3.0, 3.0, 3.0])
    assert [row["mean L0"] for row in (best, average, worst)] == pytest.approx([30, 34, 30])
    assert average["mean L∞"] == pytest.approx(0.34)
    assert (average["forwards"], average["backwards"]) == (5, 105)
    assert best["seconds"] == 61.5
    assert average["seconds"] is None
    # The passes of the rows that were picked: 2, one of 4 to 6, and 9; then 1, one of 4 to 6, and 8.
    assert (2 + 4 + 9) / 3 <= best["forwards"] <= (2 + 6 + 9) / 3
    assert (1 + 4 + 8) / 3 <= worst["forwards"] <= (1 + 6 + 8) / 3


def test_the_order_of_the_rows_does_not_matter():
    shuffled = [TARGETED[i] for i in np.random.default_rng(1).permutation(len(TARGETED))]
    for row, expected in zip(
        run_report.summary_rows(make_run(shuffled)), run_report.summary_rows(make_run(TARGETED)), strict=True
    ):
        for heading in ("case", "attacks", "success %", "mean L2", "median distance", "mean L1"):
            assert row[heading] == pytest.approx(expected[heading])


def test_one_target_for_each_example_is_one_row():
    (row,) = run_report.summary_rows(make_run(UNTARGETED))
    assert row["case"] == "all attacks"
    assert row["attacks"] == 14
    assert row["success %"] == pytest.approx(1300 / 14)
    assert row["median distance"] == 8


def test_untargeted_rows_are_no_case_of_the_targeted():
    rows = run_report.summary_rows(make_run([*TARGETED, (5, 0, -1, 0.5)]))
    assert [row["attacks"] for row in rows] == [10, 3, 9, 3]
    assert rows[1]["mean L2"] == pytest.approx(3.0)


def test_numbers_are_shown_as_one_reads_them():
    row = {"case": "all", "attacks": 12345, "success %": 99.98, "mean L2": 1.5, "forwards": 1234.56, "seconds": None}
    assert list(run_report.shown(row).values()) == ["all", "12,345", "99.9", "1.500", "1,235", "–"]
    assert run_report.shown({"mean L2": float("nan")}) == {"mean L2": "–"}


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
        for part in ("How it was run", "How to read this", "data.split", "1.2.3", "61.50", "worst"):
            assert part in text
        assert "2.000" in text  # the median c


def test_a_report_opens_with_whether_it_can_be_believed(tmp_path):
    page, markdown = written(make_run(TARGETED), tmp_path, ("l2",))
    line = "FAIL: do not believe these numbers yet (4 checks: 1 failed, 1 warned, 1 passed, 1 skipped; 1,200 forward"
    for text in (page, markdown):
        assert text.index(line) < text.index("55.6 % of 9 attacks") < text.index("Can these numbers be believed?")
        assert text.index("Can these numbers be believed?") < text.index("How to read this")
        assert "<what>" not in text
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


def test_nothing_is_said_of_checks_that_were_not_asked_for(tmp_path):
    for text in written(make_run(TARGETED), tmp_path):
        assert "believe" not in text


def test_the_markdown_is_a_table_and_its_pictures_lie_beside_it(tmp_path):
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


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rows", [TARGETED, UNTARGETED], ids=["targeted", "untargeted"])
def test_the_examples_are_drawn_in_grey_and_in_colour(rows, channels, tmp_path):
    written(make_run(rows, channels=channels), tmp_path)
    with Image.open(tmp_path / "figures" / "l2-examples.png") as picture:
        columns = 4 if rows is TARGETED else 10  # fourteen examples, of which ten are shown
        assert columns * 72 < picture.width < (columns + 2) * 90


def test_a_framed_picture_has_the_pixels_of_the_clean_image(tmp_path):
    run = make_run(TARGETED)
    written(run, tmp_path)
    with Image.open(tmp_path / "figures" / "l2-examples.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    wanted = np.kron(np.round(255 * run.clean[0, ..., 0]), np.ones((12, 12)))  # 8 x 6 pixels, each 12 wide
    views = np.lib.stride_tricks.sliding_window_view(pixels[50:170, 50:150], wanted.shape)  # where it may lie
    assert np.abs(views - wanted).max(axis=(2, 3)).min() <= 1


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


def test_more_classes_than_fit_are_said_to_be_cut(tmp_path):
    rows = [(label, label, target, 1.0) for label in range(12) for target in range(12) if label != target]
    page, _ = written(make_run(rows, classes=tuple(f"class {i}" for i in range(12))), tmp_path)
    assert "10 × 10 of 12 classes are shown" in page


def test_examples_that_are_not_finite_are_named(tmp_path):
    run = make_run(TARGETED)
    finite = pa.array([i != 4 for i in range(9)])
    table = run.table.set_column(run.table.column_names.index("finite"), "finite", finite)
    page, markdown = written(run._replace(table=table), tmp_path)
    for text in (page, markdown):
        assert "a NaN or an infinity in 1 of 9 attacks, which were then given up" in text
        assert "source: 9)" in text


def several() -> list[run_report.Run]:
    """The L2, L0 and L-infinity attacks on the same rows; the last never succeeds."""
    failed = [(*row[:3], INF) for row in TARGETED]
    settings = {"objective": "f6", "steps": 1000, "search_steps": None, "largest_c": 2e6}
    return [
        make_run(TARGETED),
        make_run([(*row[:3], 10 * row[3]) for row in TARGETED], attack="l0", norm="l0", settings=settings),
        make_run(failed, attack="linf", norm="linf", settings=settings | {"largest_c": 20.0}),
    ]


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


def test_a_second_report_takes_the_place_of_the_first(tmp_path):
    written(make_run(TARGETED), tmp_path)
    page, markdown = written(make_run(UNTARGETED, attack="l0", norm="l0"), tmp_path, title="Another", history=None)
    assert "Another" in page
    assert "Training" not in page
    assert "training" not in markdown
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        *("figures", "l0-examples.png", "l0-success.png", "report.html", "report.md"),
    ]


def test_the_same_run_gives_the_same_files(tmp_path):
    assert written(make_run(TARGETED), tmp_path / "a") == written(make_run(TARGETED), tmp_path / "b")


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "file"))):
        run_report.write([make_run(TARGETED)], ABOUT, tmp_path / "file" / "report")


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
    assert "1 of the 2 images was misclassified before any attack, and counts all the same." in text
    assert (
        "Two means: 1.00 over all 2 (the 1 that the model already gets wrong counts as 0), 2.00 over the 1 that it "
        "gets right."
    ) in text
    table = Path(tmp_path / "report.md").read_text().split("## Results")[1]
    assert (
        "| attack | attacks | success % | mean L2 | median L2 | misclassified | mean without them | mean L0 |" in table
    )
    assert "| L2 | 2 | 100.0 | 1.000 | 1.000 | 1 | 2.000 |" in table


def answered(rows, answers) -> run_report.Run:
    """A run whose model says this of the clean images."""
    run = make_run(rows)
    place = run.table.column_names.index("clean_prediction")
    return run._replace(table=run.table.set_column(place, "clean_prediction", pa.array(answers, pa.int32())))


@pytest.mark.parametrize(
    ("rows", "answers", "said"),
    [
        ([(0, 0, -1, 2.0), (1, 1, -1, 4.0)], [0, 1], []),
        (
            [(0, 0, -1, 0.0), (1, 1, -1, 4.0), (2, 2, -1, INF), (3, 3, -1, 0.0)],
            [5, 1, 2, 5],
            [
                "2 of the 4 images were misclassified before any attack, and count all the same.",
                "Two means: 1.33 over the 3 that succeeded (the 2 that the model already gets wrong count as 0), 4.00 "
                "over the 1 that it gets right.",
            ],
        ),
        (
            [(0, 0, -1, 0.5), (1, 1, -1, 3.5)],  # with a confidence, what is misclassified has a way to go
            [5, 1],
            [
                "1 of the 2 images was misclassified before any attack, and counts all the same.",
                "Two means: 2.00 over all 2 (the 1 that the model already gets wrong is among them), 3.50 over the 1 "
                "that it gets right.",
            ],
        ),
        (
            [(0, 0, -1, 0.0), (1, 1, -1, 0.0)],
            [5, 5],
            [
                "All 2 images were misclassified before any attack, so there was nothing to attack: neither success "
                "nor distance says anything about it.",
                "The mean is 0.00 over all 2 (the 2 that the model already gets wrong count as 0). No image that the "
                "model gets right was fooled, so there is no mean without them.",
            ],
        ),
    ],
)
def test_the_mean_is_told_with_and_without_what_was_wrong_anyway(rows, answers, said):
    assert findings.before_any_attack([answered(rows, answers)]) == said


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
