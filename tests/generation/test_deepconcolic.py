"""DeepConcolic: covers that grow from one seed."""

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.generation import deepconcolic, requirements, suites
from tests.generation import two_layers

UNITS, X = two_layers.UNITS, two_layers.X
ATTACK = cw.attacks.fmn(norm="linf", objective=requirements.neurons_reached(hinged=False), steps=30)
RUN = jax.jit(cw.discretised(cw.batched(ATTACK), between=(0, 1)))
SEED = np.round(255 * X[:1]) / np.float32(255)


def reachable(radius, count=20000):
    """Which neurons random points of the box around the seed turn on."""
    rng = np.random.default_rng(0)
    corners = SEED + radius * rng.choice([-1, 1], (count, 9))
    return (two_layers.hidden(np.clip(corners, 0, 1)) > 0).any(0) | (two_layers.hidden(SEED)[0] > 0)


def test_neurons_are_covered_from_one_seed():
    suite = deepconcolic.neuron_cover(RUN, UNITS, SEED, radius=0.3, lanes=4)
    values = two_layers.hidden(suite.x)
    np.testing.assert_array_equal(suite.met, (values > 0).any(0))
    assert (suite.met >= reachable(0.3)).mean() >= 8 / 9
    assert suite.met.mean() > (values[:1] > 0).mean()
    assert suite.distance.max() <= 0.3 + 1e-6
    np.testing.assert_allclose(255 * suite.x, np.round(255 * suite.x), atol=1e-4)
    logits = np.asarray(jax.jit(two_layers.apply)(two_layers.PARAMS, suite.x))
    np.testing.assert_array_equal(suite.labels, logits.argmax(-1))
    np.testing.assert_array_equal(suite.adversarial, suite.labels != suite.labels[0])
    assert suite.searches <= 3 * 9


def test_bounds_are_left_on_both_sides():
    profile = cw.coverage.profiled(UNITS, X)
    suite = deepconcolic.boundary_cover(RUN, UNITS, profile, SEED, radius=0.3, lanes=4, rounds=1)
    values = two_layers.hidden(suite.x)
    left = np.stack([(values > np.asarray(profile.high)).any(0), (values < np.asarray(profile.low)).any(0)], 1)
    assert suite.met.any()
    assert (left.ravel() >= suite.met).all()


def test_a_pair_of_signs_is_met_by_two_tests():
    pairs = deepconcolic.sign_pairs(UNITS, 12)
    assert len(set(pairs)) == 12
    assert all(first < 5 <= second for first, second in pairs)
    suite = deepconcolic.sign_sign_cover(RUN, UNITS, pairs, SEED, radius=0.5, lanes=4, rounds=1)
    on = two_layers.hidden(suite.x) > 0
    assert suite.met.any()
    for (first, second), met in zip(pairs, suite.met, strict=True):
        differ = on[:, None] != on[None]
        alone = differ[..., first] & (differ[..., :5].sum(-1) == 1) & differ[..., second]
        assert alone.any() or not met


def test_the_test_that_met_each_requirement_is_told_and_a_suite_goes_on():
    suite = deepconcolic.neuron_cover(RUN, UNITS, SEED, radius=0.3, lanes=4)
    values = two_layers.hidden(suite.x)
    np.testing.assert_array_equal(suite.by >= 0, suite.met)
    np.testing.assert_array_equal(suite.by[suite.met], (values > 0).argmax(0)[suite.met])
    assert (suite.start[~suite.met] >= 0).all()
    assert (suite.start[suite.met] < suite.by[suite.met]).all()  # -1 where the test of another requirement meets it
    assert (suite.start >= 0).sum() <= suite.searches
    known = (suite.x[1:], suite.origin[1:])
    again = deepconcolic.neuron_cover(RUN, UNITS, SEED, radius=0.3, lanes=4, rounds=1, known=known)
    np.testing.assert_array_equal(again.by[suite.met], suite.by[suite.met])
    np.testing.assert_array_equal(again.x[: len(suite.x)], suite.x)
    assert again.searches <= (~suite.met).sum()


def test_what_no_input_can_meet_is_not_met():
    def aim(which, values):
        return requirements.neurons_activated(UNITS.convention, which, threshold=100.0)

    suite = suites.grown(RUN, UNITS, SEED, aim, 2, lanes=4, rounds=2)
    assert not suite.met.any()
    assert suite.share == 0
    assert len(suite.x) == 1
    assert suite.searches == 4


def test_the_oracle_compares_with_the_nearest_original():
    originals = np.array([[0.0, 0, 0], [1, 1, 1]], np.float32)
    tests = np.array([[0.2, 0, 0], [0.2, 0.2, 0.2], [0.9, 1, 1], [0.5, 0.4, 0.4]], np.float32)
    said = deepconcolic.oracle(tests, np.array([7, 8, 7, 8]), originals, np.array([7, 8]), bound=0.3)
    np.testing.assert_array_equal(said.nearest, [0, 0, 1, 0])
    np.testing.assert_allclose(said.distance, [0.2, 0.2, 0.1, 0.5], atol=1e-6)
    np.testing.assert_array_equal(said.valid, [True, True, True, False])
    np.testing.assert_array_equal(said.adversarial, [False, True, True, False])
    few = deepconcolic.oracle(tests, np.full(4, 8), originals, np.array([7, 8]), norm="l0", bound=1)
    np.testing.assert_array_equal(few.distance, [1, 3, 1, 3])
    np.testing.assert_array_equal(few.adversarial, [True, False, False, False])


def test_in_l0_few_elements_change():
    attack = cw.attacks.fmn(norm="l0", objective=requirements.neurons_reached(hinged=False), steps=30)
    run = jax.jit(cw.discretised(cw.batched(attack), between=(0, 1)))
    suite = deepconcolic.neuron_cover(run, UNITS, SEED, radius=1, lanes=4, norm="l0", rounds=1)
    np.testing.assert_array_equal(suite.distance, (suite.x != SEED).sum(1))
    assert suite.distance[1:].min() <= 2
    assert suite.met.mean() > (two_layers.hidden(SEED) > 0).mean()


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    after = cw.coverage.neurons(two_layers.MODEL, X)
    with pytest.raises(ValueError, match="values before the activation function"):
        deepconcolic.neuron_cover(RUN, after, SEED)
    one = cw.coverage.neurons(two_layers.MODEL, X, layers="relu_0", value="before")
    with pytest.raises(ValueError, match="two layers or more"):
        deepconcolic.sign_pairs(one, 3)
    with pytest.raises(ValueError, match="count must be at least 1"):
        deepconcolic.sign_sign_cover(RUN, UNITS, [], SEED)
    with pytest.raises(ValueError, match="there are none"):
        deepconcolic.oracle(X, np.zeros(20, int), X[:0], np.zeros(0, int))
    with pytest.raises(ValueError, match="norm must be one of"):
        deepconcolic.neuron_cover(RUN, UNITS, SEED, norm="l3")
