"""Requirements on neurons: what meets them, and that attacks find it."""

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.generation import requirements
from tests.generation import made

X = made.inputs(6)


def run(objective, units, goal, x=X):
    attack = cw.attacks.fmn(norm="linf", objective=objective, steps=60)
    return jax.jit(cw.batched(attack))(requirements.observed(units), made.keys(len(x)), x, goal)


def test_an_attack_finds_the_nearest_input_that_activates_a_neuron():
    units = made.units(value="before")
    before = made.hidden(0, X)
    off = np.asarray([np.flatnonzero(row <= 0)[0] if (row <= 0).any() else row.argmin() for row in before])
    goal = requirements.neurons_activated(units.convention, off)
    result = run(requirements.neurons_reached(hinged=False), units, goal)
    assert result.success.all()
    after = made.hidden(0, result.x)[np.arange(6), off]
    assert (after > 0).all()
    # of a linear neuron the least L-infinity distance is known where no pixel reaches the box
    weights = made.model(0).params["first"][:, off].T
    least = np.maximum(-before[np.arange(6), off], 0) / np.abs(weights).sum(1)
    assert (np.asarray(result.distance) >= least - 1e-5).all()
    assert np.median(np.asarray(result.distance) / np.maximum(least, 1e-3)) < 1.5


def test_a_pattern_wants_every_one_of_its_neurons():
    units = made.units(value="before")
    goal = requirements.patterns_reached(units.convention, [[0, 1]] * 6, [[True, False]] * 6)
    said = requirements.Observed(np.zeros((6, 3), np.float32), made.hidden(0, X).astype(np.float32))
    objective = requirements.neurons_reached()
    met = jax.vmap(objective.met)(said, goal)
    loss = jax.vmap(objective.loss)(said, goal)
    np.testing.assert_array_equal(met, (said.values[:, 0] > 0) & (said.values[:, 1] <= 0))
    np.testing.assert_array_equal(loss == 0, met)


def test_a_neuron_that_is_off_after_a_relu_is_off():
    goal = requirements.patterns_reached(made.units().convention, [[0]], [[False]])
    said = requirements.Observed(np.zeros((1, 3), np.float32), np.zeros((1, made.HIDDEN), np.float32))
    assert jax.vmap(requirements.neurons_reached().met)(said, goal).all()
    on = requirements.neurons_activated(made.units().convention, [0])
    assert not jax.vmap(requirements.neurons_reached().met)(said, on).any()


def test_bounds_are_left_and_not_only_reached():
    units = made.units()
    profile = cw.coverage.profiled(units, X)
    low, high = np.asarray(profile.low), np.asarray(profile.high)
    goal = requirements.bounds_left(profile, [0, 0, 1, 1], [True, True, False, False])
    values = np.tile(high, (4, 1)).astype(np.float32)
    values[1, 0] += 0.01
    values[2:, 1] = low[1], low[1] - 0.01
    said = requirements.Observed(np.zeros((4, 3), np.float32), values)
    met = jax.vmap(requirements.neurons_reached().met)(said, goal)
    np.testing.assert_array_equal(met, [False, True, False, True])


def test_a_sign_pair_holds_the_rest_of_the_layer():
    layers = [cw.coverage.Layer(f"relu_{i}", "activation", (3,), 0, 3) for i in range(2)]
    convention = cw.coverage.Convention(tuple(layers), "before", "element")
    values = np.array([1, -1, 1, -1, 1, 1.0], np.float32)
    goal = requirements.signs_paired(values, convention, [1], [3])
    np.testing.assert_array_equal(goal.sign, [[1, 1, 1, 1, 0, 0]])
    with pytest.raises(ValueError, match="the layer after"):
        requirements.signs_paired(values, convention, [1], [2])


def test_suspects_rise_until_the_label_falls():
    units, x = made.units(), np.repeat(X, made.HIDDEN, 0)
    labels = made.logits(0, x).argmax(-1)
    each = [requirements.suspects(cw.untargeted(labels[:6]), units.convention, [i]) for i in range(made.HIDDEN)]
    weights = np.stack([goal.weights[0] for goal in each])
    np.testing.assert_array_equal(weights, np.eye(made.HIDDEN))
    goal = requirements.SuspectsGoal(cw.untargeted(labels), np.tile(weights, (6, 1)))
    attack = cw.attacks.pgd(epsilon=0.9, objective=requirements.suspects_raised(), random_start=False)
    result = jax.jit(cw.batched(attack))(requirements.observed(units), made.keys(len(x)), x, goal)
    np.testing.assert_array_equal(made.logits(0, result.x).argmax(-1) != labels, result.success)
    assert result.success.any()


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    units = made.units()
    with pytest.raises(ValueError, match="from 0 to 5, their places among all, got 0 to 6"):
        requirements.neurons_activated(units.convention, [0, 6])
    with pytest.raises(ValueError, match="whole numbers"):
        requirements.neurons_activated(units.convention, [0.5])
    with pytest.raises(ValueError, match="names a neuron twice"):
        requirements.patterns_reached(units.convention, [[1, 1]], [[True, False]])
    with pytest.raises(ValueError, match="both be"):
        requirements.patterns_reached(units.convention, [[1, 2]], [[True]])
    with pytest.raises(ValueError, match="no neuron is suspected"):
        requirements.suspects(cw.untargeted([0]), units.convention, [])
    goal = requirements.neurons_activated(units.convention, [0] * 6)
    run = cw.batched(cw.attacks.fmn(objective=requirements.neurons_reached()))
    with pytest.raises(ValueError, match="with the 6 neurons of the goal"):
        run(made.model(), made.keys(6), X, goal)
    with pytest.raises(TypeError, match="reads a goal of neurons"):
        run(requirements.observed(units), made.keys(6), X, cw.untargeted([0] * 6))
