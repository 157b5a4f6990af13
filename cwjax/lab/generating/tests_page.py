"""The page of `cwjax generate`: what was asked for and met, with pictures of seeds, tests and what each model says."""

from pathlib import Path
from typing import Any

import numpy as np

from cwjax.lab.generating.generated import Generated
from cwjax.lab.generating.settings import OWN
from cwjax.lab.reporting import rendering
from cwjax.lab.reporting.findings import NORMS, length, number
from cwjax.lab.reporting.pictures import MOST, PALE, Picture, Sheet, png

WARNING = (
    "A test that was found shows that the requirement can be met. A requirement without a test is not met by this "
    "search; nothing says that no input meets it."
)
COLUMNS = (
    "asked: requirements. met: a test was found, and does what was asked for. met by a seed: of these, the seed does "
    "it before any change. not met: no test was found. another answer: a model answers the test otherwise than its "
    "seed. Mean distances are from the seeds, over the tests that are no seeds."
)
_SEARCHING = (
    "transforms",
    "weathers",
    "tries",
    "rounds",
    "steps",
    "mutants",
    "epsilon",
)  # settings that decide how much is tried
_ROWS = 200  # of the table of all tests, at most
_OWN = ("transforms", "found by", "wrong mutants", "kept images", "the operator agrees")  # columns of some systems


def write(tests: Generated, out: Path) -> Path:
    """Writes report.html, report.md and the figures. Returns the path of report.html."""
    shots = pictures(tests)
    about = tests.about
    content = {
        "title": about["title"],
        "warning": WARNING,
        "result": sentence(tests),
        "passed_over": passed_over(tests),
        "rows": summary(tests),
        "columns": COLUMNS,
        "pictures": shots,
        "tests": listed(tests),
        "more": max(len(tests.table) - _ROWS, 0),
        "settings": rendering.flat({name: value for name, value in about.items() if name not in ("title", "classes")}),
    }
    files = {picture.file: picture.png for picture in shots}
    return rendering.put(files | rendering.pages("generate", content), out)


def sentence(tests: Generated) -> str:
    """The outcome in a sentence or two."""
    asked, met, already = len(tests.table), int(tests.met.sum()), int(tests.already.sum())
    seeds = f" ({already} more {'is' if already == 1 else 'are'} met by a seed itself)" if already else ""
    what = tests.about.get("what", "")
    looked = f" Looked for: {what}." if what else ""
    none = f" Nothing was found with {_tried(tests)}: try more." if met == already else ""
    return f"{met - already} tests found of {asked} asked for{seeds}.{looked}{none}"


def _tried(tests: Generated) -> str:
    """The settings that decide how much is tried: "--tries 10 (default: 50), --count 4"."""
    settings, own = tests.about["settings"], OWN[tests.about["system"]].values
    told = []
    for name in (each for each in _SEARCHING if each in settings):
        value, default = settings[name], own.get(name)
        if isinstance(value, list) and isinstance(default, list | tuple):
            whole = f"all {len(default)}"
            shown, usual = (" ".join(value) if len(value) < len(default) else f"({whole})"), whole
            other = list(value) != list(default)
        else:
            shown, usual, other = value, default, value != default
        by_itself = f" (default: {usual})" if other else ""
        told.append(f"--{name} {shown}{by_itself}")
    return ", ".join([*told, f"--count {tests.about['count']}"])


def passed_over(tests: Generated) -> str:
    """How many images were no seeds because a model gets them wrong; empty where there were none."""
    wrong = tests.about["misread"]
    if not wrong:
        return ""
    shown = ", ".join(map(str, wrong[:10])) + (", …" if len(wrong) > 10 else "")
    some = "1 image is" if len(wrong) == 1 else f"{len(wrong)} images are"
    return f"{some} no seed, because a model gets it wrong before any change (image {shown})."


def summary(tests: Generated) -> list[dict[str, str]]:
    """A row for each kind of requirement, and for all."""
    kinds = np.asarray(_kinds(tests), object)
    several = list(dict.fromkeys(kinds.tolist()))
    rows = [_summed(kind, tests, kinds == kind) for kind in several] if len(several) > 1 else []
    return [*rows, _summed("all", tests, np.ones(len(kinds), bool))]


def _kinds(tests: Generated) -> list[str]:
    names = tests.table.column_names
    return tests.table["transform"].to_pylist() if "transform" in names else ["all"] * len(tests.table)


def _summed(kind: str, tests: Generated, some: np.ndarray) -> dict[str, str]:
    met, already = tests.met & some, tests.already & some
    new = met & ~already
    row = {
        "requirements": kind,
        "asked": f"{some.sum():,}",
        "met": f"{met.sum():,}",
        "met by a seed": f"{already.sum():,}",
        "not met": f"{(some & ~met).sum():,}",
        "another answer": f"{(_changed(tests) & some).sum():,}",
    }
    means = {f"mean {NORMS[norm][0]}": tests.table[norm].to_numpy()[new] for norm in ("l0", "l2", "linf")}
    return row | {name: number(float(values.mean()) if len(values) else None, 3) for name, values in means.items()}


def _changed(tests: Generated) -> np.ndarray:
    """Tests of which some model says something else than of the seed."""
    pairs = [(tests.table[f"before_{i}"].to_numpy(), tests.table[f"after_{i}"].to_numpy()) for i in _models(tests)]
    return np.asarray(np.stack([before != after for before, after in pairs]).any(0))


def _models(tests: Generated) -> range:
    return range(1, len(tests.about["models"]) + 1)


def listed(tests: Generated) -> list[dict[str, str]]:
    """A row for each of the first tests, to read."""
    rows, classes = [], tests.about["classes"]
    for row in tests.table.slice(0, _ROWS).to_pylist():
        word = "a seed" if row["already"] else "yes" if row["met"] else "no"
        told = {
            "test": str(row["test"]),
            "seed": f"image {row['index']} ({_class(classes, row['label'])})",
            "asked": row["asked"],
            "met": word,
        }
        for i, name in zip(_models(tests), tests.about["models"], strict=True):
            before, after = (_class(classes, row[f"{when}_{i}"]) for when in ("before", "after"))
            told[name] = before if before == after else f"{before} → {after}"
        told |= {name: _worded(row[name]) for name in _OWN if name in row}
        far = row["met"] and not row["already"]
        told |= {NORMS[norm][0]: length(norm, row[norm]) if far else "–" for norm in ("l0", "l2", "linf")}
        rows.append(told)
    return rows


def _worded(value: Any) -> str:
    """A system's own column, to read."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (", ".join(value) if isinstance(value, list) else str(value)) or "–"


def _class(classes: list[str], label: int) -> str:
    return classes[label] if label < len(classes) else str(label)


def pictures(tests: Generated) -> list[Picture]:
    """Some new tests side by side: the seed, the test, the difference, and what each model says of the test."""
    new = np.flatnonzero(tests.met & ~tests.already)
    if tests.seeds.ndim != 4 or not len(new):
        return []
    picked = _spread(new, _kinds(tests))
    seeds, x = tests.seeds[picked], tests.x[picked]
    rows, classes = [tests.table.slice(int(i), 1).to_pylist()[0] for i in picked], tests.about["classes"]
    headings = [_heading(row, len(tests.about["models"]), classes) for row in rows]
    lines = max(heading.count("\n") for heading in headings)
    sheet = Sheet(seeds, (108, 54 + 18 * max(lines - 1, 0)), ["seed", "generated", "difference"], headings)
    delta, norm = x - seeds, tests.about["settings"].get("norm", "linf")
    reach = float(np.abs(delta).max()) or 1.0
    for j, row in enumerate(rows):
        sheet.image(0, j, seeds[j])
        sheet.image(1, j, x[j], length(norm, row[norm]))
        sheet.image(2, j, 0.5 + delta[j] / (2 * reach), cmap="RdBu_r")
        sheet.box(*sheet.place(2, j), 0, edgecolor=PALE, linewidth=0.8)
    several = len(tests.about["models"]) > 1
    names = ", ".join(f"{i}: {name}" for i, name in zip(_models(tests), tests.about["models"], strict=True))
    who = f"each model says of the seed and of the test ({names})" if several else "the model says of seed and test"
    caption = (
        f"Some of the tests that were found. Above: the number of the test, and what {who}. Below a test: the "
        f"{NORMS[norm][0]} norm of its change. In the differences blue and red, or darker and brighter, reach "
        f"−{number(reach, 2)} and +{number(reach, 2)}."
    )
    alt = f"{tests.about['system']}: seeds, generated tests and their differences"
    return [Picture("figures/generated-examples.png", png(sheet.figure), alt, caption)]


def _spread(new: np.ndarray, kinds: list[str]) -> np.ndarray:
    """Of the new tests as many of each kind as of the others, in order."""
    of = np.asarray([kinds[i] for i in new], object)
    turn = np.zeros(len(new), int)  # the first of each kind have 0, the second 1 …
    for kind in dict.fromkeys(of.tolist()):
        turn[of == kind] = np.arange((of == kind).sum())
    return new[np.sort(np.argsort(turn, kind="stable")[:MOST])]


def _heading(row: dict[str, Any], models: int, classes: list[str]) -> str:
    lines = [f"test {row['test']}"] + ([row["transform"]] if "transform" in row else [])
    for i in range(1, models + 1):
        before, after = (_class(classes, row[f"{when}_{i}"]) for when in ("before", "after"))
        said = before if before == after else f"{before} → {after}"
        lines.append(f"{i}: {said}" if models > 1 else said)
    return "\n".join(lines)
