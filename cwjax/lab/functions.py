"""MODULE:FUNCTION: a function of the user's own, as the command line names it."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cwjax.arguments import reason_of


def named(flag: str, name: str) -> Callable[..., Any]:
    """The function of this name. Its module may lie in the working folder.

    Args:
      flag: of the command line, for the error: "--model".
      name: MODULE:FUNCTION, such as mynet:model or my.nets:small.

    Raises:
      ValueError: there is no such function, or its module cannot be imported; in one line.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise ValueError(f"{flag} {name} is no MODULE:FUNCTION, such as mynet:model for the function model of mynet.py")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with blamed(flag, name):
        found = getattr(importlib.import_module(module), function)
    if not callable(found):
        raise ValueError(f"{flag} {name} is no function, but of the type {type(found).__name__}")
    return found


@contextlib.contextmanager
def blamed(flag: str, name: str) -> Iterator[None]:
    """Whatever the user's code raises in the block is a ValueError of one line that names the flag. So is sys.exit."""
    try:
        yield
    except (Exception, SystemExit) as error:
        what = reason_of(error) if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{flag} {name}: {' '.join(what.split())}") from error
