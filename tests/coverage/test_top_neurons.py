import numpy as np
import pytest

import cwjax as cw
from tests.coverage import made

OF = made.convention(4, 2)


def said(criterion, *rows):
    return criterion.value(made.updated(criterion, made.activations(np.asarray(rows, np.float32), OF)))


def test_the_largest_of_each_layer():
    first = [9, 3, 2, 1, 0, 5]
    assert said(cw.coverage.top_neuron_coverage(OF, k=1), first).covered == {"relu_0": 1, "relu_1": 1}
    assert said(cw.coverage.top_neuron_coverage(OF, k=2), first, [0, 0, 1, 2, 5, 0]).covered == {
        "relu_0": 4,
        "relu_1": 2,
    }


def test_a_layer_of_fewer_neurons_is_covered_at_once():
    assert said(cw.coverage.top_neuron_coverage(OF, k=3), [9, 3, 2, 1, 0, 5]).covered == {"relu_0": 3, "relu_1": 2}


def test_of_equal_values_the_first_count():
    it = cw.coverage.top_neuron_coverage(OF, k=2)
    state = made.updated(it, made.activations(np.zeros((1, 6), np.float32), OF))
    assert int(state.bits[0]) == 0b110011


def test_patterns_are_sets_and_not_lists():
    rows = [[9, 8, 2, 1, 0, 5], [8, 9, 2, 1, 0, 5], [8, 9, 2, 1, 5, 0], [1, 9, 8, 0, 5, 0]]
    assert said(cw.coverage.top_pattern_count(OF, k=2), *rows).value == 2
    assert said(cw.coverage.top_pattern_count(OF, k=1), *rows).value == 3


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    for make in (cw.coverage.top_neuron_coverage, cw.coverage.top_pattern_count):
        with pytest.raises(ValueError, match="k must be at least 1"):
            make(OF, k=0)
