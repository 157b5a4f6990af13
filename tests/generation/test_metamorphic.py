"""Metamorphic relations against their formulas."""

import numpy as np
import pytest

from cwjax.generation import metamorphic


def test_a_label_is_kept():
    logits = np.array([[1, 2], [2, 1], [3, 3]], np.float32)
    relation = metamorphic.label_kept(np.array([1, 1, 1]))
    np.testing.assert_array_equal(metamorphic.violated(relation, logits), [False, True, False])


def test_deeptests_relation():
    truth = np.array([0.1, 0.1, -0.2], np.float32)
    said = np.array([0.15, 0.35, -0.35], np.float32)
    for factor in (1, 5, 20):
        relation = metamorphic.error_kept(truth, 0.002, factor=factor)
        np.testing.assert_array_equal(metamorphic.violated(relation, said), (said - truth) ** 2 > factor * 0.002)


def test_outputs_are_kept():
    relation = metamorphic.outputs_kept(np.array([0.1, 0.1], np.float32), 0.1)
    np.testing.assert_array_equal(metamorphic.violated(relation, np.array([0.15, 0.25], np.float32)), [False, True])
    with pytest.raises(ValueError, match="factor must be more than 0"):
        metamorphic.error_kept(np.array([0.1], np.float32), 0.1, factor=0)
