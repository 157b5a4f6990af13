import itertools

import numpy as np
import pytest

import cwjax as cw
from tests.coverage import made

OF = made.convention(4, 3)


def by_definition(values):
    signs, covered = values > 0, set()
    for one, other in itertools.combinations(signs, 2):
        apart = np.flatnonzero(one[:4] != other[:4])
        if len(apart) == 1:
            covered |= {(apart[0], j) for j in np.flatnonzero(one[4:] != other[4:])}
    return len(covered)


@pytest.mark.parametrize("count", [2, 5, 12, pytest.param(600, marks=pytest.mark.long)])
def test_against_the_definition(count):
    values = np.random.default_rng(count).normal(size=(count, 7)).astype(np.float32)
    it = cw.coverage.sign_sign_coverage(OF)
    reached = it.value(made.updated(it, made.activations(values, OF)))
    assert reached.covered == {"relu_0 → relu_1": by_definition(values)}
    assert reached.total == {"relu_0 → relu_1": 12}


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    with pytest.raises(ValueError, match="pairs of layers, and there is only one"):
        cw.coverage.sign_sign_coverage(made.convention(4))
