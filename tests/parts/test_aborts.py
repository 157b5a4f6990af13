"""When a descent stops early: the plateau rule against a plain Python copy of the released code's, and the others."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from cwjax.base import Evaluation
from cwjax.goals import targeted
from cwjax.parts import aborts
from cwjax.problems import problem

PROPERTY = settings(
    deadline=None, max_examples=100 if os.environ.get("CWJAX_LONG") else 40, derandomize=True, database=None
)
LENGTH = 60  # of every sequence of losses: one compilation


PROBLEM = problem(jnp.zeros(2), jax.tree.map(lambda leaf: leaf[0], targeted([1])))


def seen(loss, *, met=False, distance=1.0):
    """An evaluation."""
    return Evaluation(jnp.float32(loss), jnp.float32(distance), jnp.array(met), jnp.zeros(2))


def released(losses, steps):
    """Where `l2_attack.py` leaves its loop, or `steps`: its ABORT_EARLY, with every step checked if steps < 10."""
    previous = np.inf
    for iteration in range(steps):
        if iteration % max(steps // 10, 1) == 0:
            if losses[iteration] > previous * 0.9999:
                return iteration
            previous = losses[iteration]
    return steps


def stopping(abort):
    """Where the rule stops in a sequence of losses, or `steps`."""

    @jax.jit
    def run(losses, steps):
        def one(state, given):
            step, loss = given
            return abort.update(PROBLEM, state, seen(loss), step=step, steps=steps)

        _, stops = lax.scan(one, abort.init(), (jnp.arange(LENGTH), losses))
        return jnp.min(jnp.where(stops, jnp.arange(LENGTH), steps))

    return lambda losses, steps: int(run(jnp.asarray(losses, jnp.float32), jnp.int32(steps)))


plateau = stopping(aborts.plateau())

# Ratios that are clearly on one side of 0.9999, so that float32 cannot decide otherwise than float64.
RATIOS = st.sampled_from([0.5, 0.99, 0.9998, 0.9998, 0.9998, 0.99995, 1.0, 1.3])


@PROPERTY
@given(st.lists(RATIOS, min_size=LENGTH, max_size=LENGTH), st.sampled_from([1, 3, 7, 9, 10, 11, 20, 25, 39, 50, 60]))
def test_plateau_stops_where_the_released_rule_does(ratios, steps):
    losses = np.float32(123.0) * np.cumprod(ratios)
    assert plateau(losses, steps) == released(losses, steps)


@PROPERTY
@given(st.lists(st.integers(1, 12), min_size=LENGTH, max_size=LENGTH), st.sampled_from([1, 7, 10, 20, 35, 60]))
def test_plateau_stops_where_the_released_rule_does_on_rough_losses(losses, steps):
    assert plateau(losses, steps) == released(losses, steps)


def test_the_first_check_never_fires():
    assert plateau([1e30] + [0.0] * (LENGTH - 1), 20) > 0


def test_checks_are_a_tenth_of_the_steps_apart():
    losses = np.full(LENGTH, 5.0)
    assert plateau(losses, 60) == 6
    assert plateau(losses, 20) == 2
    assert plateau(losses, 10) == 1
    assert plateau(losses, 5) == 1  # fewer steps than checks: each step is one
    assert stopping(aborts.plateau(checks=3))(losses, 60) == 20


def test_a_rise_between_two_checks_goes_unseen():
    losses = 100.0 - np.arange(LENGTH)
    losses[[1, 2, 3, 4, 5, 7, 8]] = 1e6
    assert plateau(losses, 60) == 60


def test_a_negative_loss_that_still_falls_does_not_stop():
    assert plateau(-1.0 * 1.001 ** np.arange(LENGTH), 10) == 10
    assert plateau(np.linspace(1, -5, LENGTH), 60) == 60


def test_a_negative_loss_that_is_stuck_stops():
    assert plateau(np.full(LENGTH, -5.0), 20) == 2
    assert plateau(-5.0 + 0.1 * np.arange(LENGTH), 20) == 2


def test_the_tolerance_is_the_fraction_to_fall_by():
    losses = 0.97 ** np.arange(LENGTH)
    assert stopping(aborts.plateau(tolerance=0.02))(losses, 10) == 10
    assert stopping(aborts.plateau(tolerance=0.05))(losses, 10) == 1


def test_checks_and_tolerance_may_be_traced():
    @jax.jit
    def stop(checks, tolerance):
        abort = aborts.plateau(checks=checks, tolerance=tolerance)
        state, early = abort.update(PROBLEM, abort.init(), seen(1.0), step=0, steps=60)
        _, late = abort.update(PROBLEM, state, seen(0.9), step=15, steps=60)
        return early, late

    assert [bool(stops) for stops in stop(jnp.float32(4), jnp.float32(0.2))] == [False, True]
    assert [bool(stops) for stops in stop(jnp.float32(4), jnp.float32(0.05))] == [False, False]
    assert [bool(stops) for stops in stop(jnp.float32(3), jnp.float32(0.2))] == [False, False]


@pytest.mark.parametrize("met", [True, False])
@pytest.mark.parametrize(("make", "stops_when_met"), [(aborts.first_success, True), (aborts.never, False)])
def test_first_success_and_never(make, stops_when_met, met):
    abort = make()
    state = abort.init()
    for step in range(3):
        state, stop = abort.update(PROBLEM, state, seen(7.0, met=met), step=step, steps=30)
        assert bool(stop) == (met and stops_when_met)


@pytest.mark.parametrize(
    ("met", "distance", "stops"), [(True, 0.2, True), (True, 0.3, True), (True, 0.31, False), (False, 0.2, False)]
)
def test_within_tau_stops_at_an_example_no_farther_than_tau(met, distance, stops):
    abort = aborts.within_tau()
    given = PROBLEM._replace(tau=jnp.float32(0.3))
    state, stop = abort.update(given, abort.init(), seen(1.0, met=met, distance=distance), step=5, steps=30)
    assert bool(stop) == stops
    assert state == abort.init()
