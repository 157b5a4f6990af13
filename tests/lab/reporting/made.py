"""Runs that nobody ran, and their reports, for the tests of reports."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa

from cwjax.lab.files import store
from cwjax.lab.reporting import run_report, verdicts
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


def several() -> list[run_report.Run]:
    """The L2, L0 and L-infinity attacks on the same rows; the last never succeeds."""
    failed = [(*row[:3], INF) for row in TARGETED]
    settings = {"objective": "f6", "steps": 1000, "search_steps": None, "largest_c": 2e6}
    return [
        make_run(TARGETED),
        make_run([(*row[:3], 10 * row[3]) for row in TARGETED], attack="l0", norm="l0", settings=settings),
        make_run(failed, attack="linf", norm="linf", settings=settings | {"largest_c": 20.0}),
    ]
