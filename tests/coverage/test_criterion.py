import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.coverage import criterion
from tests.coverage import made

RNG = np.random.default_rng(6)
X = RNG.normal(size=(23, 6)).astype(np.float32)
WEIGHTS = RNG.normal(size=(6, 9)).astype(np.float32)
UNITS = cw.coverage.neurons(cw.bind(lambda params, x: jnp.tanh(x @ params), WEIGHTS), X)


@pytest.mark.parametrize("size", [1, 31, 32, 33, 100])
def test_bits_are_packed_and_unpacked(size):
    bits = RNG.random((3, size)) < 0.5
    words = criterion.packed(jnp.asarray(bits))
    assert words.shape == (3, -(-size // 32))
    assert words.shape == criterion.no_bits(3, size).shape
    np.testing.assert_array_equal(criterion.unpacked(words, size), bits)


def test_several_criteria_in_one_pass_as_one_by_one():
    profile = cw.coverage.profiled(UNITS, X[:9])
    several = {
        "sections": cw.coverage.section_coverage(profile, sections=7),
        "patterns": cw.coverage.top_pattern_count(UNITS.convention),
        "above": cw.coverage.neuron_coverage(UNITS.convention),
    }
    together = cw.coverage.measure(UNITS, several, X, batch=10)
    for name, it in several.items():
        assert cw.coverage.measure(UNITS, it, X, batch=23) == together[name]
    assert str(together["above"]).startswith("NC (t = 0.25): ")


def test_a_curve_is_the_coverage_of_the_first_inputs():
    it = cw.coverage.top_neuron_coverage(UNITS.convention, k=1)
    counts = (1, 5, 6, 23)
    values = [each.value for each in cw.coverage.curve(UNITS, it, X, counts, batch=4)]
    assert values == [cw.coverage.measure(UNITS, it, X[:count]).value for count in counts]


def test_an_input_that_is_not_finite_is_named():
    it = cw.coverage.neuron_coverage(UNITS.convention)
    spoilt = X.copy()
    spoilt[17, 2] = np.nan
    with pytest.raises(ValueError, match="input 17 has an activation that is NaN or infinite in layer tanh_0"):
        cw.coverage.measure(UNITS, it, spoilt, batch=5)


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    it = cw.coverage.neuron_coverage(UNITS.convention)
    with pytest.raises(ValueError, match="counts must rise"):
        next(cw.coverage.curve(UNITS, it, X, (5, 4)))
    with pytest.raises(ValueError, match="at most 23"):
        next(cw.coverage.curve(UNITS, it, X, (24,)))
    with pytest.raises(ValueError, match="number of inputs must be at least 1"):
        cw.coverage.measure(UNITS, it, X[:0])
    with pytest.raises(TypeError, match="Criterion"):
        cw.coverage.measure(UNITS, {"it": 3}, X)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="Neurons"):
        cw.coverage.measure(made.convention(3), it, X)  # pyright: ignore[reportArgumentType]
