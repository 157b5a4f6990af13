"""What to run next, as the checks of an attack advise it."""

import math
import re
from collections.abc import Sequence

from cwjax.evaluation.diagnosis.case import FEW
from cwjax.lab.attacking.rows import Attacked

_OPTION = re.compile(r"--[a-z][a-z-]*(?: [a-z_]+)?")  # in a sentence: "--box projected"
_DOUBLED = {"search steps": "search_steps", "more steps": "steps"}  # words of an advice -> a setting


def options(attacked: Sequence[Attacked], examples: int, most: int) -> str:
    """The options that the checks with the worst verdict advise: those that they name, or twice as many steps or search
    steps; empty where they advise none. Where examples are too few to tell: at least twice as many, and enough for the
    checks to look at FEW of them.

    Args:
      attacked: what became of the examples.
      examples: that were attacked.
      most: examples that there are.
    """
    found: dict[str, int | None] = {}
    for each in attacked:
        if not each.diagnosis:
            continue
        for worst in each.diagnosis.named(each.diagnosis.verdict):
            if each.diagnosis.checks[worst].unsure:
                more = examples * max(2, math.ceil(FEW * FEW / each.diagnosis.examples))
                found |= {"--examples": min(more, most)} if examples < most else {}
                continue
            advice = each.diagnosis.checks[worst].advice
            named = _OPTION.findall(advice)
            found |= dict.fromkeys(named)
            doubled = next((name for words, name in _DOUBLED.items() if words in advice), "")
            if not named and each.settings.get(doubled):
                flag = f"--{doubled.replace('_', '-')}"
                found[flag] = max(found.get(flag) or 0, 2 * each.settings[doubled])
    return " ".join(flag if number is None else f"{flag} {number}" for flag, number in found.items())
