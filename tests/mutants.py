"""Would the tests notice? Small faults are put into the core one at a time, and the tests of that file run.

    make mutants                    # 60 mutants drawn with seed 0, about an hour on one core
    make mutants COUNT=20 SEED=3
    python -m tests.mutants --files cwjax/parts/losses.py --count 30

A mutant changes one operator, number or word on one line. Cosmic Ray finds the places and makes the changes. Mutants
are drawn by a seed, at most one a line. Each is written into a copy of the project, where the tests that `mutants.toml`
names for its file run until the first of them fails: the mutant is *killed*. One that no test notices *survived*: write
the test that is missing, or add the mutant to `mutants.toml` with the reason why it changes no result.

Exit code 0 if at least 95 % of the mutants that change a result were killed, and 1 otherwise.
"""

import ast
import contextlib
import dataclasses
import difflib
import math
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import tyro
from cosmic_ray import ast as nodes
from cosmic_ray import plugins
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import TestOutcome

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "tests" / "mutants.toml"
TIMEOUT = "timeout"  # what Cosmic Ray, and pytest-timeout among more, say of tests that they stopped
LEAST = 0.95  # share of the mutants that must be killed

_NOT_COPIED = (".*", "__pycache__", "runs", "data", "dist", "build", "*.egg-info")

# One or two opposites of each operator. All pairs would be ten times as many mutants, most of which break at once.
_BINARY = {"Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul", "FloorDiv": "Mul", "Mod": "FloorDiv", "Pow": "Mul"}
_BINARY |= {"BitAnd": "BitOr", "BitOr": "BitAnd"}
_COMPARISON = {"Lt": "LtE GtE", "LtE": "Lt Gt", "Gt": "GtE LtE", "GtE": "Gt Lt", "Eq": "NotEq", "NotEq": "Eq"}
_COMPARISON |= {"Is": "IsNot", "IsNot": "Is"}
_OTHER = (
    "ReplaceUnaryOperator_Delete_Invert",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_USub",
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "NumberReplacer",
    "ZeroIterationForLoop",
    "ExceptionReplacer",
)
OPERATORS = (
    *(f"ReplaceBinaryOperator_{one}_{other}" for one, other in _BINARY.items()),
    *(f"ReplaceComparisonOperator_{one}_{other}" for one, others in _COMPARISON.items() for other in others.split()),
    *_OTHER,
)
"""The operators of Cosmic Ray that are used, by their names."""

WORDS_OPERATOR = "Words"
_PAIRS = "min max, minimum maximum, any all, argmin argmax, lower upper, low high, zeros ones, zeros_like ones_like"
_WORDS = {pair.split()[0]: pair.split()[1] for pair in _PAIRS.split(", ")}
WORDS = _WORDS | {other: one for one, other in _WORDS.items()}
"""Words of the code that are exchanged for each other."""


class Mutant(NamedTuple):
    """One change of one file."""

    file: str  # from the root of the project
    line: int  # where it begins, from 1
    operator: str  # one of OPERATORS, or WORDS_OPERATOR
    occurrence: int  # which of the places where the operator applies


class Change(NamedTuple):
    """What a mutant does to its file."""

    before: str  # the line or lines that change
    after: str
    original: str  # the whole file
    source: str  # the whole file after it


class Table(NamedTuple):
    """What `mutants.toml` says."""

    tests: dict[str, list[str]]  # the tests of each file, as pytest takes them, the quickest first
    equivalent: dict[tuple[str, str, str], str]  # (file, before, after) -> why no result changes


@dataclasses.dataclass(frozen=True)
class Arguments:
    count: int = 60  # mutants to draw
    seed: int = 0  # of the draw
    limit: float = 900.0  # seconds for the tests of one mutant; beyond, it counts as killed
    files: tuple[str, ...] = ()  # to draw from; without any, all that mutants.toml names


def table() -> Table:
    """Reads `mutants.toml`."""
    read = tomllib.loads(TABLE.read_text())
    equivalent = {
        (each["file"], plain(each["before"]), plain(each["after"])): each["reason"] for each in read["equivalent"]
    }
    return Table(read["tests"], equivalent)


def plain(text: str) -> str:
    """The text without indentation and doubled spaces."""
    return " ".join(text.split())


def drawn(root: Path, files: Iterable[str], count: int, seed: int) -> dict[Mutant, Change]:
    """As many mutants of a project as asked for, each on a line of its own."""
    sources = {file: (root / file).read_text() for file in files}
    every = [mutant for file, source in sources.items() for mutant in mutants(file, source)]
    random.Random(seed).shuffle(every)
    chosen: dict[Mutant, Change] = {}
    lines = set()
    for mutant in every:
        if len(chosen) < count and (mutant.file, mutant.line) not in lines:
            change = changed(mutant, sources[mutant.file])
            if _compiles(change.source):
                chosen[mutant] = change
                lines.add((mutant.file, mutant.line))
    return chosen


def mutants(file: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a file. Annotations and names of types stay as they are, because they change no result."""
    left_alone = list(_annotations(source))
    tree = list(nodes.ast_nodes(nodes.get_ast(source)))
    for name in (*OPERATORS, WORDS_OPERATOR):
        operator = operator_named(name)
        places = ((node, start) for node in tree for start, _ in operator.mutation_positions(node))
        for occurrence, (node, start) in enumerate(places):
            a_separator = node.parent is not None and node.parent.type in ("parameters", "lambdef")  # as in f(*, x)
            if not a_separator and not any(begin <= start < end for begin, end in left_alone):
                yield Mutant(file, start[0], name, occurrence)


def changed(mutant: Mutant, source: str) -> Change:
    """What the mutant does to the source of its file."""
    after = mutate_code(source, operator_named(mutant.operator), mutant.occurrence) or source
    lines = list(difflib.unified_diff(source.splitlines(), after.splitlines(), n=0, lineterm=""))[3:]
    before, then = ("\n".join(each[1:] for each in lines if each[0] == sign) for sign in "-+")
    return Change(before, then, source, after)


def operator_named(name: str) -> Any:
    """An operator of Cosmic Ray, or the one that exchanges words."""
    return Words() if name == WORDS_OPERATOR else plugins.get_operator(f"core/{name}")()


class Words(Operator):
    """Exchanges a word that is used, and neither defined nor the keyword of an argument."""

    def mutation_positions(self, node) -> Any:
        used = node.type == "name" and not node.is_definition()
        if used and node.value in WORDS and not (node.parent.type == "argument" and node.parent.children[0] is node):
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        node.value = WORDS[node.value]
        return node

    @classmethod
    def examples(cls) -> Any:
        return ()


def _annotations(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations, and unions of types that are given a name, begin and end: lines and columns."""
    for node in ast.walk(ast.parse(source)):
        found = [getattr(node, field, None) for field in ("annotation", "returns")]
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr):
            found += [node.value] if node.col_offset == 0 else []
        for each in found:
            if isinstance(each, ast.expr):
                yield (each.lineno, each.col_offset), (each.end_lineno or 0, each.end_col_offset or 0)


def _compiles(source: str) -> bool:
    try:
        compile(source, "a mutant", "exec")
    except SyntaxError:
        return False
    return True


def main(arguments: Arguments) -> int:
    """Draws, runs and tells. Returns the exit code."""
    known = table()
    for file in arguments.files:
        if file not in known.tests:
            raise SystemExit(f"{file} has no row in {TABLE}: give its tests there")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*_NOT_COPIED))
        chosen = drawn(copy, arguments.files or known.tests, arguments.count, arguments.seed)
        print(f"{len(chosen)} mutants, seed {arguments.seed}", flush=True)
        lived, noticed = [], {}
        with contextlib.chdir(copy), mock.patch.dict(os.environ, PYTHONPATH=str(copy)):
            for place, (mutant, change) in enumerate(chosen.items(), 1):
                began, file = time.monotonic(), copy / mutant.file
                file.write_text(change.source)
                failed = first_failure(known.tests[mutant.file], arguments.limit)
                file.write_text(change.original)
                if failed is None:
                    lived.append(mutant)
                elif failed != TIMEOUT:
                    noticed[failed] = None
                where = f"{place}/{len(chosen)}  {mutant.file}:{mutant.line}  {time.monotonic() - began:.0f} s"
                verdict = f"killed by {failed}" if failed else "SURVIVED"
                print(f"{where}  {verdict}  {plain(change.after)}", flush=True)
            if noticed and (failed := first_failure(noticed, math.inf)):
                raise SystemExit(f"{failed} fails without a mutant too: nothing can be said of what it killed")
    return tell(chosen, lived, known)


def first_failure(tests: Iterable[str], limit: float) -> str | None:
    """The first of the tests that fails; TIMEOUT where one does not end or all take more than so many seconds; None
    where they pass.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--tb=no",
        "--timeout=200",
        "--timeout-method=thread",
        *tests,
    ]
    outcome, output = run_tests(shlex.join(command), limit if math.isfinite(limit) else None)
    if outcome is TestOutcome.SURVIVED:
        return None
    failed = [line.split(" - ")[0].split(" ", 1)[1] for line in output.splitlines() if line[:6] in ("FAILED", "ERROR ")]
    if failed or TIMEOUT in output.lower():
        return failed[0] if failed else TIMEOUT
    raise SystemExit(f"pytest said nothing that can be understood:\n{output}")


def tell(chosen: dict[Mutant, Change], lived: list[Mutant], known: Table) -> int:
    """Prints the table of what was killed and what survived. Returns the exit code."""
    missing = 0
    for mutant in lived:
        change = chosen[mutant]
        reason = known.equivalent.get((mutant.file, plain(change.before), plain(change.after)))
        missing += reason is None
        print(f"\n{mutant.file}:{mutant.line} survived: {reason or 'a test is missing'}")
        print(f"- {change.before}\n+ {change.after}")
    equivalent = len(lived) - missing
    share = 1 - missing / max(len(chosen) - equivalent, 1)
    print("\n| mutants | killed | survived | of these equivalent | killed of those that change a result |")
    print("| --- | --- | --- | --- | --- |")
    print(f"| {len(chosen)} | {len(chosen) - len(lived)} | {len(lived)} | {equivalent} | {100 * share:.1f} % |")
    return 0 if share >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments, description=__doc__)))
