"""Docstrings of public names: complete, with an example that runs and the source of what was published."""

import contextlib
import doctest
import functools
import importlib
import inspect
import re
import types
from typing import Any

import jax
import pytest

from tests import public

MODULES = public.modules()
PARTS = ("Attack", "Rule", "Objective", "Search", "Box", "Criterion", "Defended", "Relation", "GradientTransformation")
"""What a function makes, that somebody published. One that takes such a part wraps it, and is ours."""

CITED = re.compile(r"[A-Z]\w+(?: et al\.)?,? \(?(?:19|20)\d\d\b|\bsections? [IVX]+\b")
"""A name and a year, or a section of the paper."""

COMPILES = re.compile(r"\b(?:batched|streamed|traced|lanes|sharded|diagnose)\(|attack\.step|\brun\(|updates")
"""What takes a second to compile: an attack, a network that learns. Their examples are for `make test-all`."""
SLOW = (  # likewise
    *("cwjax.evaluation.fewest_changes", "cwjax.parts.losses.softened_margin", "cwjax.parts.objectives.ctc"),
    *("cwjax.parts.lattices.Lattice", "cwjax.parts.lattices.check_on", "cwjax.generation.deeptest.guided"),
    *("cwjax.generation.mutations.transformed", "cwjax.generation.transforms.blurred", "cwjax.adapters.from_linen"),
    *("cwjax.generation.metamorphic.error_kept", "cwjax.adapters.from_sklearn", "cwjax.coverage.Criterion"),
    *("cwjax.generation.metamorphic.outputs_kept", "cwjax.generation.metamorphic.label_kept"),
    *("cwjax.generation.transforms.translated", "cwjax.generation.transforms.rained"),
    *("cwjax.generation.constraints.blackout", "cwjax.generation.deepfault.suspects_of"),
    *("cwjax.generation.deepconcolic.boundary_cover", "cwjax.defences.mean_discrepancy"),
)


def described() -> dict[str, tuple[types.ModuleType, Any]]:
    """By its first name, every public function and type, and the module that has that name."""
    found, known = {}, set()
    for where, module in MODULES.items():
        for name in public.names(module):
            try:
                value = getattr(module, name)
            except ImportError:  # an adapter whose framework is not installed
                continue
            if callable(value) and value not in known:
                known.add(value)
                found[f"{where}.{name}"] = module, value
    return found


DESCRIBED = described()
VALUES = {name: value for name, (_, value) in DESCRIBED.items()}
FUNCTIONS = {name: value for name, value in VALUES.items() if inspect.isfunction(value)}


def listed(names: list[str]) -> None:
    """Fails with every name."""
    assert not names, "\n".join(names)


def needs_example(value) -> bool:
    """A function, or a type with something to call: a method, or a field that is a function. Others are records."""
    if inspect.isfunction(value):
        return True
    own = [each for name, each in vars(value).items() if not name.startswith("_") or name == "__call__"]
    fields = getattr(value, "__annotations__", {}).values()
    return any(inspect.isfunction(each) or isinstance(each, property) for each in own) or "Callable" in str([*fields])


def returned(function) -> str:
    """The type that a function says it returns: its name, or all of it where it has parameters."""
    kind = function.__annotations__.get("return")
    return str(kind) if getattr(kind, "__args__", None) else getattr(kind, "__name__", str(kind))


def makes_a_part(function) -> bool:
    """Whether it makes one of the parts, and not of another one that it has to be given."""
    needed = [each.annotation for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    return returned(function) in PARTS and not re.search(rf"\b({'|'.join(PARTS)})\b", str(needed))


def section(value, title: str) -> str:
    """The lines of a section of its docstring; empty if there is none."""
    found = re.search(rf"^{title}:.*\n((?:  .*\n?|\n)+)", inspect.getdoc(value) or "", re.MULTILINE)
    return found.group() if found else ""


def told(function) -> set[str]:
    """The arguments that its docstring names."""
    names = re.findall(r"^  \**(\w+(?:, \**\w+)*):", section(function, "Args"), re.MULTILINE)
    return {each.strip(" *") for several in names for each in several.split(",")}


def examples(value) -> list[doctest.Example]:
    """Its example; none where the section is missing, or shows nothing that comes out."""
    found = doctest.DocTestParser().get_examples(section(value, "Example"))
    return found if any(each.want for each in found) else []


def slow(name: str) -> bool:
    """Whether its example is left to `make test-all`."""
    return name in SLOW or bool(COMPILES.search(section(VALUES[name], "Example")))


def ran(value, names: dict[str, object], name: str) -> dict[str, object]:
    """Its example comes to what it says; what is defined then."""
    shown = examples(value)
    frameworks = re.findall(r"^(?:import|from) (\w+)", "".join(each.source for each in shown), re.MULTILINE)
    for framework in frameworks:
        pytest.importorskip(framework)
    said: list[str] = []
    test = doctest.DocTest(shown, names, name, None, None, None)
    with jax.numpy_rank_promotion("allow") if frameworks else contextlib.nullcontext():  # theirs may promote
        doctest.DocTestRunner(verbose=False).run(test, out=said.append, clear_globs=False)
    assert not said, "".join(said)
    return test.globs


@functools.cache
def opening(where: str) -> dict[str, object]:
    """What the docstring of a module, and of those that it is in, defines for the examples."""
    outer, _, _ = where.rpartition(".")
    return ran(importlib.import_module(where), opening(outer) if outer else {}, where)


def test_the_first_line_stands_alone():
    """It is a sentence, which ends there, and not Python's own for a NamedTuple."""
    bad = []
    for name, value in VALUES.items():
        first = (inspect.getdoc(value) or "").split("\n\n")[0].rstrip()
        sentence = re.fullmatch(r'[A-Z1-9ftk`|].*[.:`")]', first)  # . is no newline
        if len(first) < 15 or first.startswith(f"{value.__name__}(") or not sentence:
            bad.append(f"{name}: {first}")
    listed(bad)


def test_every_argument_is_told():
    """By its name, or by that of the function whose arguments it has."""
    others = {name for name, value in FUNCTIONS.items() if "as for `" in section(value, "Args").partition("\n")[0]}
    lacks = {name: {*inspect.signature(value).parameters} - told(value) for name, value in FUNCTIONS.items()}
    listed([f"{name}: {missing}" for name, missing in lacks.items() if missing and name not in others])


def test_the_arguments_that_a_docstring_names_are_there():
    found = {name: told(value) - {*inspect.signature(value).parameters} for name, value in FUNCTIONS.items()}
    listed([f"{name}: {unknown}" for name, unknown in found.items() if unknown])


def test_what_is_returned_is_told():
    """Where it is a function, a tuple or a dictionary: the first line names any other."""
    several = re.compile(r"(?:collections\.abc\.)?Callable|tuple\[|dict\[")
    bad = [name for name, value in FUNCTIONS.items() if several.match(returned(value))]
    listed([name for name in bad if not section(FUNCTIONS[name], "Returns")])


def test_everything_that_can_be_called_has_an_example():
    listed([name for name, value in VALUES.items() if needs_example(value) and not examples(value)])


def test_what_was_published_is_referred_to():
    bad = []
    for name, value in VALUES.items():
        text = (inspect.getdoc(value) or "").replace("\n", " ").partition(" Example:")[0]
        published = CITED.search(text) or (inspect.isfunction(value) and makes_a_part(value))
        if published and not section(value, "References"):
            bad.append(name)
    listed(bad)


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize("where", MODULES)
def test_the_opening_of_a_module_says_what_comes_out(where):
    opening(where)


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long) if slow(name) else name
        for name, value in VALUES.items()
        if examples(value)
    ],
)
def test_the_example_says_what_comes_out(name):
    module, value = DESCRIBED[name]
    ran(value, opening(module.__name__), name)
