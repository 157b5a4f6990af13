"""Colours moved between two sets, and inputs that are too far away to be judged."""

import numpy as np
import pytest

from cwjax.generation import deeproad

RNG = np.random.default_rng(0)


def images(count, colours=3, seed=0):
    return np.random.default_rng(seed).uniform(0.2, 0.8, (count, 5, 4, colours)).astype(np.float32)


def test_moved_colours_have_the_mean_and_covariance_of_the_target():
    source = images(40)
    mixed = np.einsum("...c,dc->...d", images(60, seed=1), np.array([[0.6, 0.2, 0], [0, 0.5, 0.1], [0.1, 0, 0.4]]))
    moved = np.asarray(deeproad.colours_between(source, mixed)(source)).reshape(-1, 3)
    target = mixed.reshape(-1, 3)
    np.testing.assert_allclose(moved.mean(0), target.mean(0), atol=1e-3)
    np.testing.assert_allclose(np.cov(moved.T), np.cov(target.T), atol=2e-3)


def test_gray_images_and_ones_that_never_vary_can_be_moved():
    gray = images(10, 1)
    np.testing.assert_allclose(deeproad.colours_between(gray, 0.5 * gray)(gray), 0.5 * gray, atol=1e-3)
    flat = np.full_like(gray, 0.25)
    assert np.isfinite(np.asarray(deeproad.colours_between(flat, gray)(flat))).all()


def test_colours_cannot_reverse_light_and_dark():
    gray = images(10, 1)
    moved = np.asarray(deeproad.colours_between(gray, 1 - gray)(gray))
    assert np.corrcoef(moved.ravel(), gray.ravel())[0, 1] > 0.99


def test_the_threshold_rejects_the_share_of_held_out_inputs_that_is_asked_for():
    features, held_out = RNG.normal(size=(500, 8)), RNG.normal(size=(400, 8))
    valid = deeproad.validator(features, held_out, rejected=0.05)
    assert 1 - np.asarray(valid.accepts(held_out)).mean() == pytest.approx(0.05, abs=1.5 / 400)
    assert not np.asarray(valid.accepts(held_out + 10)).any()


def test_distances_are_those_of_mahalanobis_where_all_axes_are_kept():
    mixing = RNG.normal(size=(6, 6))
    features, asked = RNG.normal(size=(300, 6)) @ mixing, RNG.normal(size=(20, 6)) @ mixing
    centred = asked - features.mean(0)
    expected = np.sqrt(np.einsum("bi,ij,bj->b", centred, np.linalg.inv(np.cov(features.T)), centred))
    np.testing.assert_allclose(deeproad.validator(features, features).distance(asked), expected, rtol=1e-3)


def test_axes_without_variance_are_left_out():
    features = np.concatenate([RNG.normal(size=(50, 2)), np.ones((50, 3))], 1)
    assert deeproad.validator(features, features).whitening.shape == (5, 2)


def test_separation_is_the_share_of_pairs_in_order():
    assert deeproad.separation(np.array([0.0, 2.0]), np.array([1.0, 3.0])) == 0.75
    assert deeproad.separation(np.ones(2), np.ones(1)) == 0.5
    assert deeproad.separation(np.array([5.0]), np.array([1.0, 2.0])) == 0.0


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: deeproad.colours_between(images(3), images(3, 1)), "colours are moved between"),
        (lambda: deeproad.validator(np.ones((5, 3)), np.ones((5, 3))), "never vary"),
        (lambda: deeproad.validator(np.ones((1, 3)), np.ones((5, 3))), "at least two inputs"),
        (lambda: deeproad.validator(np.full((5, 3), np.nan), np.ones((5, 3))), "NaN"),
        (lambda: deeproad.validator(RNG.normal(size=(5, 3)), np.ones((5, 3)), rejected=1.0), "share below 1"),
        (lambda: deeproad.separation(np.zeros(0), np.ones(1)), "two sets"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, said):
    with pytest.raises(ValueError, match=said):
        call()
