"""How long a sweep takes, from what is known of its units."""

import pytest

from cwjax.lab.sweeps import estimating
from cwjax.lab.sweeps.estimating import Spent
from tests.lab.sweeps import made
from tests.lab.sweeps.made import FIRST, OTHER, SECOND, unit


def left(todo, done, **more) -> list[float]:
    found = estimating.seconds_left(todo, done, **more)
    assert found is not None
    return list(found.values())


def test_compiling_is_counted_once_and_checks_apart_from_the_rows():
    checked = unit(FIRST, checks=True)
    done = [(checked, Spent(work=5.0, compiling=30.0, checks=4.0, compiling_checks=20.0))]
    todo = [unit(FIRST, 5, 10), unit(SECOND, checks=True), unit(SECOND, 5, 10)]
    assert left(todo, done, here=[checked]) == [5.0, 5.0 + 4.0, 5.0]  # not 59 s each
    assert left(todo, done) == [5.0 + 30.0, 5.0 + 4.0 + 20.0, 5.0]  # by a process that has compiled nothing yet
    assert left([unit(OTHER, checks=True)], done, here=[checked]) == [59.0]


def test_the_time_of_rows_goes_with_their_steps():
    done = [(unit(FIRST), Spent(work=5.0, compiling=7.0, checks=0.0, compiling_checks=0.0))]
    assert FIRST.settings.steps == 300
    longer = made.configuration(steps=600)
    assert left([unit(longer), unit(longer, 5, 8)], done) == [10.0 + 7.0, 6.0]
    assert left([unit(longer, checks=True)], done, guess=lambda one: Spent(0.0, 0.0, 2.0, 3.0)) == [10.0 + 7.0 + 5.0]
    assert estimating.seconds_left([unit(longer)], []) is None
    assert left([unit(longer)], [], guess=lambda one: Spent(1.0, 2.0, 3.0, 4.0)) == [3.0]


def test_rows_are_examples_times_their_targets():
    assert estimating.rows(unit(FIRST)) == 5
    assert estimating.rows(unit(made.configuration(targets="all"))) == 10  # blobs have three classes
    assert estimating.gradients(unit(made.configuration(targets="all", steps=7))) == 70
    assert estimating.gradients(unit(made.configuration("linf"))) is None


def test_a_guess_counts_compiling_and_checks(monkeypatch):
    monkeypatch.setattr(estimating, "measured", lambda *_: (0.01, 1.0))
    guessed = estimating.guess(unit(FIRST, checks=True))
    assert guessed.work == pytest.approx(5 * 300 * 0.01)
    assert 1 <= guessed.compiling < guessed.compiling_checks
    assert guessed.checks > 24 * 300 * 0.01  # the attack followed on eight, and one of twice the steps


def test_what_a_unit_spent_is_what_its_facts_tell():
    facts = {"seconds": 60, "compiling": 30, "checks": 5, estimating.CHECKS: 20}
    assert Spent.of(facts) == Spent(work=5.0, compiling=30.0, checks=5.0, compiling_checks=20.0)
    assert Spent.of({"seconds": 60}) == Spent(60.0, 0.0, 0.0, 0.0)
    assert Spent.of({"seconds": 60, "compiling": 70}) == Spent(0.0, 70.0, 0.0, 0.0)  # clocks differ
    assert Spent.of({"rows": 5}) is None


def test_units_share_their_programs_where_only_numbers_differ():
    first, second, other = (estimating.program(unit(each)) for each in (FIRST, SECOND, OTHER))
    assert first == second != other
    more = [
        made.configuration(targets="all"),
        made.configuration(model="another"),
        made.configuration(targets="random"),
    ]
    assert [estimating.program(unit(each)) == first for each in more] == [False, False, True]


def test_without_the_like_the_nearest_unit_tells():
    """Of the same attack if there is one, else any."""
    spent = {"fast_l2": Spent(5.0, 1.0, 0.0, 0.0), "fast_linf": Spent(50.0, 2.0, 0.0, 0.0)}
    done = [(unit(FIRST), spent["fast_l2"]), (unit(OTHER), spent["fast_linf"])]
    elsewhere = made.configuration(model="another")
    assert left([unit(elsewhere)], done) == [5.0 + 1.0]
    assert left([unit(made.configuration("l2", steps=300, search_steps=1))], done) == [27.5 + 2.0]  # the mean of both
