import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from tests.coverage import made

OF = made.convention(2)
PROFILE = made.profile_of(np.asarray([[0, -1], [10, 1]], np.float32), OF)


def reached(*rows, sections=5):
    it = cw.coverage.section_coverage(PROFILE, sections=sections)
    bits = made.updated(it, made.activations(np.asarray(rows, np.float32), OF)).bits
    return [[k for k in range(sections) if int(words[k // 32]) >> k % 32 & 1] for words in np.asarray(bits)]


@pytest.mark.parametrize(
    ("value", "section"),
    [(0, [0]), (1.9, [0]), (2, [1]), (9.9, [4]), (10, [4]), (10.01, []), (-0.01, [])],
)
def test_the_section_of_a_value_both_ends_of_the_range_included(value, section):
    assert reached([value, 5.0]) == [section, []]


def test_several_inputs_unite():
    assert reached([0, -1], [10, -1], [5, 1]) == [[0, 2, 4], [0, 4]]


def test_sections_beyond_a_word():
    assert reached([10, 0.0], [6.1, 0.0], sections=100) == [[61, 99], [50]]


def test_a_state_takes_a_bit_for_each_section():
    assert cw.coverage.section_coverage(PROFILE, sections=10_000).init().bits.nbytes == 2 * 313 * 4


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    with pytest.raises(ValueError, match="sections must be at least 1"):
        cw.coverage.section_coverage(PROFILE, sections=0)


def test_ten_thousand_sections_of_fifty_thousand_neurons_take_little_more_than_their_bits():
    """As the compiler plans it: nothing is run, and nothing of this size is made."""
    neurons, sections, batch = 50_960, 10_000, 64
    of = made.convention(neurons)
    ends = np.zeros(neurons, np.float32)
    profile = cw.coverage.Profile(ends, ends + 1, ends, ends, count=1, convention=of, network=None)
    it = cw.coverage.section_coverage(profile, sections=sections)
    state = jax.eval_shape(it.init)
    bits = state.bits.size * state.bits.dtype.itemsize
    assert bits == neurons * -(-sections // 32) * 4
    shapes = [(batch, neurons), (batch, 1), (batch, 1)]
    seen = jax.eval_shape(lambda: cw.coverage.Activations(*(jnp.zeros(shape) for shape in shapes)))
    planned = jax.jit(it.update, donate_argnums=0).lower(state, seen).compile().memory_analysis()
    assert planned is not None
    assert planned.argument_size_in_bytes + planned.temp_size_in_bytes < 1.5 * bits
