"""A command line read by tyro, with every mistake as one line."""

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro


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
            raise ValueError(_one_line(complaint.getvalue())) from None
        raise


def read_type(kind: type, arguments: Sequence[str]) -> Any:
    """A frozen dataclass of the flags in `arguments`. Raises ValueError as `read` does."""
    return read(tyro.cli, kind, args=arguments, prog="cwjax")


def _one_line(box: str) -> str:
    """What stands below the title and above the next rule. On a terminal without UTF-8 the frame is of ASCII."""
    rows = [row.strip("│ ") for row in box.splitlines() if not row.startswith(("╭", "╰"))]
    rules = [place for place, row in enumerate(rows) if row and not row.strip("─-")]
    title = 2 if rules[:1] == [1] and "╭" not in box else 0
    until = next((place for place in rules if place > title), len(rows))
    return re.sub(r"\s+", " ", " ".join(rows[title:until])).strip() or box.strip()
