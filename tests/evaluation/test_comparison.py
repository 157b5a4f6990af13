"""Attacks against each other: areas against numerical integration, optimality by hand, tests of rank against scipy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cwjax.evaluation import comparison, metrics

PROPERTY = settings(deadline=None, max_examples=50, derandomize=True, database=None)
INF = float("inf")
B = 7
DISTANCES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.5, INF]) | st.floats(0, 3), min_size=B, max_size=B)


@PROPERTY
@given(DISTANCES, st.floats(0.125, 4))
def test_the_area_is_the_integral_of_the_step_function(distances, most):
    edges = np.unique(np.clip([0.0, most, *distances], 0, most))
    share = [np.mean(np.array(distances) > edge) for edge in edges[:-1]]  # constant from each edge to the next
    assert comparison.robust_area(np.array(distances), most) == pytest.approx(float(share @ np.diff(edges)))


def test_the_area_is_what_success_curve_leaves():
    distances, thresholds = np.array([0.0, 0.5, 1.0, INF], np.float32), np.linspace(0, 2, 4001, dtype=np.float32)
    robust = 1 - np.asarray(metrics.success_curve(distances, thresholds), np.float64)
    assert comparison.robust_area(distances, 2.0) == pytest.approx(float(np.trapezoid(robust, thresholds)), abs=1e-3)


def test_local_optimality_by_hand():
    # One example is misclassified before any attack; d_max is 2, so clean accuracy times d_max is 1.5.
    best = np.array([0.0, 1.0, 1.0, 2.0])
    assert comparison.local_optimality(best, best) == 1.0
    nothing = np.array([0.0, INF, INF, INF])
    assert comparison.local_optimality(nothing, best) == pytest.approx(0.0)
    # A* = (0 + 1 + 1 + 2) / 4 = 1; A = (0 + 1 + 1.5 + 2) / 4 = 1.125
    assert comparison.local_optimality(np.array([0.0, 1.0, 1.5, INF]), best) == pytest.approx(1 - 0.125 / 0.5)


@PROPERTY
@given(DISTANCES, DISTANCES)
def test_optimality_is_between_none_and_all(first, second):
    wrong = np.array(first) == 0  # before any attack, and so for all of them
    distances = {"first": np.array(first), "second": np.where(wrong, 0, np.maximum(second, 0.125))}
    both = comparison.local_optimalities(distances | {"both": comparison.envelope(distances)})
    values = np.array(list(both.values()))
    assert np.isnan(values).all() or ((values > -1e-9) & (values <= 1)).all()
    assert np.isnan(values).all() or both["both"] == 1


def test_optimality_where_nobody_succeeds_is_unknown():
    assert np.isnan(comparison.local_optimality(np.full(3, INF), np.full(3, INF)))


def test_an_attack_below_its_envelope_is_refused():
    with pytest.raises(ValueError, match="below the envelope"):
        comparison.local_optimality(np.array([1.0, 0.5]), np.array([1.0, 1.0]))


def test_global_optimality_is_the_mean_over_models():
    means = comparison.global_optimalities([{"a": 0.5, "b": 1.0}, {"a": 0.75}])
    assert means["a"] == 0.625
    assert np.isnan(means["b"])


def test_the_common_mean_is_over_examples_that_all_fool():
    distances = {"a": np.array([1.0, 2.0, INF, 4.0]), "b": np.array([3.0, INF, 1.0, 5.0])}
    assert comparison.common_successes(distances).tolist() == [True, False, False, True]
    assert comparison.common_means(distances) == {"a": 2.5, "b": 4.0}
    assert comparison.envelope(distances).tolist() == [1.0, 2.0, 1.0, 4.0]
    assert np.isnan(comparison.common_means({"a": np.array([INF]), "b": np.array([1.0])})["a"])


def scipys(difference) -> float:
    result: Any = stats.wilcoxon(difference)
    return float(result.pvalue)


def test_wilcoxon_is_scipys_where_all_succeed():
    rng = np.random.default_rng(0)
    first, second = rng.uniform(1, 2, 30), rng.uniform(1.1, 2.1, 30)
    assert comparison.wilcoxon(first, second) == pytest.approx(scipys(first - second))
    assert comparison.wilcoxon(first, second) == pytest.approx(comparison.wilcoxon(second, first))


def test_wilcoxon_of_failures_and_ties():
    same = np.array([1.0, INF, 2.0])
    assert comparison.wilcoxon(same, same) == 1.0
    rng = np.random.default_rng(0)
    good, bad = rng.uniform(1, 2, 20), np.full(20, INF)
    assert comparison.wilcoxon(good, bad) < 1e-4  # a failure is farther than any success
    half = np.where(np.arange(20) % 2, good, bad)
    assert comparison.wilcoxon(half, good) < 0.01


def test_wilcoxon_does_not_depend_on_how_far_a_failure_is():
    first = np.array([1.0, 2.0, 3.0, INF, 5.0, 1.0])
    second = np.array([1.5, 2.25, 2.0, 4.0, INF, 1.0])
    numbers = [np.where(np.isfinite(each), each, 1e6) for each in (first, second)]
    dropped = numbers[0] - numbers[1]
    expected = scipys(dropped[dropped != 0])
    assert comparison.wilcoxon(first, second) == pytest.approx(expected)


def test_anytime_by_hand():
    best = np.array([[INF, 2.0, 1.0, 1.0], [INF, INF, 3.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    way = comparison.anytime(best, most=2.0)
    np.testing.assert_allclose(way.success_rate, [1 / 3, 2 / 3, 1, 1])
    np.testing.assert_allclose(way.mean, [4 / 3, 4 / 3, 1, 0.5])
    np.testing.assert_allclose(way.median, [INF, 2, 1, 0.5])
    assert comparison.anytime_area(best, most=2.0) == pytest.approx((4 / 3 + 4 / 3 + 1 + 0.5) / 8)


def test_the_anytime_area_is_one_for_who_never_finds_anything():
    assert comparison.anytime_area(np.full((2, 5), INF), most=3.0) == 1.0
    assert comparison.anytime_area(np.zeros((2, 5)), most=3.0) == 0.0


@PROPERTY
@given(st.lists(st.lists(st.floats(0, 3) | st.just(INF), min_size=4, max_size=4), min_size=1, max_size=6))
def test_anytime_never_gets_worse(rows):
    way = comparison.anytime(np.minimum.accumulate(np.array(rows), 1), most=2.0)
    assert (np.diff(way.success_rate) >= 0).all()
    assert (np.diff(way.mean) <= 1e-12).all()
    assert (way.median[1:] <= way.median[:-1]).all()


def test_cases_are_the_easiest_all_and_the_hardest_target():
    index = np.array([5, 5, 5, 2, 2, 2])
    distance = np.array([3.0, 1.0, 2.0, INF, 4.0, 6.0])
    picked = comparison.cases(index, distance)
    assert picked["best"].tolist() == [4, 1]
    assert picked["average"].tolist() == list(range(6))
    assert picked["worst"].tolist() == [3, 0]  # a failure, if any failed


@pytest.mark.parametrize("distance", [np.array([1.0, np.nan]), np.array([-1.0]), np.zeros((2, 2)), np.zeros(0)])
def test_what_is_no_distance_is_refused(distance):
    with pytest.raises((ValueError, TypeError), match=r"distances must be|type"):
        comparison.robust_area(distance, 1.0)


def test_attacks_on_other_examples_are_refused():
    with pytest.raises(ValueError, match="same examples"):
        comparison.envelope({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(ValueError, match="same examples"):
        comparison.envelope({})
