"""What a check is, and what came of all of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike

from cwjax.words import shortened

MEANINGS = {
    "fail": "do not believe these numbers yet",
    "warn": "believe these numbers with care",
    "pass": "nothing speaks against these numbers",
    "skipped": "nothing was checked",
}
"""What each verdict says of the numbers, from the worst to the best."""
VERDICTS = ("skipped", "pass", "warn", "fail")  # from the best to the worst; a skipped check says nothing


ENOUGH = 20
"""Examples: below, one example is more than 5 % of them, so no check fails by a single one."""
_NAMED = 3  # examples that a line names
_MORE = "Attack more examples."


class Measured(NamedTuple):
    """What the function of a check returns. `of_examples` makes one of a value for each example."""

    number: float  # the larger, the worse
    rows: np.ndarray  # int64 [R]: the examples that were looked at, by their places in the batch
    evidence: np.ndarray  # [R]: of each of them, what the number is made of
    note: str = ""  # what else is worth knowing, in a few words
    without: float = math.nan  # the number without the one example that raises it most; nan: it has none
    each: np.ndarray = np.zeros(0)  # float [R]: how loudly each of them speaks against the result; empty: nobody said
    details: Mapping[str, Sequence[Any]] = MappingProxyType({})  # more about each of them [R], by name
    told: Sequence[str] = ()  # [R]: what a line says of each of them after its name
    most: float = math.nan  # the largest value that chance allows for the number; nan: not known


def of_examples(
    each: ArrayLike,
    rows: np.ndarray,
    evidence: np.ndarray | None = None,
    note: str = "",
    *,
    of: Callable[[np.ndarray], float] | None = None,
    details: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    told: Sequence[str] = (),
) -> Measured:
    """A number that is made of examples.

    Args:
      each: [R]: how loudly each example speaks against the result, such as 1 where it was beaten and 0 elsewhere.
      rows: int64 [R]: their places in the batch.
      evidence: [R]: what to keep of each of them, by default `each`.
      note: see `Measured`.
      of: the number of some of the examples, given their places in `each`; by default the mean of `each`.
      details: see `Measured`.
      told: see `Measured`.
    """
    each, everyone = np.asarray(each, float), np.arange(len(rows))
    number = of or (lambda some: float(each[some].mean()) if len(some) else 0.0)
    others = [np.delete(everyone, one) for one in everyone] if len(rows) < ENOUGH else []
    without = [number(some) if len(some) else 0.0 for some in others]
    return Measured(
        number=number(everyone) if len(rows) else 0.0,
        rows=rows,
        evidence=each if evidence is None else evidence,
        note=note,
        without=min(without, default=math.nan),
        each=each,
        details=details,
        told=told,
    )


class Skipped(NamedTuple):
    """What the function of a check returns where it has nothing to go by."""

    reason: str


class Definition(NamedTuple):
    """A check before it is run: a function and what is made of its number."""

    measure: Callable[..., Measured | Skipped]  # (case) -> the number
    what: str  # what the number is: "share of the examples …"
    warn: float  # a larger number is a warning
    fail: float  # a larger number is a failure; inf: never one
    source: str  # of the check and of its threshold
    advice: str | Callable[..., str]  # one sentence; or (case) -> the one that fits the attack in hand


class Check(NamedTuple):
    """One check, after it was run.

    Example:
      >>> attack = cw.attacks.ddn(steps=10)
      >>> result = jax.jit(cw.batched(attack))(model, keys, x, goal)
      >>> check = cw.diagnose(model, attack, x, goal, result, jax.random.key(0)).checks["not_finite"]
      >>> check.verdict, check.number
      ('pass', 0.0)
    """

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
    indices: np.ndarray  # int64 [R]: their places in their source
    details: Mapping[str, Sequence[Any]]  # more about each of them [R], by name

    @property
    def unsure(self) -> bool:
        """Whether it warns because its examples are too few to tell; its number is then not above the threshold."""
        return self.verdict == "warn" and self.number <= self.threshold

    def meaning(self) -> str:
        """What the number is, and what else was seen."""
        return f"{self.what}; {self.note}" if self.note else self.what

    def line(self) -> str:
        """What was found, on a line: "too_short: 0.02, above 0.01 on 2 examples (mean share by which …; …)"."""
        if self.verdict == "skipped":
            return f"{self.name}: skipped, {self.note}"
        if self.unsure:
            return f"{self.name}: {self.note} ({self.number:.3g}: {self.what})"
        relation = "not above" if self.number <= self.threshold else "above"
        asked = f" on {_counted(len(self.rows))}" if len(self.rows) else ""
        return f"{self.name}: {self.number:.3g}, {relation} {self.threshold:g}{asked} ({self.meaning()})"


class Cost(NamedTuple):
    """What the checks spent."""

    forwards: int  # forward passes of the model, on one example each
    backwards: int  # backward passes
    seconds: float  # compiling included


class Diagnosis(NamedTuple):
    """What all checks found. Printed, it is the verdict, and a line for every check that has something to say.

    Example:
      >>> attack = cw.attacks.ddn(steps=10)
      >>> result = jax.jit(cw.batched(attack))(model, keys, x, goal)
      >>> diagnosis = cw.diagnose(model, attack, x, goal, result, jax.random.key(0))
      >>> diagnosis.verdict, len(diagnosis.to_rows()) == len(diagnosis.checks)
      ('fail', True)
    """

    checks: dict[str, Check]  # by name, in the order of the table
    cost: Cost
    examples: int  # in the batch

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
        few = f" on {_counted(self.examples)}, which say little" if self.examples < ENOUGH else ""
        return f"{head} ({len(self.checks)} checks{few}: {tally}; {spent})."

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
                "examples": f"{len(check.rows)} of {self.examples}",
                "what the number is": check.meaning(),
                "advice": check.advice if check.verdict in ("fail", "warn") else "",
                "source": check.source,
            }
            for check in order
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything, of types that JSON has: a number that is not finite is None."""
        fields = ("verdict", "number", "threshold", "what", "note", "source", "advice", "rows", "indices", "evidence")
        checks = {
            name: {field.replace("indices", "index"): _plain(getattr(check, field)) for field in fields}
            | {field: [_plain(each) for each in values] for field, values in check.details.items()}
            for name, check in self.checks.items()
        }
        told = {"verdict": self.verdict, "line": self.line(), "examples": self.examples}
        return told | {"cost": self.cost._asdict(), "checks": checks}


def judged(
    name: str,
    rule: Definition,
    found: Measured | Skipped | Exception,
    index: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> Check:
    """The check of what its function returned, or raised. A number that is nan is a failure.

    On fewer than ENOUGH examples, what fails by a single one of them is a warning. So is a pass, if chance allows a
    failure.

    Args:
      name: of the check.
      rule: that was measured.
      found: what its function returned, or raised.
      index: [B]: the place of every example in its source; None: that in the batch.
      names: [B]: what a line calls every example; None: its index.
    """
    none = np.zeros(0, np.int64)
    advice = rule.advice if isinstance(rule.advice, str) else ""
    if isinstance(found, Measured):
        bad, poor = not found.number <= rule.fail, not found.number <= rule.warn
        verdict, threshold = "fail" if bad else "warn" if poor else "pass", rule.fail if bad else rule.warn
        if poor and (named := _named(found, rule.warn, index if names is None else names)):
            found = found._replace(note=f"{found.note}: {named}" if found.note else named)
        if bad and found.without <= rule.fail:
            few = (
                f"{_counted(len(found.rows))} are too few to fail by one" if len(found.rows) > 1 else "one example only"
            )
            verdict, found = "warn", found._replace(note=f"{found.note}; {few}")
        elif not poor and found.most > rule.fail:
            verdict, threshold = "warn", rule.fail
            few = f"{_counted(len(found.rows))} are too few to tell, because chance allows more than {threshold:g}"
            found, advice = found._replace(note=f"{few}: {found.note}" if found.note else few), _MORE
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
        advice=advice,
        rows=found.rows,
        evidence=found.evidence,
        indices=found.rows if index is None else index[found.rows],
        details=found.details,
    )


def run(
    rules: Mapping[str, Definition],
    case: Any,
    *,
    index: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    watch: Callable[[str, int, int], Any] = lambda name, place, of: None,
) -> dict[str, Check]:
    """Every rule on the case, by name. One that raises is a warning that says so.

    Args:
      rules: by name.
      case: that they are handed.
      index: see `judged`.
      names: see `judged`.
      watch: is told the name of each check before it is run, its place from 0, and how many there are.
    """
    checks = {}
    for place, (name, rule) in enumerate(rules.items()):
        watch(name, place, len(rules))
        try:
            found = rule.measure(case)
        except Exception as error:  # whatever a user's model or attack may raise
            found = error
        check = judged(name, rule, found, index, names)
        if not isinstance(rule.advice, str) and check.verdict in ("warn", "fail") and not check.unsure:
            try:
                check = check._replace(advice=rule.advice(case))
            except Exception as error:  # it may ask the model or the attack once more
                check = check._replace(advice=f"No advice: {type(error).__name__}: {error}.")
        checks[name] = check
    return checks


def _counted(examples: int) -> str:
    return f"{examples:,} example{'s' * (examples != 1)}"


def _named(found: Measured, above: float | int, names: Sequence[Any] | np.ndarray | None) -> str:
    """The examples that speak against the result, the loudest first: "example 4283", "examples 3, 17, 5 and 2 more"."""
    loud = [place for place in np.argsort(-found.each, kind="stable") if not found.each[place] <= above]
    if not loud:
        return ""
    called = found.rows if names is None else [names[row] for row in found.rows]
    *some, last = shortened([f"{called[at]}{f' {found.told[at]}' if found.told else ''}" for at in loud], _NAMED)
    comma, conjunction = ("; ", "; ") if found.told else (", ", " and ")
    return f"example{'s' * (len(loud) > 1)} {comma.join(some)}{conjunction if some else ''}{last}"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value.tolist()]
    return None if isinstance(value, float) and not math.isfinite(value) else value
