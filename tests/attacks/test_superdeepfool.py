"""SuperDeepFool goes where adv-lib's goes, and is never farther than DeepFool."""

import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.deepfool import deepfool
from cwjax.attacks.superdeepfool import superdeepfool
from tests.attacks.plain_net import CONSTANT, X, asked, goal, walk

# adv-lib 0.2.8, `sdf(net, x, label, …)` in float64, on the network and the inputs of plain_net, each away from the
# network's own answer: the distance of what it returns.
ADV_LIB = {  # its df_steps, search_iter
    (100, 0): [0.037607, 0.140847, 0.826538, 0.602279, 0.17398, 0.004636],
    (1, 10): [0.02286, 0.071931, 0.524788, 0.453622, 0.091673, 0.00245],
}


def walked(place, attack, **knobs):
    return walk(attack, X[place], goal(asked(place, -1.0), -1.0), 200, **knobs)


def length(x, place):
    return float(np.linalg.norm(x - X[place]))


def test_it_ends_where_adv_libs_ends():
    attack = superdeepfool(search_steps=0)
    for place, expected in enumerate(ADV_LIB[100, 0]):
        points, _ = walked(place, attack)
        assert length(points[-1], place) == pytest.approx(expected, rel=2e-3)


def test_its_search_ends_where_adv_libs_ends():
    attack = superdeepfool(inner_steps=1)
    for place, expected in enumerate(ADV_LIB[1, 10]):
        _, progress = walked(place, attack)
        assert float(progress.best.distance) == pytest.approx(expected, rel=2e-3)


def test_the_search_halves_the_segment_to_the_clean_input():
    points, progress = walked(2, superdeepfool(search_steps=3))
    end = points[-4]
    shares = [length(point, 2) / length(end, 2) for point in points[-3:]]
    for share, point in zip(shares, points[-3:], strict=True):
        np.testing.assert_allclose(point, X[2] + share * (end - X[2]), atol=1e-6)
    assert shares[0] == pytest.approx(0.5, abs=1e-5)
    assert [round(8 * share) for share in shares] == [4, 6, 5]  # a half is missed and 6/8 is met
    assert float(progress.best.distance) < shares[1] * length(end, 2)  # DeepFool's own end was nearer


def test_it_is_closer_than_deepfool():
    attacks = superdeepfool(), deepfool()
    ours, theirs = ([float(walked(place, each)[1].best.distance) for place in range(len(X))] for each in attacks)
    assert (np.array(ours) <= theirs).all()
    assert sum(ours) < sum(theirs)


def test_each_point_costs_a_backward_pass_for_each_other_class():
    points, progress = walked(2, superdeepfool())
    assert int(progress.forwards) == len(points)
    assert int(progress.backwards) == 4 * len(points)


def test_towards_a_target_it_searches_too():
    attacks = superdeepfool(), deepfool(steps=200)
    for place in range(len(X)):
        aim = goal(asked(place, 1.0), 1.0)
        found = [float(walk(attack, X[place], aim, 200)[1].best.distance) for attack in attacks]
        assert found[0] <= found[1]


def test_a_slope_of_zero_moves_nothing():
    points, progress = walk(superdeepfool(inner_steps=2, steps=6), X[0], goal(0, -1.0), 6, model=CONSTANT)
    np.testing.assert_allclose(points[1:] - points[:-1], 0, atol=1e-5)
    assert progress.finite
    assert np.isinf(progress.best.distance)


def test_held_elements_stay():
    mask = jnp.arange(12).reshape(3, 4) % 2 == 0
    points, _ = walked(0, superdeepfool(), mask=mask)
    held = ~np.asarray(mask)
    np.testing.assert_array_equal(points[:, held], np.stack([X[0][held]] * len(points)).astype(np.float64))
    assert not np.array_equal(points[0], points[-1])


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"overshoot": -0.1}, "overshoot must be at least 0, got -0.1"),
        ({"inner_steps": 0}, "inner_steps must be at least 1, got 0"),
        ({"search_steps": -1}, "search_steps must be at least 0, got -1"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"objective": cw.attacks.deepfool}, "objective must be of the type cwjax.Objective"),
    ],
)
def test_what_it_refuses(told, message):
    with pytest.raises((ValueError, TypeError), match=message):
        superdeepfool(**told)
