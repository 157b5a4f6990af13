"""How long a sweep takes, and what is said of it while it runs."""

import pytest

import cwjax
from cwjax.lab.sweeps import estimating, watching
from cwjax.lab.sweeps.estimating import Spent
from cwjax.lab.sweeps.units import Plan, Unit
from tests.lab.sweeps import made


def unit(configuration, start=0, stop=5, *, checks=False) -> Unit:
    return Unit(f"{configuration.digest}{start}", configuration, start, stop, 5, "auto", checks, None)


FIRST, SECOND = (made.configuration(confidence=confidence) for confidence in (0.0, 5.0))  # one program
OTHER = made.configuration("fast_linf")


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


class Told(list):
    """What a progress line was told."""

    def __call__(self, steps=1, note="", now=False):
        self.append((steps, note))


def watched(units, done=()):
    told = Told()
    return watching.Watch(Plan([], [units]), set(done), told, None), told


def status(finished, total, found):
    return cwjax.runners.Status(finished, total, found, forwards=0, width=4, lane_steps=0, snapshot=list)


def facts(seconds=60.0, compiling=30.0, checks=5.0, of_checks=20.0):
    told = {"seconds": seconds, "compiling": compiling, "checks": checks, estimating.CHECKS: of_checks}
    return {"rows": 5, "successes": 4} | told


def test_the_time_left_after_the_first_unit_is_that_of_rows(monkeypatch):
    units = [unit(FIRST, start, start + 5, checks=not start) for start in range(0, 30, 5)]
    clock = [100.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: clock[0])
    watch, told = watched(units)
    tell = watch.watcher
    tell.begun(units[0])
    tell.turn(units[0], status(0, 5, 0))
    tell.turn(units[0], status(5, 5, 5))
    tell.checking(units[0], "weaker_wins", 14, 18)
    clock[0] += 60
    tell.done(units[0], facts())
    clock[0] += 2
    tell.begun(units[1])
    tell.turn(units[1], status(2, 5, 2))
    notes = [note for _, note in told]
    assert notes[:2] == ["units 0/6, compiling the attack", "units 0/6, lanes 4 of 4"]
    assert notes[2] == "units 0/6, lanes 0 of 4, 100.0% succeeded so far"
    assert notes[3] == "units 0/6, checks 14/18: weaker wins"
    assert "left" not in "".join(notes[:4])
    assert notes[4].startswith("units 1/6, 25 s left")  # five units of 5 s each
    assert notes[5].startswith("units 1/6, 23 s left, lanes 3 of 4")
    assert sum(steps for steps, _ in told) == 7


def test_workers_side_by_side_take_less_time(monkeypatch):
    units = [unit(FIRST, start, start + 5) for start in range(0, 50, 5)]
    clock = [100.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: clock[0])
    watch, told = watched(units)
    clock[0] += 30
    for one in units[:4]:
        watch.watcher.done(one, facts(30.0, 0.0, 0.0, 0.0))
    assert told[-1][1].startswith("units 4/10, 45 s left")  # 180 s of work for four


def test_what_was_done_before_says_how_long_the_rest_takes():
    units = [unit(FIRST, start, start + 5) for start in range(0, 15, 5)]
    watch, told = watched(units, {units[0].digest})
    watch.watcher.done(units[0], facts(60.0, 50.0, 0.0, 0.0))
    assert told[-1] == (5, "units 1/3, 70 s left, 80.0% succeeded so far")  # two of 10 s, and compiling once more


def test_a_sweep_without_facts_of_its_time_says_none():
    units = [unit(FIRST), unit(FIRST, 5, 10)]
    watch, told = watched(units)
    watch.watcher.done(units[0], {"rows": 5, "successes": 0})
    assert told[-1] == (5, "units 1/2, 0.0% succeeded so far")
