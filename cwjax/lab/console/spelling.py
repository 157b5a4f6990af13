"""Mistakes in the words of a command line, told before anything is computed: what is near, and what is elsewhere.

It imports nothing but Python's own library, so that a misspelt command does not wait for others.
"""

import dataclasses
import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_type_hints

COMMANDS = ("attack", "verify", "report", "sweep", "results", "race", "train", "cover", "generate", "demo", "doctor")
_HELP = {"-h", "--help"}
_OPTION = re.compile(r"--([A-Za-z][\w-]*)(=.*)?")
_ALIKE = ({"examples", "count"}, {"attack", "attacks"})  # options that commands call differently


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is nearest; empty where none is near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")


def near(name: str, known: Iterable[str]) -> str:
    """'did you mean NAME? ', of the known name that is nearest; empty where none is near."""
    found = nearest(name.lower(), known)
    return f"did you mean {found}? " if found else ""


def choices(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """What to choose instead of a name that is not known: "did you mean NAME? choose one of …"."""
    return f"{near(name, known)}choose one of {', '.join(known)}"


def check_command(given: Sequence[str]) -> None:
    """Raises ValueError where the first word is no command."""
    if given and not given[0].startswith("-") and given[0] not in COMMANDS:
        raise ValueError(f"no command {given[0]}: {near(given[0], COMMANDS)}Commands: {', '.join(COMMANDS)}")


def check_options(given: Sequence[str], commands: Mapping[str, Callable[..., None]]) -> None:
    """Raises ValueError where a command has no such option, or lacks what it needs; it then says where the option is,
    what it is called here, or gives the command's own example.
    """
    name, *words = given or [""]
    if name not in commands or _HELP & set(words):
        return
    own = options(commands[name])
    asked = [match[1].replace("_", "-") for word in words if (match := _OPTION.fullmatch(word))]
    if unknown := [each for each in dict.fromkeys(asked) if each not in own]:
        known = {command: options(function) for command, function in commands.items()}
        wrong = ", and no ".join(f"--{each}{_hint(each, name, known)}" for each in unknown)
        raise ValueError(f"{name} has no {wrong}: see `cwjax {name} --help`")
    missing = [each for each in _needed(commands[name]) if each.lstrip("-") not in asked]
    if missing and (not words or missing[0].startswith("-")):
        example = re.search(rf"^ *(cwjax {name} .*)$", inspect.getdoc(commands[name]) or "", re.MULTILINE)
        more = f", for instance: {example[1]}" if example else ""
        raise ValueError(f"{name} needs {' and '.join(missing)}{more}")


def _hint(option: str, command: str, known: Mapping[str, set[str]]) -> str:
    """What to do instead, in brackets; empty where nothing is near."""
    own = known[command]
    called = [each for names in _ALIKE if option in names for each in names & own]
    if called:
        return f" (it is --{called[0]} here)"
    elsewhere = [f"`cwjax {other}`" for other, options in known.items() if option in options]
    if meant := nearest(option, sorted(own)):
        return f" (did you mean --{meant}?)"
    return f" ({' and '.join(elsewhere)} {'have' if len(elsewhere) > 1 else 'has'} it)" if elsewhere else ""


def options(command: Callable[..., None]) -> set[str]:
    """The options of a command, those of its settings among them, without --."""
    found = set()
    for name, kind in _parameters(command):
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        hints = get_type_hints(kind) if fields else {name: kind}
        flags = {each.replace("_", "-"): hint for each, hint in hints.items()}
        found |= flags.keys() | {f"no-{flag}" for flag, hint in flags.items() if hint is bool}
    return found


def _parameters(command: Callable[..., None]) -> list[tuple[str, Any]]:
    hints = get_type_hints(command)
    return [(name, hints[name]) for name in inspect.signature(command).parameters]


def _needed(command: Callable[..., None]) -> list[str]:
    """What cannot be left out: "--out" of an option, "FOLDER" of a place."""
    given = inspect.signature(command).parameters
    return [
        f"--{name.replace('_', '-')}" if each.kind is each.KEYWORD_ONLY else name.upper()
        for name, each in given.items()
        if each.default is each.empty
    ]
