"""Each check of an attack gives its number, by hand."""

from typing import Any

import numpy as np
import pytest

from cwjax.evaluation.diagnosis import of_attack
from cwjax.evaluation.diagnosis.checks import Measured, Skipped
from tests.evaluation.diagnosis.known import columns, found, known, seen

COUNT = 24  # of which three are watched, and eight are few


def measured(check, case) -> Measured:
    result = check(case)
    assert isinstance(result, Measured)
    assert len(result.rows) == len(result.evidence)
    return result


def test_blind_where_the_model_adds_nothing_to_the_first_gradient():
    slopes = np.array([0.0, 2.0, np.nan, 0.0, 1e-30, 3.0, np.nan, 1.0])
    result = measured(of_attack.blind_attack, known(COUNT, first_slopes=slopes))
    assert result.number == 2 / 6  # of those that have something to do
    assert result.note == "2 of 6"
    assert result.rows.tolist() == [0, 1, 3, 4, 5, 7]
    assert isinstance(of_attack.blind_attack(known(COUNT, first_slopes=np.full(8, np.nan))), Skipped)


def incomplete(path) -> list[float]:
    result = measured(of_attack.incomplete, known(COUNT, path=path))
    np.testing.assert_allclose(result.number, np.nan_to_num(result.evidence).mean())
    assert result.rows.tolist() == [0, 1, 2]
    return result.evidence.tolist()


def test_incomplete_is_the_fall_of_the_best_in_the_last_ten_steps():
    step = np.arange(30)
    late = np.where(step < 25, np.inf, 1.0)
    path = seen(30, 3, best=columns(100.0 - step, late, np.zeros(30)))
    assert incomplete(path) == pytest.approx([1 - 71 / 81, 1.0, 0.0])


def test_incomplete_goes_by_the_steps_that_an_example_took():
    step = np.arange(30)
    best = columns(100.0 - step, 100.0 - step, 50.0 - step)
    # After their ends there are states that no longer change; here they do, and must not count.
    path = seen(30, 3, ends=[19, 4, 29], best=best)
    assert incomplete(path) == pytest.approx([1 - 81 / 91, 1 - 96 / 100, 1 - 21 / 31])


def test_incomplete_is_the_fall_of_the_loss_where_nothing_was_found():
    step = np.arange(30)
    up_in_the_end = np.where(step == 29, 500.0, 100.0 - step)  # the best loss counts
    hardly = np.where(step == 29, 99.99, 100.0)  # less than a thousandth of the loss
    assert incomplete(seen(30, 3, loss=columns(100.0 - step, up_in_the_end, hardly))) == pytest.approx(
        [10 / 29, 9 / 28, 0.01 / 0.1], rel=1e-4
    )
    negative = np.where(step == 29, -100.01, -100.0)
    still, lost = np.zeros(30), np.full(30, np.inf)
    with np.errstate(invalid="ignore"):
        assert incomplete(seen(30, 3, loss=columns(negative, still, lost)))[:2] == pytest.approx([0.1, 0.0], rel=1e-4)


@pytest.mark.parametrize(("lengths", "first"), [([30], 0), ([12, 18], 12), ([10, 5, 15], 15)])
def test_incomplete_looks_at_the_last_round_alone(lengths, first):
    ended = np.cumsum(lengths) - 1  # the steps with which rounds end
    rounds = (np.arange(30)[:, None] >= ended[None]).sum(1)
    loss = 100.0 - np.arange(30.0)
    loss[:first] = -1e6  # of the rounds before
    (each, *_) = incomplete(seen(30, 3, loss=loss[:, None], rounds=rounds[:, None]))
    assert each == pytest.approx(10 / (29 - first))


def test_a_success_on_the_way_closer_than_what_is_returned_is_silent():
    returned = 2.0
    closest = columns(*([1.0, 0.95 * returned, 3.0], [1.0, 0.99995 * returned, 3.0], [1.0, returned, 3.0]))
    met = np.array([False, True, True])[:, None]
    path = seen(3, 3, distance=closest, met=met, best=columns(*[[np.inf, returned, returned]] * 3))
    result = measured(of_attack.silent_success, known(COUNT, path=path))
    assert result.number == 1 / 3  # 5 % closer
    assert result.note == "1 of 3"
    np.testing.assert_allclose(result.evidence, closest[1])
    other = seen(3, 3, distance=closest, met=np.ones((3, 3), bool), best=path.best)
    assert measured(of_attack.silent_success, known(COUNT, path=other)).number == 1
    nowhere = seen(3, 3, distance=closest)
    assert measured(of_attack.silent_success, known(COUNT, path=nowhere)).number == 0


def test_unbounded_fails_is_the_share_of_failures_that_pgd_does_not_fool_in_the_whole_box():
    asked = []

    def within(name, places, radius, norm):
        asked.append((name, places.tolist(), radius.tolist(), norm))
        return np.array([np.inf, 1.0, np.inf])[: len(places)]

    success, tried = np.ones(COUNT, bool), np.ones(COUNT, bool)
    success[[2, 5, 7, 9, 11]] = tried[2] = False
    case = found(known(COUNT, within=within, open=tried, low=-1.0, high=np.full((3, 4), 2.0)), success=success)
    result = measured(of_attack.unbounded_fails, case)
    assert asked == [("pgd", [5, 7, 9], [3.0] * 3, "linf")]  # the first of those that had something to be fooled for
    assert result.number == 2 / 3
    assert result.note == "2 of 3"
    assert result.rows.tolist() == [5, 7, 9]
    all_fooled = measured(of_attack.unbounded_fails, found(case, success=success | tried))
    assert (all_fooled.number, len(all_fooled.rows), len(asked)) == (0.0, 0, 1)


def brackets(*bounds, open=None) -> Measured:
    lower, upper = np.array(bounds, float).T
    facts: dict[str, Any] = {} if open is None else {"open": np.array([*open, *[True] * (COUNT - 3)])}
    return measured(of_attack.saturated_c, known(COUNT, path=seen(5, 3, lower=lower, upper=upper), **facts))


def test_a_bracket_of_c_that_is_still_wide_is_saturated():
    result = brackets((1, 5), (1, 20), (1, 90))
    assert result.number == 2 / 3
    assert result.note == "2 of 3 brackets"
    assert result.evidence.tolist() == [5, 20, 90]
    assert brackets((0.5, 5), (2, 20), (3, 90)).number == 1 / 3  # ten times is not wide yet
    assert brackets((0, 5), (1, np.inf), (4, 5)).number == 2 / 3  # at a bound of what was tried
    assert brackets((1, 5), (1, 20), (1, 90), open=(True, True, False)).number == 1 / 3


def test_the_last_bracket_of_c_is_the_one_with_most_rounds_behind_it():
    # A second start begins with a bracket of its own.
    rounds, upper = np.array([1, 2, 3, 3, 0])[:, None], np.array([90.0, 90.0, 90.0, 5.0, np.inf])[:, None]
    path = seen(5, 3, rounds=rounds, lower=1.0, upper=upper)
    assert measured(of_attack.saturated_c, known(COUNT, path=path)).number == 0


def test_without_a_bracket_c_is_saturated_from_half_of_its_ceiling():
    success = np.arange(COUNT) < 4
    c = np.where(success, [7.9, 8.0, 8.1, 1.0, *[np.nan] * (COUNT - 4)], np.nan).astype(np.float32)
    case = found(known(COUNT, path=seen(5, 3), largest_c=16.0, open=np.arange(COUNT) != 2), success=success, c=c)
    result = measured(of_attack.saturated_c, case)
    assert result.number == (1 + COUNT - 4) / (COUNT - 1)  # and where nothing was found
    assert result.note == f"{1 + COUNT - 4} of {COUNT - 1}"
    nothing_to_do = measured(
        of_attack.saturated_c, known(COUNT, path=seen(5, 3), largest_c=1.0, open=np.zeros(COUNT, bool))
    )
    assert nothing_to_do.number == 0
    only = known(COUNT, path=seen(5, 3), largest_c=1.0, open=np.arange(COUNT) == 3)
    assert measured(of_attack.saturated_c, only).number == 1


def test_saturated_tanh_is_the_mean_over_the_steps_that_were_taken():
    saturated = columns([0.1, 0.3, 0.9], [0.5, 0.5, 0.5], [0.0, 0.6, 0.9])
    result = measured(of_attack.saturated_tanh, known(COUNT, path=seen(3, 3, ends=[1, 2, 1], saturated=saturated)))
    np.testing.assert_allclose(result.evidence, [0.2, 0.5, 0.3])
    np.testing.assert_allclose(result.number, 1 / 3)
    assert isinstance(of_attack.saturated_tanh(known(COUNT, path=seen(3, 3))), Skipped)


def too_short(short, long) -> Measured:
    """Of the distances of the attack and of the longer one."""
    count = {1: 1, 3: 24, 8: 64}[len(short)]
    distance = np.concatenate([short, np.full(count - len(short), 7.0)]).astype(np.float32)
    path = seen(4, len(long), ends=2, best=np.array([np.full(len(long), np.inf), long, long, np.zeros(len(long))]))
    return measured(of_attack.too_short, found(known(count, longer={"steps": 8}, longer_path=path), distance=distance))


def test_too_short_is_what_the_longer_attack_gains_less_what_luck_would():
    result = too_short([2.0, np.inf, np.inf, 0.0, 1.0, 4.0, 5.0, 1.0], [1.0, 3.0, np.inf, 0.5, 4.0, 4.0, 1.0, np.inf])
    gain = np.array([0.5, 1.0, 0.0, 0.0, -1.0, 0.0, 0.8, -1.0])
    np.testing.assert_allclose(result.evidence, gain, atol=1e-6)
    assert result.number == 0  # on average nothing is gained
    steady = too_short([2.0, 2.0, 2.0], [1.0, 1.2, 1.4])
    np.testing.assert_allclose(steady.number, 0.4 - 0.1 / np.sqrt(3), rtol=1e-5)
    assert steady.note == "mean 0.4 ± 0.058"
    np.testing.assert_allclose(steady.most, 0.4 + 0.1 / np.sqrt(3), rtol=1e-5)
    np.testing.assert_allclose(too_short([2.0], [1.5]).number, 0.25)


def test_too_short_needs_to_know_what_is_longer():
    assert isinstance(of_attack.too_short(known(COUNT)), Skipped)
