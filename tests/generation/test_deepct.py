"""DeepCT: which patterns are left, and tests for them."""

import itertools

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.generation import deepct, requirements, suites
from tests.generation import two_layers

UNITS, X = two_layers.UNITS, two_layers.X


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_what_is_left_is_what_no_test_reaches(strength):
    values = two_layers.hidden(X[:3])
    left = deepct.patterns_left(values, UNITS.convention, strength=strength)
    on, wanted = values > 0, set()
    for layer in (range(5), range(5, 9)):
        for chosen in itertools.combinations(layer, strength):
            seen = {tuple(row) for row in on[:, chosen].tolist()}
            wanted |= {(chosen, each) for each in set(itertools.product([False, True], repeat=strength)) - seen}
    found = {(tuple(n), tuple(o)) for n, o in zip(left.neurons.tolist(), left.on.tolist(), strict=True)}
    assert found == wanted


def test_a_few_are_drawn_of_many():
    values = two_layers.hidden(X[:1])
    left = deepct.patterns_left(values, UNITS.convention, most=7, combinations=4)
    assert len(left.neurons) == len(left.on) == 7
    for places, wanted in zip(left.neurons, left.on, strict=True):
        assert ((values[0, places] > 0) != wanted).any()


def test_tests_reach_patterns_that_the_seeds_do_not():
    attack = cw.attacks.fmn(norm="linf", objective=requirements.neurons_reached(hinged=False), steps=30)
    run = jax.jit(cw.batched(attack))
    left = deepct.patterns_left(suites.values_of(UNITS, X[:2]), UNITS.convention, most=20)
    suite = deepct.combination_cover(run, UNITS, X[:2], left, radius=0.3, lanes=10, rounds=2)
    on = two_layers.hidden(suite.x) > 0
    reached = [(on[:, n] == o).all(1).any() for n, o in zip(left.neurons, left.on, strict=True)]
    np.testing.assert_array_equal(suite.met, reached)
    assert suite.met.mean() > 0.3
    assert len(suite.x) <= 2 + suite.met.sum()
    before, after = (
        cw.coverage.measure(UNITS, cw.coverage.combination_coverage(UNITS.convention), x).value
        for x in (X[:2], suite.x)
    )
    assert after > before


def test_too_small_layers_are_refused():
    with pytest.raises(ValueError, match="has 5 neurons"):
        deepct.patterns_left(
            np.zeros((1, 4)), cw.coverage.neurons(two_layers.MODEL, X, layers="relu_1").convention, strength=5
        )
