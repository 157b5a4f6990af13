"""The list of the fast attacks' tuned numbers, against the code, and what changes one of them."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import cwjax as cw
from benchmarks import tuned
from cwjax.attacks.fast import shrink, slide
from tests.attacks.fast import made

PAGE = Path(str(tuned.__file__)).with_suffix(".md").read_text()
GUARDS = ("legs._MOST_POWERS", "shrink._LIMITS_OF_C", "proximal._EPS")


def numbers_in(whole, path):
    """The path of every number in a constant of a module."""
    if isinstance(whole, bool):
        return
    if isinstance(whole, int | float):
        yield path
    elif isinstance(whole, dict):
        for key, part in whole.items():
            yield from numbers_in(part, f"{path}.{key}")
    elif isinstance(whole, tuple):
        for place, part in enumerate(whole):
            yield from numbers_in(part, f"{path}.{getattr(whole, '_fields', range(len(whole)))[place]}")


def test_every_constant_of_the_fast_family_is_on_the_list():
    assigned = {
        name: re.findall(r"^(\w+(?:, \w+)*) = ", Path(str(module.__file__)).read_text(), re.MULTILINE)
        for name, module in tuned.MODULES.items()
    }
    found = {
        path
        for module, lines in assigned.items()
        for line in lines
        for name in line.split(", ")
        for path in numbers_in(getattr(tuned.MODULES[module], name), f"{module}.{name}")
        if not path.startswith(GUARDS)
    }
    found -= {f"attacks.FAMILY.{norm}.clean" for norm in ("linf", "l1", "l0")}  # where 1 is the default
    assert found == set(tuned.NUMBERS)


def test_the_page_has_every_number_as_it_is():
    rows = dict(re.findall(r"^\| \d+ \| `([\w.]+)` \| ([^|]+) \|", PAGE, re.MULTILINE))
    assert rows == {path: f"{tuned.value_of(path):.4g}" for path in tuned.NUMBERS}


@pytest.mark.parametrize(
    ("path", "factor", "value"),
    [
        ("legs.TRIES", 0.5, 2),  # whole numbers stay whole
        ("slide._SEEKING.decay", 2.0, 0.95),
        ("slide._FROM_LABEL.decay", 0.5, 0.0),  # what cannot be less is 0
        ("shrink._DEPTH", 2.0, 200.0),
    ],
)
def test_half_and_twice(path, factor, value):
    assert tuned.changed(tuned.NUMBERS[path], factor) == pytest.approx(value)


def test_a_number_is_set_within_the_block_only():
    before = slide._FROM_LABEL
    with tuned.numbers_set({"slide._FROM_LABEL.rate": 9.0, "shrink._TURN.1": 0.7}):
        assert before._replace(rate=9.0) == slide._FROM_LABEL
        assert shrink._TURN == (0.2, 0.7)
        assert slide._TURN != shrink._TURN
    assert slide._FROM_LABEL is before
    assert shrink._TURN == (0.2, 0.05)


def test_the_attack_has_the_number_that_it_is_given():
    def run(turn):
        with tuned.numbers_set({"slide._TURN": turn}):
            attack = cw.batched(cw.fast("linf", steps=20))
            return attack(made.affine_model(), made.KEYS, made.X, made.towards(made.affine_model())).distance

    one, same, other = (np.asarray(jax.jit(run)(turn)) for turn in (0.1, 0.1, 0.2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_cell_says_the_ratio_and_who_was_found():
    before, after = np.array([1.0, 2.0, np.inf, 4.0]), np.array([2.0, 4.0, 1.0, np.inf])
    assert tuned.cell(before, after[[0, 1, 2, 1]]) == "1.587 (+1)"
    assert tuned.cell(before, before) == "1.000"
