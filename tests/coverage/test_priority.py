import numpy as np
import pytest

import cwjax as cw
from cwjax.coverage import priority
from tests.coverage import made

RNG = np.random.default_rng(1)


def greedy(bits):
    """The definition, counted anew at every step."""
    order, left = [], list(range(len(bits)))
    covered = np.zeros(bits.shape[1], bool)
    while left:
        gains = [(bits[row] & ~covered).sum() for row in left]
        if not max(gains):
            break
        order.append(left.pop(int(np.argmax(gains))))
        covered |= bits[order[-1]]
    return order + sorted(left, key=lambda row: -bits[row].sum())


def golden_bits():
    values, of = made.golden()[0]["channel_means"], made.channels()
    it = cw.coverage.boundary_coverage(made.profile_of(values[:50], of))
    return priority.covered_by_each(it, made.activations(values[50:], of))


def test_golden_orders():
    arrays, covered = made.golden()[0], golden_bits()
    np.testing.assert_array_equal(np.bitwise_count(covered).sum(1), arrays["nbc0_profile_scores"])
    totals = arrays["nbc0_profile_scores"]  # their sorting leaves equal ones in no order, so compare what is covered
    np.testing.assert_array_equal(totals[priority.by_total_coverage(covered)], totals[arrays["nbc0_ctm_order"]])
    order = priority.by_additional_coverage(covered)
    np.testing.assert_array_equal(order, arrays["nbc0_cam_order"])
    faulty = arrays["pretend_fault"].astype(bool)
    other = made.golden()[1]["other"]
    assert priority.faults_found_early(order, faulty) == pytest.approx(other["apfd_of_cam_order"], abs=1e-12)
    by_gini = priority.by_score(arrays["deepgini"][50:])
    assert priority.faults_found_early(by_gini, faulty) == pytest.approx(other["apfd_of_deepgini_order"], abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_additional_order_is_the_greedy_one_with_ties(seed):
    bits = np.random.default_rng(seed).random((30, 64)) < 0.1
    covered = np.packbits(bits, axis=1, bitorder="little").view("<u4")
    np.testing.assert_array_equal(priority.by_additional_coverage(covered), greedy(bits))


def test_what_each_covers_unites_to_what_all_cover():
    values, of = made.golden()[0]["channel_means"], made.channels()
    it = cw.coverage.section_coverage(made.profile_of(values[:50], of), sections=100)
    seen = made.activations(values[50:], of)
    each = np.bitwise_or.reduce(priority.covered_by_each(it, seen))
    np.testing.assert_array_equal(each, np.asarray(made.updated(it, seen).bits).reshape(-1))


def test_how_early_faults_are_found():
    faulty = np.asarray([True, False, False, True])
    assert priority.faults_found_early(np.asarray([0, 3, 1, 2]), faulty) == 1 - 2 / (2 * 4)  # the best there is
    assert priority.faults_found_early(np.asarray([1, 2, 0, 3]), faulty) == 1 - 7 / 8 + 1 / 8
    with pytest.raises(ValueError, match="no faults"):
        priority.faults_found_early(np.arange(4), faulty & False)
    with pytest.raises(ValueError, match="names each of them once"):
        priority.faults_found_early(np.zeros(4, int), faulty)


def test_a_state_that_is_not_of_bits_is_refused():
    of = made.convention(3)
    seen = made.activations(np.ones((2, 3), np.float32), of)
    for make in (cw.coverage.covariance_spread, cw.coverage.top_pattern_count):
        with pytest.raises(ValueError, match="not of bits"):
            priority.covered_by_each(make(of), seen)
