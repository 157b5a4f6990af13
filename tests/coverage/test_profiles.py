import dataclasses

import jax
import numpy as np
import pytest

import cwjax as cw
from tests.coverage import made

RNG = np.random.default_rng(5)
X = RNG.normal(size=(30, 6)).astype(np.float32)
WEIGHTS = RNG.normal(size=(6, 4)).astype(np.float32)


def apply(params, x):
    return jax.nn.relu(x @ params)


UNITS = cw.coverage.neurons(cw.bind(apply, WEIGHTS), X)
OTHER = cw.coverage.neurons(cw.bind(apply, WEIGHTS + 1), X)


def test_it_is_what_numpy_says():
    profile = cw.coverage.profiled(UNITS, X, batch=7)
    values = np.maximum(X @ WEIGHTS, 0).astype(np.float64)
    assert profile.count == 30
    np.testing.assert_allclose(profile.low, values.min(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(profile.high, values.max(0), rtol=1e-5)
    np.testing.assert_allclose(profile.mean, values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(profile.deviation, values.std(0), rtol=1e-5)


def test_a_small_spread_around_a_large_mean_is_not_lost():
    of = made.convention(1)
    values = (10_000 + RNG.normal(size=(5_000, 1))).astype(np.float32)
    it = cw.coverage.profiling(of)
    state = it.init()
    for first in range(0, len(values), 64):
        state = made.updated(it, made.activations(values[first : first + 64], of), state)
    assert it.value(state).deviation[0] == pytest.approx(values.astype(np.float64).std(), rel=1e-2)


def test_it_is_read_again_and_refused_for_another_network(tmp_path):
    profile, path = cw.coverage.profiled(UNITS, X), tmp_path / "profile.npz"
    profile.save(path)
    again = cw.coverage.load(path, UNITS)
    for field in dataclasses.fields(profile):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(profile, field.name))
    with pytest.raises(ValueError, match="other weights"):
        cw.coverage.load(path, OTHER)
    with pytest.raises(ValueError, match="is a profile of 4 neurons, each the channel mean after"):
        cw.coverage.load(path, cw.coverage.neurons(cw.bind(apply, WEIGHTS), X, value="before"))


def test_a_criterion_of_another_networks_profile_is_refused():
    it = cw.coverage.section_coverage(cw.coverage.profiled(UNITS, X))
    with pytest.raises(ValueError, match="other weights"):
        cw.coverage.measure(OTHER, it, X)
    elsewhere = cw.coverage.neuron_coverage(made.convention(4))
    with pytest.raises(ValueError, match=r"NC .* is of 4 neurons"):
        cw.coverage.measure(UNITS, elsewhere, X)


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    with pytest.raises(TypeError, match="Profile"):
        cw.coverage.section_coverage(UNITS.convention)  # pyright: ignore[reportArgumentType]
    nothing = cw.coverage.profiling(UNITS.convention)
    with pytest.raises(ValueError, match="no inputs"):
        cw.coverage.boundary_coverage(nothing.value(nothing.init()))
