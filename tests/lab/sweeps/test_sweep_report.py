"""The report of a sweep: true numbers, everything escaped, one file that a browser shows and sorts without an error."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from cwjax.lab import data
from cwjax.lab.reporting import run_report
from cwjax.lab.sweeps import charts, outcomes, sweep_report, units
from tests.lab.conftest import Blobs
from tests.lab.reporting.made import ABOUT, HOSTILE, Tags, several
from tests.lab.sweeps import made
from tests.lab.sweeps.made import INF

LAST = ["gradients an attack", "finite %"]
MEANS = ["mean distance", "median distance"]
BROWSER = shutil.which("chromium")
browsed = pytest.mark.skipif(BROWSER is None, reason="there is no chromium to show the page in")


class Hostile(Blobs):
    classes = (HOSTILE, "$\\frac$", "_")


@pytest.fixture(autouse=True)
def sources(monkeypatch):
    """A source whose classes are no nice names, and what was read of others forgotten."""
    monkeypatch.setitem(data.SOURCES, "hostile", Hostile())
    units.data_named.cache_clear()
    yield
    units.data_named.cache_clear()


@pytest.fixture
def three(tmp_path):
    return tmp_path, made.three(tmp_path)


def written(folder, **more) -> tuple[str, str]:
    page = sweep_report.write(folder, more.pop("out", folder), **more)
    return page.read_text("utf-8"), page.with_suffix(".md").read_text("utf-8")


def lines(markdown: str, heading: str) -> list[list[str]]:
    """The first table below a heading."""
    below = markdown.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in below.splitlines() if line[:1] == "|"]


def test_every_configuration_has_its_line(three):
    page, markdown = written(three[0])
    assert lines(markdown, "Configurations") == [
        ["#", "steps", "rows", "success %", "mean L2", "median L2", "mean over common", *LAST],
        ["---", *["---:"] * 8],
        [
            "[1](#configuration-1)",
            "10",
            "10",
            "100.0",
            "5.500",
            "5.500",
            "5.000",
            "10",
            "100.0",
        ],  # 1 … 10; of the first nine
        ["[2](#configuration-2)", "20", "10", "90.0", "15.00", "15.00", "15.00", "20", "100.0"],  # 11 … 19
        ["[3](#configuration-3)", "30", "10", "10.0", "1.000", "1.000", "–", "30", "100.0"],  # too few to compare
    ]
    for text in (page, markdown):
        assert "3 configurations in 6 units: 30 attacks, of which 20 succeeded, in 600 gradients." in text
        assert "an abacus" in text
        assert "not done yet" not in text


def test_the_page_needs_no_other_file(three):
    folder, _ = three
    page, markdown = written(folder)
    tags = Tags(page)
    assert not tags.open
    images = [attributes["src"] for tag, attributes in tags.found if tag == "img"]
    assert len(images) == 2 + 3 * 2  # curves and costs; of each configuration curve and examples
    assert all(str(source).startswith("data:image/png;base64,") for source in images)
    links = {attributes["href"] for tag, attributes in tags.found if "href" in attributes}
    ids = {f"#{attributes['id']}" for _, attributes in tags.found if "id" in attributes}
    assert {f"#configuration-{place}" for place in (1, 2, 3)} < links <= ids
    assert not {"link", "iframe"} & {tag for tag, _ in tags.found}
    figures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", markdown)
    assert len(figures) == len(images)
    assert all((folder / name).is_file() for name in figures)
    assert written(folder) == (page, markdown)


def test_what_the_user_names_is_text(tmp_path):
    asked = [made.configuration(model=name, data="hostile") for name in (HOSTILE, "_'\"\n<b>")]
    made.sweep(tmp_path, asked)
    page, markdown = written(tmp_path)
    for text in (page, markdown):
        assert "<script>alert" not in text
        assert "<b>" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not Tags(page).open


def test_units_that_are_missing_are_said_to_be(three):
    folder, plan = three
    shutil.rmtree(folder / "units" / plan.units[1][1].digest)
    for unit in plan.units[2]:
        shutil.rmtree(folder / "units" / unit.digest)
    page, markdown = written(folder)
    for text in (page, markdown):
        assert "3 of 6 units are not done yet" in text
        assert "Incomplete: configuration 2." in text
    first, second = lines(markdown, "Configurations")[2:]
    assert (first[6], second[2], second[6]) == ("5.500", "5", "–")


def test_hundreds_of_configurations_have_few_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_report, "MOST_PICTURED", 2)
    monkeypatch.setattr(charts, "MOST_NAMES", 3)
    monkeypatch.setattr(charts, "MOST_CURVES", 3)
    made.sweep(tmp_path, [made.configuration(steps=10 + k) for k in range(5)])
    page, markdown = written(tmp_path)
    assert sum(tag == "img" for tag, _ in Tags(page).found) == 2 + 2 * 2
    for text in (page, markdown):
        assert "Pictures are shown of the first 2 of 5 configurations." in text
        assert "Drawn are 3 of 5 configurations" in text
        assert "Only points on the line have their numbers." in text


def test_images_that_are_not_to_be_had_are_no_reason_to_fail(three, monkeypatch):
    folder, _ = three

    def gone(*_):
        raise data.MissingData("blobs is not in here: put it there")

    before = written(folder)[0].count("<img")
    monkeypatch.setattr(type(data.SOURCES["blobs"]), "read", gone)
    units.data_named.cache_clear()
    page, markdown = written(folder)
    for text in (page, markdown):
        assert "No pictures of blobs." in text
        assert "blobs is not in here: put it there" in text
    assert page.count("<img") == before - 3  # the curves are still there
    assert len(list((folder / "figures").iterdir())) == before - 3


def test_other_images_under_the_same_name_are_not_shown(three, monkeypatch):
    folder, _ = three
    read = Blobs().read("test", folder)
    monkeypatch.setattr(type(data.SOURCES["blobs"]), "read", lambda *_: read._replace(labels=2 - read.labels))
    units.data_named.cache_clear()
    assert "the data has other images than those that were attacked" in written(folder)[0]


def test_nothing_succeeded(tmp_path):
    made.sweep(tmp_path, [made.configuration("l2", objective=name) for name in ("f1", "f6")], lambda place, index: INF)
    page, _ = written(tmp_path)
    assert "20 attacks, of which 0 succeeded" in page
    assert "Success within a distance" not in page


def test_objectives_and_boxes_are_compared_where_nothing_else_differs(tmp_path):
    grid = [(name, box, steps) for steps in (10, 20) for name in ("f1", "f6") for box in ("projected", "clipped")]
    asked = [made.configuration("l2", objective=name, box=box, steps=steps) for name, box, steps in grid]
    made.sweep(tmp_path, [*asked, made.configuration("fast_linf")])
    found, _ = outcomes.read(tmp_path)
    assert [[each.place for each in some] for some in outcomes.ablations(found)] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert [each.label(*outcomes.VARIED) for each in found[3::5]] == ["l2, steps 10", "fast_linf, steps 300"]
    page, markdown = written(tmp_path)
    assert page.count("the form of Table III") == 1
    assert "### L∞" in markdown
    assert lines(markdown, "Configurations")[0][:7] == ["#", "attack", "objective", "box", "steps", "norm", "rows"]


def test_verdicts_are_shown_where_there_are_some(tmp_path):
    check = {"number": 0.25, "threshold": None, "note": "", "advice": "More steps.", "source": "a book"}
    checks = {"all_well": {"verdict": "pass"}, "too_short": {"verdict": "warn"}}
    checks = {name: check | told | {"what": "is <the> share"} for name, told in checks.items()}
    checks["too_short"] |= {"rows": [0, 3], "index": [10, 13]}
    told = {"examples": 5, "checks": checks}
    told = {word: told | {"verdict": word, "line": f"{word}: so and so."} for word in ("warn", "fail")}
    asked = [made.configuration(steps=10 * (place + 1)) for place in range(4)]
    made.sweep(tmp_path, asked, told={0: told["warn"], 1: told["fail"], 3: told["warn"]})
    page, markdown = written(tmp_path)
    fail, warn = "FAIL: do not believe these numbers yet", "WARN: believe these numbers with care"
    assert f"> **{fail}** (configuration 2)." in markdown
    assert f"> **{warn}** (configurations 1, 4)." in markdown
    links = '<a href="#configuration-1">1</a>, <a href="#configuration-4">4</a>'
    assert page.index(f'<p class="verdict fail">{fail}') < page.index(f'<p class="verdict warn">{warn}')
    assert f"{warn} (configurations {links})." in page
    rows = lines(markdown, "Configurations")
    assert [row[rows[0].index("checks")] for row in rows[2:]] == ["warn", "fail", "–", "warn"]
    assert markdown.count("Can these numbers be believed? warn: so and so.") == 2
    assert "| too short | warn | 0.250 | – | 2 of 5 | is &lt;the&gt; share | More steps. | a book |" in markdown
    assert "- [1](#configuration-1): too_short (is &lt;the&gt; share). More steps." in markdown
    assert (
        page.count("too_short (is &lt;the&gt; share). More steps.</li>") == 2
    )  # it only warns where the verdict is fail
    assert page.index("too short") < page.index("all well")
    assert "is &lt;the&gt; share" in page
    assert 'id="configuration-4-too_short"' in page


def test_images_that_the_model_gets_wrong_are_told_apart(tmp_path, monkeypatch):
    """The first two of the ten, at distance 0; the others at 3 … 10."""
    files = made._files

    def wrong(unit, distance):
        with monkeypatch.context() as patch:
            some = units.examples_of(unit)
            answers = np.where(some.index < some.index[0] + 2 * (unit.start == 0), (some.labels + 1) % 3, some.labels)
            patch.setattr(made, "_answers", lambda dataset: answers)
            return files(unit, distance)

    monkeypatch.setattr(made, "_files", wrong)
    asked = [made.configuration(), made.configuration("fast_linf")]
    made.sweep(tmp_path, asked, lambda place, index: 0.0 if index < 2 else 1.0 + index)
    page, markdown = written(tmp_path)
    rows = lines(markdown, "Configurations")
    assert rows[0][2:9] == ["norm", "rows", "success %", *MEANS, "misclassified", "mean without them"]
    assert rows[2][2:9] == ["L2", "10", "100.0", "5.200", "5.500", "2", "6.500"]
    for text in (page, markdown):
        assert (
            "Configuration 1: Two means: 5.20 over all 10 (the 2 that the model already gets wrong count as 0), 6.50 "
            "over the 8 that it gets right."
        ) in text


def browse(page, *flags) -> tuple[str, list[str]]:
    """What a browser prints, and what the page wrote to its log."""
    assert BROWSER
    quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=3000"]
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [BROWSER, *quiet, profile, "--window-size=1100,1600", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


CLICKS = """<script>
const table = document.querySelector("table.sortable"), told = {};
const order = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[0].textContent));
const click = (name) => {
  const button = [...table.tHead.querySelectorAll("button")].find((each) => each.textContent === name);
  button.focus();
  button.click();
  return [order(), button.parentElement.getAttribute("aria-sort"), document.activeElement === button];
};
told.first = order();
told.up = click("mean L2");
told.down = click("mean L2");
told.missing = click("mean over common");
told.last = click("mean over common");
told.marked = table.querySelectorAll("[aria-sort]").length;
location.hash = "#configuration-2";
setTimeout(() => {
  told.open = [...document.querySelectorAll("details")].map((each) => each.open);
  console.log("clicked");
  document.body.textContent = "told:" + JSON.stringify(told) + ":told";
}, 300);
</script></body>"""


@browsed
def test_a_browser_shows_the_page_and_logs_nothing(three):
    folder, _ = three
    sweep_report.write(folder, folder)
    shown, said = browse(folder / "report.html", "--dump-dom")
    assert said == []
    assert shown.count('<button type="button">') == 9
    assert browse(folder / "report.html", f"--screenshot={folder / 'shot.png'}")[1] == []
    with Image.open(folder / "shot.png") as shot:
        pixels = np.asarray(shot.convert("L"))
    assert pixels.shape == (1600, 1100)
    assert (pixels < 100).mean() > 0.005  # there is something to see


@browsed
def test_a_browser_shows_the_page_of_a_run(tmp_path):
    shown, said = browse(run_report.write(several(), ABOUT, tmp_path), "--dump-dom")
    assert said == []
    assert shown.count('<button type="button">') == 14


@browsed
def test_a_click_sorts_and_a_link_opens(three):
    folder, _ = three
    page = sweep_report.write(folder, folder).read_text("utf-8")
    copy = folder / "copy.html"
    copy.write_text(
        re.sub(r"script-src '[^']+'", "script-src 'unsafe-inline'", page).replace("</body>", CLICKS), "utf-8"
    )
    shown, said = browse(copy, "--dump-dom")
    assert len(said) == 1  # so the log is where it is looked for
    told = json.loads(shown.split("told:")[1].split(":told")[0])
    assert told["first"] == [1, 2, 3]
    assert told["up"] == [[3, 1, 2], "ascending", True]
    assert told["down"] == [[2, 1, 3], "descending", True]
    assert told["missing"] == [[1, 2, 3], "ascending", True]
    assert told["last"] == [[2, 1, 3], "descending", True]
    assert told["marked"] == 1
    assert told["open"] == [False, True, False]


@browsed
def test_no_script_but_the_pages_own_runs(three):
    folder, _ = three
    page = sweep_report.write(folder, folder).read_text("utf-8")
    copy = folder / "copy.html"
    copy.write_text(page.replace("</body>", "<script>document.title = 'changed'</script></body>"), "utf-8")
    shown, said = browse(copy, "--dump-dom")
    assert "changed</title>" not in shown
    assert "Content Security Policy" in said[0]
