"""The numbers of a report, counted by hand, and how they are read."""

import numpy as np
import pyarrow as pa
import pytest

from cwjax.lab.reporting import findings
from tests.lab.reporting.made import INF, TARGETED, UNTARGETED, make_run


def test_the_three_cases_are_those_counted_by_hand():
    best, average, worst = findings.summary_rows(make_run(TARGETED))

    assert [row["case"] for row in (best, average, worst)] == ["best", "average", "worst"]
    assert [row["rows"] for row in (best, average, worst)] == [3, 9, 3]
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
        findings.summary_rows(make_run(shuffled)), findings.summary_rows(make_run(TARGETED)), strict=True
    ):
        for heading in ("case", "rows", "success %", "mean L2", "median distance", "mean L1"):
            assert row[heading] == pytest.approx(expected[heading])


def test_one_target_for_each_example_is_one_row():
    (row,) = findings.summary_rows(make_run(UNTARGETED))
    assert row["case"] == "all attacks"
    assert row["rows"] == 14
    assert row["success %"] == pytest.approx(1300 / 14)
    assert row["median distance"] == 8


def test_untargeted_rows_are_no_case_of_the_targeted():
    rows = findings.summary_rows(make_run([*TARGETED, (5, 0, -1, 0.5)]))
    assert [row["rows"] for row in rows] == [10, 3, 9, 3]
    assert rows[1]["mean L2"] == pytest.approx(3.0)


def test_numbers_are_shown_as_one_reads_them():
    row = {"case": "all", "rows": 12345, "success %": 99.98, "mean L2": 1.5, "forwards": 1234.56, "seconds": None}
    assert list(findings.shown(row).values()) == ["all", "12,345", "99.9", "1.500", "1,235", "–"]
    assert findings.shown({"mean L2": float("nan")}) == {"mean L2": "–"}


def answered(rows, answers) -> findings.Run:
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
                "2 of the 4 images were misclassified before any attack, and count all the same. "
                "To leave them out: cwjax attack --only-correct.",
                "Two means: 1.33 over the 3 that succeeded (the 2 that the model already gets wrong count as 0), 4.00 "
                "over the 1 that it gets right.",
            ],
        ),
        (
            [(0, 0, -1, 0.5), (1, 1, -1, 3.5)],  # with a confidence, what is misclassified has a way to go
            [5, 1],
            [
                "1 of the 2 images was misclassified before any attack, and counts all the same. "
                "To leave them out: cwjax attack --only-correct.",
                "Two means: 2.00 over all 2 (the 1 that the model already gets wrong is among them), 3.50 over the 1 "
                "that it gets right.",
            ],
        ),
        (
            [(0, 0, -1, 0.0), (1, 1, -1, 0.0), (2, 2, -1, INF)],
            [5, 5, 2],
            [
                "2 of the 3 images were misclassified before any attack, and count all the same. That is most of them: "
                "is the model trained, and are pixels scaled as it takes them? To leave them out: cwjax attack "
                "--only-correct.",
                "The mean is 0.00 over the 2 that succeeded (the 2 that the model already gets wrong count as 0). No "
                "image that the model gets right was fooled, so there is no mean without them.",
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


def test_where_rows_failed_it_is_said_what_distances_are_of():
    assert findings.of_successes([{"success %": 100.0}]) == ""
    assert "over the successes alone" in findings.of_successes([{"success %": 100.0}, {"success %": 50.0}])
