"""What is said of a sweep while it runs."""

import cwjax
from cwjax.lab.sweeps import estimating, watching
from cwjax.lab.sweeps.units import Plan
from tests.lab.sweeps.made import FIRST, unit


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
    assert notes[:2] == ["units 0/6, compiling the attack", "units 0/6, 4 rows at once"]
    assert notes[2] == "units 0/6, 100.0% succeeded so far"
    assert notes[3] == "units 0/6, checks 14/18: weaker wins"
    assert "left" not in "".join(notes[:4])
    assert notes[4].startswith("units 1/6, 25 s left")  # five units of 5 s each
    assert notes[5].startswith("units 1/6, 23 s left, 3 rows at once")
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
