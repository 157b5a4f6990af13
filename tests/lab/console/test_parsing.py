"""A command line is read, or its mistake is one line."""

import dataclasses
import io
import re
import sys
from typing import Annotated, Literal

import pytest

from cwjax.lab.console import parsing
from cwjax.lab.console.parsing import optional


@dataclasses.dataclass(frozen=True)
class Flags:
    """What may be asked for."""

    count: int = 3
    name: Annotated[str | None, optional("WHO", "nobody", help="whose it is")] = None
    place: Annotated[str | None, optional("WHERE", lambda: "here or there")] = None
    silent: Annotated[str | None, optional("WHY")] = None


@dataclasses.dataclass(frozen=True)
class Typed(Flags):
    """And of other types."""

    share: float | Literal["auto"] = "auto"
    some_numbers: tuple[int, ...] = (1, 2)
    pair: tuple[float, ...] = ()
    kind: Annotated[Literal["large", "small"] | None, optional("SIZE")] = None


def test_flags_are_read_and_what_is_left_out_is_none():
    assert parsing.read_type(Flags, []) == Flags()
    assert parsing.read_type(Flags, ["--count", "5", "--name", "me"]) == Flags(count=5, name="me")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "1.5"], ["--count must be a whole number, got 1.5"]),
        (["--count=many"], ["--count must be a whole number, got many"]),
        (["--share", "half"], ["--share must be a number or auto, got half"]),
        (["--some-numbers", "1", "two", "--count", "3"], ["--some-numbers must be whole numbers, got 1 two"]),
        (["--pair", "a", "2"], ["--pair must be numbers, got a 2"]),
        (["--kind", "smal"], ["--kind smal is not known: did you mean small? choose one of large, small"]),
        (["--counts", "5"], ["unexpected --counts", "a value follows its option"]),
        (["--name"], ["--name needs a value"]),
        (["stray"], ["unexpected stray: a value follows its option, as in --out runs/NAME"]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_mistake_is_one_line_without_a_frame_or_advice(arguments, words, encoding, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))  # which decides the frame
    monkeypatch.setattr(sys, "stderr", said := io.StringIO())
    with pytest.raises(ValueError, match=re.escape(words[0])) as raised:
        parsing.read_type(Typed, arguments)
    line = str(raised.value)
    assert all(word in line for word in words)
    assert not set("\n│╭╰─") & set(line)
    assert "----" not in line
    assert "--help" not in line
    assert said.getvalue() == ""


def test_help_says_what_to_give_and_what_holds_otherwise(capsys):
    with pytest.raises(SystemExit) as stop:
        parsing.read_type(Flags, ["--help"])
    assert not stop.value.code
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--name WHO whose it is (default: nobody)" in said
    assert "--place WHERE (default: here or there)" in said
    assert "(default: 3)" in said
    assert said.count("default") == 3  # where the text says it already, nothing is said again
    assert "None" not in said


def test_what_the_parser_itself_raises_is_not_changed():
    def parse(first, *, second):
        raise KeyError(first, second)

    with pytest.raises(KeyError, match=r"\('a', 'b'\)"):
        parsing.read(parse, "a", second="b")
    assert parsing.read(lambda *given, **more: (given, more), 1, two=2) == ((1,), {"two": 2})
