"""From the number of a check to its verdict, and what a diagnosis says."""

import json
import math

import numpy as np
import pytest

from cwjax.evaluation.diagnosis.checks import (
    MEANINGS,
    VERDICTS,
    Check,
    Cost,
    Definition,
    Diagnosis,
    Measured,
    Skipped,
    judged,
    run,
)
from cwjax.evaluation.diagnosis.diagnose import CHECKS

RULE = Definition(lambda case: case, "a share", warn=0.1, fail=0.5, source="a source", advice="Do this.")

# As the papers that `source` names have them; where it says "ours" they were chosen for this library.
THRESHOLDS = {
    "randomised": (1e-4, 1e-4),
    "batch_dependent": (1e-4, 1e-4),
    "probabilities": (0, 0),
    "zero_gradient": (0, 0.05),
    "saturated_softmax": (0, math.inf),
    "unstable_loss": (0.1, 1.0),
    "not_finite": (0, 0),
    "blind_attack": (0, 0.05),
    "incomplete": (0.05, 0.5),
    "silent_success": (0, 0),
    "unbounded_fails": (0, 0.05),
    "saturated_c": (0.05, 0.5),
    "saturated_tanh": (0.1, 0.5),
    "too_short": (0.01, 0.25),
    "weaker_wins": (0, 0.05),
    "not_monotone": (0, 0.25),
    "lost_by_rounding": (0.1, math.inf),
    "second_look": (0, 0),
}


def test_thresholds_are_those_of_their_sources():
    assert {name: (rule.warn, rule.fail) for name, rule in CHECKS.items()} == THRESHOLDS


def check(number: float, note: str = "", rule: Definition = RULE) -> Check:
    return judged("mine", rule, Measured(number, np.arange(2), np.array([number, 0.5]), note))


@pytest.mark.parametrize(("most", "verdict"), [(0.5, "pass"), (math.nan, "pass"), (0.52, "warn")])
def test_a_pass_that_chance_may_have_made_is_a_warning(most, verdict):
    """On two images that gain 0 % and 52 %, less a standard error is nothing, and proves nothing."""
    found = judged("mine", RULE, Measured(0.0, np.arange(2), np.zeros(2), "mean 0.26 ± 0.26", most=most))
    assert found.verdict == verdict
    few = "2 examples are too few to tell, because chance allows more than 0.5: mean 0.26 ± 0.26"
    assert (found.line() == f"mine: {few} (0: a share)") == (verdict == "warn")
    assert (found.advice == "Attack more examples.") == (verdict == "warn")


@pytest.mark.parametrize(
    ("number", "verdict", "threshold"),
    [
        (0.0, "pass", 0.1),
        (0.1, "pass", 0.1),
        (0.100001, "warn", 0.1),
        (0.5, "warn", 0.1),
        (0.500001, "fail", 0.5),
        (math.inf, "fail", 0.5),
        (math.nan, "fail", 0.5),
    ],
)
def test_a_number_above_a_threshold_has_its_verdict(number, verdict, threshold):
    found = check(number)
    assert (found.verdict, found.threshold) == (verdict, threshold)
    relation = "not above" if verdict == "pass" else "above"
    assert found.line() == f"mine: {number:.3g}, {relation} {threshold:g} on 2 examples (a share)"


def test_a_line_says_what_else_was_seen():
    assert check(0.25, "2 of 8").line() == "mine: 0.25, above 0.1 on 2 examples (a share; 2 of 8)"
    assert judged("mine", RULE, Skipped("no time")).line() == "mine: skipped, no time"
    assert math.isnan(judged("mine", RULE, Skipped("no time")).number)


def test_an_error_is_a_warning_of_at_most_300_letters():
    found = judged("mine", RULE, ValueError("no\n  luck " + 400 * "x"))
    assert found.verdict == "warn"
    assert math.isnan(found.number)
    assert len(found.rows) == len(found.evidence) == 0
    said = "the check broke off, ValueError: no luck "
    assert found.note == said + (300 + len("the check broke off, ") - len(said)) * "x"


def diagnosis(*numbers: float) -> Diagnosis:
    checks = {f"check_{i}": check(number)._replace(name=f"check_{i}") for i, number in enumerate(numbers)}
    checks["left_out"] = judged("left_out", RULE, Skipped("no time"))
    return Diagnosis(checks, Cost(forwards=1200, backwards=7, seconds=2.25), 20)


@pytest.mark.parametrize(
    ("numbers", "verdict"), [((0.0, 0.2, 0.7), "fail"), ((0.2, 0.0), "warn"), ((0.0,), "pass"), ((), "skipped")]
)
def test_the_worst_verdict_is_that_of_all(numbers, verdict):
    assert diagnosis(*numbers).verdict == verdict
    assert diagnosis(*numbers).line().startswith(f"{verdict.upper()}: {MEANINGS[verdict]} (")


def test_nothing_checked_is_a_verdict_too():
    assert Diagnosis({}, Cost(0, 0, 0.0), 20).verdict == "skipped"


def test_a_diagnosis_is_printed_with_the_failures_first():
    assert str(diagnosis(0.2, 0.7, 0.0, 0.6)).splitlines() == [
        "FAIL: do not believe these numbers yet (5 checks: 2 failed, 1 warned, 1 passed, 1 skipped; "
        "1,200 forward and 7 backward passes, 2.2 s).",
        "  fail  check_1: 0.7, above 0.5 on 2 examples (a share). Do this.",
        "  fail  check_3: 0.6, above 0.5 on 2 examples (a share). Do this.",
        "  warn  check_0: 0.2, above 0.1 on 2 examples (a share). Do this.",
    ]


def test_rows_have_the_worst_first():
    rows = diagnosis(0.2, 0.7, 0.0).to_rows()
    assert [row["verdict"] for row in rows] == list(VERDICTS[::-1])
    assert [row["number"] for row in rows] == ["0.7", "0.2", "0", "–"]
    assert [row["threshold"] for row in rows] == ["0.5", "0.1", "0.1", "0.1"]
    assert [row["advice"] for row in rows] == ["Do this.", "Do this.", "", ""]
    assert rows[0]["check"] == "check 1"


def test_what_is_not_finite_is_none_in_json():
    read = json.loads(json.dumps(diagnosis(math.inf, 0.25).to_json(), allow_nan=False))
    assert read["verdict"] == "fail"
    assert read["checks"]["check_0"]["number"] is None
    assert read["checks"]["check_0"]["evidence"] == [None, 0.5]
    assert read["checks"]["check_1"]["number"] == 0.25
    assert read["checks"]["check_1"]["rows"] == [0, 1]
    assert read["cost"] == {"forwards": 1200, "backwards": 7, "seconds": 2.25}


def test_every_rule_is_run_though_one_breaks_off():
    def breaks(case):
        raise KeyError("this")

    checks = run({"one": RULE._replace(measure=breaks), "two": RULE}, Measured(0.0, np.zeros(0, int), np.zeros(0)))
    assert [each.verdict for each in checks.values()] == ["warn", "pass"]
    assert list(checks) == [each.name for each in checks.values()] == ["one", "two"]
