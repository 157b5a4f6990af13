"""Whether the numbers of a run can be believed: a reader of the file `diagnosis.json` that may lie beside them.

    {"l2": {"line": "WARN: believe these numbers with care (18 checks: …).",
            "verdict": "warn",
            "checks": {"incomplete": {"verdict": "warn", "number": 0.1, "threshold": 0.05, "what": "is the mean …",
                                      "note": "", "advice": "Give the attack more steps.", "source": "…",
                                      "rows": [0, 1], "index": [4250, 4251], "evidence": [0.1, 0.2]}}}}

A verdict is "fail", "warn", "pass" or "skipped"; a number that is not finite is null. `rows` are the places of the
images that were asked, `index` those in their data set. More keys are ignored.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from cwjax.evaluation.diagnosis.checks import MEANINGS
from cwjax.lab.files import store
from cwjax.lab.reporting.findings import number

FILE = "diagnosis.json"
UNCHECKED = (
    "Not checked (--no-checks): nothing says whether these numbers can be believed. To check them, give the same "
    "command without --no-checks and with --overwrite."
)
_WORST_FIRST = list(MEANINGS)


class Verdict(NamedTuple):
    """What was found of one attack."""

    verdict: str  # the worst of all checks
    line: str  # the same in a sentence
    rows: list[dict[str, str]]  # one a check, the worst first, heading -> text
    blamed: list[str]  # the checks that failed, or if none did, warned
    loud: list[str]  # of each of those: "weaker_wins (1 of 5: example 3 …). Do this."
    asked: dict[str, int]  # check -> how many images it looked at


def read(folder: Path) -> dict[str, Verdict]:
    """The verdict of each attack, by name; none if nobody checked. Raises store.CorruptFile where the file is none."""
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        return {name: of(told) for name, told in store.read_json(path).items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise store.CorruptFile(f"{path} is no diagnosis ({error!r}): delete it and run again") from error


class Group(NamedTuple):
    """Those that have one verdict."""

    verdict: str
    meaning: str  # "FAIL: do not believe …"
    places: list[int]
    loud: dict[int, list[str]]  # place -> see `Verdict`


def grouped(found: Mapping[int, Verdict]) -> list[Group]:
    """Verdicts by place, put together: the worst first."""
    groups = {word: [place for place, each in found.items() if each.verdict == word] for word in MEANINGS}
    return [
        Group(word, f"{word.upper()}: {MEANINGS[word]}", places, {place: found[place].loud for place in places})
        for word, places in groups.items()
        if places
    ]


def _asked(check: dict, told: dict) -> str:
    """How many examples a check looked at: "2 of 20"."""
    if not check.get("rows"):
        return "–"
    return f"{len(check['rows'])} of {told['examples']}" if told.get("examples") else str(len(check["rows"]))


def of(told: dict) -> Verdict:
    """What `Diagnosis.to_json` told, to be shown."""
    checks = sorted(told["checks"].items(), key=lambda item: _WORST_FIRST.index(item[1]["verdict"]))
    rows = [
        {
            "check": name.replace("_", " "),
            "verdict": check["verdict"],
            "number": number(check["number"], 3),
            "threshold": number(check["threshold"], 3),
            "examples": _asked(check, told),
            "what the number is": check["what"] + (f" ({check['note']})" if check["note"] else ""),
            "advice": check["advice"] if check["verdict"] in ("fail", "warn") else "",
            "source": check["source"],
        }
        for name, check in checks
    ]
    loudest = [(name, check) for name, check in checks if check["verdict"] == told["verdict"] in ("fail", "warn")]
    loud = [f"{name} ({check['note'] or check['what']}). {check['advice']}" for name, check in loudest]
    asked = {name: len(check["rows"]) for name, check in checks if check.get("rows")}
    blamed = [name for name, _ in loudest]
    return Verdict(str(told["verdict"]), str(told["line"]), rows, blamed, loud, asked)
