"""The linear program: known answers, and nothing nearer by sampling."""

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.generation import linear_program, requirements
from tests.generation import two_layers

UNITS, X = two_layers.UNITS, two_layers.X


def of_one(goal):
    return jax.tree.map(lambda leaf: leaf[0], goal)


def test_a_neuron_of_the_first_layer_is_a_plane():
    before = two_layers.hidden(X)[:, :5]
    row, neuron = np.unravel_index(np.argmin(np.where(before <= 0, -before, np.inf)), before.shape)
    goal = of_one(requirements.neurons_activated(UNITS.convention, [neuron]))
    found = linear_program.nearest_in_region(UNITS, X[row], goal)
    least = (linear_program.SLACK - before[row, neuron]) / np.abs(two_layers.FIRST[:, neuron]).sum()
    assert found.met
    assert found.rows == 0
    np.testing.assert_allclose(found.distance, least, rtol=1e-3)
    np.testing.assert_allclose(np.abs(found.x - X[row]).max(), found.distance, rtol=1e-3)


def test_nothing_in_the_region_is_nearer():
    rng, tried = np.random.default_rng(1), 0
    for row in range(8):
        values = two_layers.hidden(X[row : row + 1])[0]
        for neuron in 5 + np.flatnonzero(values[5:] <= 0)[:1]:
            goal = of_one(requirements.neurons_activated(UNITS.convention, [int(neuron)]))
            found = linear_program.nearest_in_region(UNITS, X[row], goal)
            if not np.isfinite(found.distance):
                continue
            tried += 1
            assert found.met
            assert ((two_layers.hidden(found.x[None])[0] > 0)[:5] == (values > 0)[:5]).all()
            around = X[row] + 0.97 * found.distance * rng.uniform(-1, 1, (20000, 9))
            others = two_layers.hidden(np.clip(around, 0, 1))
            same = ((others > 0)[:, :5] == (values > 0)[None, :5]).all(1)
            assert not (others[same, neuron] > 0).any()
    assert tried >= 2


def test_an_impossible_target_is_infinitely_far():
    goal = of_one(requirements.neurons_activated(UNITS.convention, [6], threshold=100.0))
    found = linear_program.nearest_in_region(UNITS, X[0], goal)
    assert found.distance == np.inf
    assert not found.met
    np.testing.assert_array_equal(found.x, X[0])


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    goal = of_one(requirements.patterns_reached(UNITS.convention, [[0, 1]], [[True, True]]))
    with pytest.raises(ValueError, match="the goal of one neuron"):
        linear_program.nearest_in_region(UNITS, X[0], goal)
    after = cw.coverage.neurons(two_layers.MODEL, X, unit="element")
    with pytest.raises(ValueError, match="each element before its ReLU"):
        linear_program.nearest_in_region(after, X[0], goal)
