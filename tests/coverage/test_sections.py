import numpy as np
import pytest

import cwjax as cw
from tests.coverage import made

OF = made.convention(2)
PROFILE = made.profile_of(np.asarray([[0, -1], [10, 1]], np.float32), OF)


def reached(*rows, sections=5):
    it = cw.coverage.section_coverage(PROFILE, sections=sections)
    bits = it.update(it.init(), made.activations(np.asarray(rows, np.float32), OF)).bits
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
