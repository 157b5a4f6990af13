"""What a check is, and what came of all of them."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

MEANINGS = {
    "fail": "do not believe these numbers yet",
    "warn": "believe these numbers with care",
    "pass": "nothing speaks against these numbers",
    "skipped": "nothing was checked",
}
"""What each verdict says of the numbers, from the worst to the best."""
VERDICTS = ("skipped", "pass", "warn", "fail")  # from the best to the worst; a skipped check says nothing


class Measured(NamedTuple):
    """What the function of a check returns."""

    number: float  # the larger, the worse
    rows: np.ndarray  # int64 [R]: the examples that were looked at, by their places in the batch
    evidence: np.ndarray  # [R]: of each of them, what the number is made of
    note: str = ""  # what else is worth knowing, in a few words


class Skipped(NamedTuple):
    """What the function of a check returns where it has nothing to go by."""

    reason: str


class Rule(NamedTuple):
    """A check before it is run: a function and what is made of its number."""

    measure: Callable[..., Measured | Skipped]  # (case) -> the number
    what: str  # what the number is: "share of the examples …"
    warn: float  # a larger number is a warning
    fail: float  # a larger number is a failure; inf: never one
    source: str  # of the check and of its threshold
    advice: str  # one sentence


class Check(NamedTuple):
    """One check, after it was run."""

    name: str
    verdict: str  # one of VERDICTS
    number: float  # nan where it was skipped or broke off
    threshold: float  # that the number is above, or else the first that it would have had to be above
    what: str  # what the number is
    note: str  # what else was seen; why it was skipped
    source: str
    advice: str
    rows: np.ndarray  # int64 [R]: the examples that were looked at
    evidence: np.ndarray  # [R]: of each of them

    def meaning(self) -> str:
        """What the number is, and what else was seen."""
        return f"{self.what}; {self.note}" if self.note else self.what

    def line(self) -> str:
        """What was found, on a line: "too_short: 0.02, above 0.01 (mean share by which …; mean 0.03 ± 0.01)"."""
        if self.verdict == "skipped":
            return f"{self.name}: skipped, {self.note}"
        relation = "not above" if self.verdict == "pass" else "above"
        return f"{self.name}: {self.number:.3g}, {relation} {self.threshold:g} ({self.meaning()})"


class Cost(NamedTuple):
    """What the checks spent."""

    forwards: int  # forward passes of the model, on one example each
    backwards: int  # backward passes
    seconds: float  # compiling included


class Diagnosis(NamedTuple):
    """What all checks found. Printed, it is the verdict, and a line for every check that has something to say."""

    checks: dict[str, Check]  # by name, in the order of the table
    cost: Cost

    @property
    def verdict(self) -> str:
        """The worst of all: "fail", "warn" or "pass"."""
        return max((check.verdict for check in self.checks.values()), key=VERDICTS.index, default="skipped")

    def named(self, *verdicts: str) -> list[str]:
        """The checks with one of these verdicts."""
        return [name for name, check in self.checks.items() if check.verdict in verdicts]

    def line(self) -> str:
        """The verdict in a sentence."""
        counts = {verdict: len(self.named(verdict)) for verdict in VERDICTS[::-1]}
        said = {"fail": "failed", "warn": "warned", "pass": "passed", "skipped": "skipped"}
        tally = ", ".join(f"{count} {said[verdict]}" for verdict, count in counts.items() if count)
        head = f"{self.verdict.upper()}: {MEANINGS[self.verdict]}"
        spent = f"{self.cost.forwards:,} forward and {self.cost.backwards:,} backward passes, {self.cost.seconds:.1f} s"
        return f"{head} ({len(self.checks)} checks: {tally}; {spent})."

    def __str__(self) -> str:
        loud = [self.checks[name] for verdict in ("fail", "warn") for name in self.named(verdict)]
        return "\n".join([self.line(), *(f"  {check.verdict}  {check.line()}. {check.advice}" for check in loud)])

    def to_rows(self) -> list[dict[str, str]]:
        """One row a check, the worst first, heading -> text."""
        order = sorted(self.checks.values(), key=lambda check: -VERDICTS.index(check.verdict))
        return [
            {
                "check": check.name.replace("_", " "),
                "verdict": check.verdict,
                "number": "–" if check.verdict == "skipped" else f"{check.number:.3g}",
                "threshold": f"{check.threshold:g}",
                "what the number is": check.meaning(),
                "advice": check.advice if check.verdict in ("fail", "warn") else "",
                "source": check.source,
            }
            for check in order
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything, of types that JSON has: a number that is not finite is None."""
        fields = ("verdict", "number", "threshold", "what", "note", "source", "advice", "rows", "evidence")
        checks = {
            name: {field: _plain(getattr(check, field)) for field in fields} for name, check in self.checks.items()
        }
        return {"verdict": self.verdict, "line": self.line(), "cost": self.cost._asdict(), "checks": checks}


def judged(name: str, rule: Rule, found: Measured | Skipped | Exception) -> Check:
    """The check of what its function returned, or raised. A number that is nan is a failure."""
    none = np.zeros(0, np.int64)
    if isinstance(found, Measured):
        bad, poor = not found.number <= rule.fail, not found.number <= rule.warn
        verdict, threshold = "fail" if bad else "warn" if poor else "pass", rule.fail if bad else rule.warn
    elif isinstance(found, Skipped):
        verdict, threshold, found = "skipped", rule.warn, Measured(math.nan, none, none, found.reason)
    else:  # what was attacked for hours is not to be lost for a check
        said = " ".join(f"{type(found).__name__}: {found}".split())[:300]
        verdict, threshold, found = "warn", rule.warn, Measured(math.nan, none, none, f"the check broke off, {said}")
    return Check(
        name=name,
        verdict=verdict,
        number=found.number,
        threshold=threshold,
        what=rule.what,
        note=found.note,
        source=rule.source,
        advice=rule.advice,
        rows=found.rows,
        evidence=found.evidence,
    )


def run(rules: Mapping[str, Rule], case: Any) -> dict[str, Check]:
    """Every rule on the case, by name. One that raises is a warning that says so."""
    checks = {}
    for name, rule in rules.items():
        try:
            found = rule.measure(case)
        except Exception as error:  # whatever a user's model or attack may raise
            found = error
        checks[name] = judged(name, rule, found)
    return checks


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value.tolist()]
    return None if isinstance(value, float) and not math.isfinite(value) else value
