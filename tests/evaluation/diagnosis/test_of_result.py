"""Each check of a result gives its number, by hand."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.evaluation.diagnosis import of_result
from cwjax.evaluation.diagnosis.case import RADII
from cwjax.evaluation.diagnosis.checks import Measured, Skipped
from tests import problems
from tests.evaluation.diagnosis.known import found, known

COUNT = 24  # of which eight are few
ALL = np.arange(COUNT)


def measured(check, case) -> Measured:
    result = check(case)
    assert isinstance(result, Measured)
    assert len(result.rows) == len(result.evidence)
    return result


def weaker(*, fgsm=None, pgd=None, noise=(), norm="l2", tried=None, success=None):
    """A case at distance 1 everywhere, and what weaker attacks come to: distances; inf where they fail."""
    asked = []

    def within(name, places, radius, of):
        asked.append((name, len(places), radius.tolist(), of))
        return np.full(COUNT, np.inf) if fgsm is None else fgsm

    def drawn(places, radius, count):
        asked.append((places.tolist(), radius.tolist(), count))
        lead, distance = np.full((4, count), -1.0), np.full((4, count), 0.1)
        for row, (length, ahead) in enumerate(noise):
            distance[row, 7], lead[row, 7] = length, ahead
        return lead, distance

    climbs = np.full((len(RADII), 8), np.inf)
    if pgd is not None:
        climbs[0] = pgd
    facts = {"within": within, "drawn": drawn, "climbs": climbs, "reach": np.ones(COUNT, np.float32), "norm": norm}
    facts |= {} if tried is None else {"open": tried}
    return found(known(COUNT, **facts), success=np.ones(COUNT, bool) if success is None else success), asked


def test_weaker_wins_where_something_simple_comes_within_nine_tenths():
    fgsm = np.full(COUNT, np.inf)
    fgsm[[9, 10, 11, 12]] = [0.5, 0.9 * (1 + 5e-5), 0.9 * (1 + 5e-4), 0.95]
    pgd = np.array([np.inf, 0.89, np.inf, np.inf, np.inf, 0.2, 0.91, np.inf])
    case, asked = weaker(fgsm=fgsm, pgd=pgd, noise=[(0.3, 1.0), (0.3, -1.0), (0.95, 1.0)])
    result = measured(of_result.weaker_wins, case)
    assert result.note == f"5 of {COUNT} by FGSM, PGD or noise"  # by FGSM 9 and 10, by PGD 1 and 5, by noise 0
    assert result.number == 5 / COUNT
    assert result.rows.tolist() == ALL.tolist()
    np.testing.assert_allclose(result.evidence[[0, 1, 5, 9]], [0.3, 0.89, 0.2, 0.5])
    assert asked[0] == ("fgsm", COUNT, pytest.approx([0.9] * COUNT), "l2")
    assert asked[1] == ([0, 1, 2, 3], pytest.approx([0.9] * 4), 1000)


def test_noise_goes_first_where_the_attack_failed():
    success = ~np.isin(ALL, [3, 6, 7])
    case, asked = weaker(success=success)
    assert measured(of_result.weaker_wins, case).number == 0
    assert asked[1][0] == [3, 6, 7, 0]


def test_examples_with_nothing_to_be_fooled_for_do_not_count():
    tried = ALL >= 8
    case, _ = weaker(fgsm=np.where(ALL < 10, 0.1, np.inf), tried=tried)
    result = measured(of_result.weaker_wins, case)
    assert result.number == 2 / 16
    assert result.rows.tolist() == list(range(8, COUNT))
    assert result.note == "2 of 16 by FGSM, PGD or noise"
    assert isinstance(of_result.weaker_wins(weaker(tried=np.zeros(COUNT, bool))[0]), Skipped)


def test_in_l0_noise_alone_is_tried():
    case, asked = weaker(fgsm=np.full(COUNT, 0.1), pgd=np.full(8, 0.1), noise=[(0.3, 1.0)], norm="l0")
    result = measured(of_result.weaker_wins, case)
    assert result.number == 1 / COUNT
    assert len(asked) == 1


def climbed(*shares, distance=None, tried=None, norm="l2"):
    """A case in which PGD succeeds on so many of eight at each radius."""
    climbs = np.array([[0.5] * each + [np.inf] * (8 - each) for each in shares])
    facts = {"climbs": climbs, "norm": norm} | ({} if tried is None else {"open": tried})
    return found(known(COUNT, **facts), distance=np.ones(COUNT, np.float32) if distance is None else distance)


def test_not_monotone_is_the_largest_fall_of_pgd_from_one_radius_to_the_next():
    result = measured(of_result.not_monotone, climbed(2, 7, 5, 6))
    assert result.number == pytest.approx(2 / 8)
    within = "within 0.9, 1.5, 3, 6 × the distance that this attack found for each example"
    assert result.note == f"PGD fooled 25 %, 88 %, 62 %, 75 % {within}"
    assert result.rows.tolist() == list(range(8))
    np.testing.assert_array_equal(np.isinf(result.evidence), [False] * 6 + [True] * 2)
    np.testing.assert_array_equal(result.each, [0] * 5 + [1] * 2 + [0])  # those that a larger radius lost
    assert measured(of_result.not_monotone, climbed(2, 2, 7, 8)).number == 0


def test_not_monotone_goes_by_what_was_fooled():
    distance = np.where(ALL < 6, 1.0, np.inf).astype(np.float32)
    result = measured(of_result.not_monotone, climbed(6, 8, 3, 8, distance=distance, tried=ALL != 1))
    assert result.number == pytest.approx(1 - 2 / 5)
    assert result.rows.tolist() == [0, 2, 3, 4, 5]
    for case in (
        climbed(8, 8, 8, 8, norm="l0"),
        climbed(8, 8, 8, 8, distance=np.full(COUNT, np.inf, np.float32)),
        climbed(8, 8, 8, 8, tried=np.zeros(COUNT, bool)),
    ):
        assert isinstance(of_result.not_monotone(case), Skipped)


def test_lost_by_rounding_is_the_share_that_repair_does_not_bring_back():
    asked = []

    def rounded(places):
        asked.append(places.tolist())
        after = SimpleNamespace(success=np.array([True, False, True, True]), distance=np.array([1.0, np.inf, 2.0, 1.0]))
        return after, SimpleNamespace(rounded=np.array([False, False, True, False]))

    success, tried = np.isin(ALL, [0, 1, 3, 5, 6, 20]), ALL != 1
    case = found(known(COUNT, rounded=rounded, open=tried), success=success)
    result = measured(of_result.lost_by_rounding, case)
    assert asked == [[0, 3, 5, 6]]  # of the few
    assert result.number == 1 / 4
    assert result.note == "3 of 4 lost by plain rounding, 1 after repair"
    assert isinstance(of_result.lost_by_rounding(found(case, success=ALL == 20)), Skipped)


def test_second_look_is_the_share_that_the_model_alone_does_not_confirm():
    seen = []

    def apply(params, x):
        seen.append(len(x))
        return x.reshape(len(x), -1)[:, :2] * jnp.array([[0.0, 1.0]])  # away from class 0 by the second pixel

    count = 300
    case = known(count, model=cw.bind(apply, ()), confidence=0.25)
    success = np.arange(count) % 2 == 0
    x = np.zeros((count, *problems.SHAPE), np.float32)
    x[:, 0, 1] = 0.5
    x[[4, 6, 8], 0, 1] = [0.0, 0.2, 0.25]  # below the confidence, for two of them
    result = measured(of_result.second_look, found(case, success=success, x=x))
    assert result.number == 2 / 150
    assert result.note == "2 of 150"
    assert result.rows.tolist() == list(range(0, count, 2))
    np.testing.assert_allclose(result.evidence[:5], [0.5, 0.5, 0.0, 0.2, 0.25])
    assert set(seen) == {32}
    assert case.spent == {"forwards": 160, "backwards": 0}  # five blocks
    assert isinstance(of_result.second_look(case), Skipped)
