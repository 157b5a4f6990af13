"""A command line read by tyro, with every mistake as one line."""

import ast
import contextlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from cwjax.lab.console import spelling


def optional(metavar: str, default: str | Callable[[], str] = "", **more: Any) -> Any:
    """What `--help` shows of an argument that may be left out: what to give, and what holds otherwise, where the parser
    alone would show None. For `typing.Annotated`.

    Args:
      metavar: what to give, such as "PATH".
      default: what holds otherwise, in words; or a function that returns it. Empty: the text says it already.
      more: arguments of `tyro.conf.arg`, such as help.
    """

    def hint(_: str) -> str:
        text = default if isinstance(default, str) else default()
        return f"(default: {text})" if text else ""

    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint, **more)


DataFolder = Annotated[Path | None, optional("PATH")]
"""Of a command whose text says where data is kept by default."""


def read(parse: Any, *arguments: Any, **options: Any) -> Any:
    """What `parse`, a function of tyro's, returns of these arguments.

    Raises:
      ValueError: what came is no such command line; in one line, without the parser's frame and advice.
      SystemExit: help was asked for, and is printed.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return parse(*arguments, **options)
    except SystemExit as stop:
        if stop.code:
            raise ValueError(_in_words(complaint.getvalue(), options.get("args") or ())) from None
        raise


def read_type(kind: type, arguments: Sequence[str]) -> Any:
    """A frozen dataclass of the flags in `arguments`. Raises ValueError as `read` does."""
    return read(tyro.cli, kind, args=arguments, prog="cwjax")


_KINDS = {"INT": "whole number", "FLOAT": "number"}  # of a metavar


def _in_words(box: str, given: Sequence[str]) -> str:
    """The parser's complaint without its own words: "--steps must be a whole number, got 1.5"."""
    said = _one_line(box)
    if found := re.match(r"Error parsing (--[\w-]+):", said):
        metavar = re.search(rf"{found[1]} (\S.*?) *[│|]?$", box.partition("helptext")[2], re.MULTILINE)
        return f"{found[1]} must be {_kind(metavar[1] if metavar else '')}, got {_values(found[1], given)}"
    if found := re.match(r"invalid choice '(.*)' for argument '(--[\w-]+)'\. Expected one of (\(.*\))\.", said):
        known = sorted(each for each in ast.literal_eval(found[3]) if each != "None")
        return f"{found[2]} {found[1]} is not known: {spelling.choices(found[1], known)}"
    if found := re.match(r"Missing value for argument '(--[\w-]+)'", said):
        return f"{found[1]} needs a value"
    if found := re.match(r"Unrecognized options: (.*)", said):
        return f"unexpected {found[1]}: a value follows its option, as in --out runs/NAME"
    return said


def _kind(metavar: str) -> str:
    """What a metavar asks for: "a whole number or auto" of "INT|{auto}", "numbers" of "[FLOAT ...]"."""
    several = "..." in metavar
    words = [part.strip("[]{}") for part in metavar.split(" ")[0].split("|")]
    kinds = [f"{'' if several else 'a '}{_KINDS[word]}{'s' * several}" if word in _KINDS else word for word in words]
    return " or ".join(kind for kind in kinds if kind != "None") or "another value"


def _values(flag: str, given: Sequence[str]) -> str:
    """The words behind an option, in the order in which they came."""
    found: list[str] = []
    mine = False
    for word in given:
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            mine = name.replace("_", "-") == flag
            found += [value] if mine and equals else []
        elif mine:
            found.append(word)
    return " ".join(found)


def _one_line(box: str) -> str:
    """What stands below the title and above the next rule. On a terminal without UTF-8 the frame is of ASCII."""
    rows = [row.strip("│ ") for row in box.splitlines() if not row.startswith(("╭", "╰"))]
    rules = [place for place, row in enumerate(rows) if row and not row.strip("─-")]
    title = 2 if rules[:1] == [1] and "╭" not in box else 0
    until = next((place for place in rules if place > title), len(rows))
    return re.sub(r"\s+", " ", " ".join(rows[title:until])).strip() or box.strip()
