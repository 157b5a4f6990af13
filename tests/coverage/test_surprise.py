import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.coverage import surprise
from tests import golden_net
from tests.coverage import made

RNG = np.random.default_rng(0)
REFERENCE = RNG.normal(size=(60, 5))
CLASSES = RNG.integers(0, 3, 60)
VALUES = RNG.normal(size=(23, 5))
PREDICTED = RNG.integers(0, 3, 23)


def predictions() -> np.ndarray:
    """Of the golden network: it is right about every digit, and gives one label for each."""
    model, digits = golden_net.load()[0], made.digits()
    return np.asarray(jax.jit(lambda model, x: model.of_batch(x).argmax(-1))(model, digits))


@pytest.mark.parametrize(("part", "name"), [(slice(392, 592), "dense5"), (slice(592), "all592")])
def test_golden_distances(part, name):
    values, labels = made.golden()[0]["channel_means"][:, part].astype(float), predictions()
    expected = made.golden()[0][f"dsa_ref_{name}"]
    with jax.enable_x64(True):
        scores = surprise.distance_surprise(values[:50], labels[:50], values[50:], labels[50:], batch=16)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    single = surprise.distance_surprise(values[:50], labels[:50], values[50:], labels[50:])
    np.testing.assert_allclose(single, expected, rtol=1e-5)
    counted = {key: value for key, value in made.golden()[1]["other"]["surprise_coverage"].items() if name in key}
    for key, buckets in counted.items():
        n = int(key.rsplit("_", 1)[1])
        assert round(surprise.surprise_coverage(scores, upper=2, buckets=n) * n) == buckets


def test_golden_likelihoods():
    arrays = made.golden()[0]
    values = arrays["channel_means"][:, 392:]
    fitted = surprise.density(values[:50], columns=20)
    np.testing.assert_array_equal(fitted.columns, np.sort(arrays["lsa_kept_columns_top20"]))
    scores = surprise.likelihood_surprise(fitted, values[50:], batch=7)
    np.testing.assert_allclose(scores, arrays["lsa_ref_dense5_top20"], rtol=1e-9)


@pytest.mark.parametrize(("part", "name"), [(slice(392, 592), "dense5"), (slice(592), "all592")])
def test_golden_mahalanobis(part, name):
    values = made.golden()[0]["channel_means"][:, part]
    scores = surprise.mahalanobis_surprise(values[:50], values[50:])
    np.testing.assert_allclose(scores, made.golden()[0][f"mdsa_{name}"], rtol=1e-5)


def test_distances_by_definition():
    scores = surprise.distance_surprise(REFERENCE, CLASSES, VALUES, PREDICTED, batch=5)
    for score, value, label in zip(scores, VALUES, PREDICTED, strict=True):
        same, other = REFERENCE[label == CLASSES], REFERENCE[label != CLASSES]
        first = same[np.linalg.norm(same - value, axis=1).argmin()]
        apart = np.linalg.norm(other - first, axis=1).min()
        assert score == pytest.approx(np.linalg.norm(value - first) / apart, rel=1e-4)


def test_distances_where_points_coincide():
    reference, classes = np.asarray([[0.0, 0], [0, 0], [3, 4]]), np.asarray([0, 1, 1])
    scores = surprise.distance_surprise(
        reference, classes, np.asarray([[0.0, 0], [1, 0], [3, 4]]), np.asarray([0, 0, 1])
    )
    np.testing.assert_array_equal(scores, [0, np.inf, 0])


def test_a_likelihood_far_away_stays_finite():
    fitted = surprise.density(REFERENCE)
    near, far = surprise.likelihood_surprise(fitted, np.stack([REFERENCE[0], REFERENCE[0] + 1e4]))
    assert near < far < np.inf


def test_a_density_sums_to_one():
    fitted = surprise.density(REFERENCE[:, :1])
    line = np.linspace(-8, 8, 4001)
    heights = np.exp(-surprise.likelihood_surprise(fitted, line[:, None]))
    assert heights.sum() * (line[1] - line[0]) == pytest.approx(1, abs=1e-6)


def test_columns_that_hardly_vary_are_left_out():
    flat = np.concatenate([REFERENCE, np.full((60, 1), 7.0)], axis=1)
    np.testing.assert_array_equal(surprise.density(flat).columns, range(5))
    np.testing.assert_allclose(
        surprise.mahalanobis_surprise(flat, flat), surprise.mahalanobis_surprise(REFERENCE, REFERENCE), rtol=1e-6
    )


def test_buckets_are_open_below_and_closed_above():
    assert surprise.surprise_coverage(np.asarray([0.0, 2.1, np.inf]), upper=2, buckets=4) == 0
    assert surprise.surprise_coverage(np.asarray([0.5, 0.51, 2.0]), upper=2, buckets=4) == 0.75


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    with pytest.raises(ValueError, match="predicted as class 3"):
        surprise.distance_surprise(REFERENCE, CLASSES, VALUES, PREDICTED + 1)
    with pytest.raises(ValueError, match="all reference inputs are of class 0"):
        surprise.distance_surprise(REFERENCE, CLASSES * 0, VALUES, PREDICTED * 0)
    with pytest.raises(ValueError, match="reference has a NaN"):
        surprise.distance_surprise(np.where(REFERENCE > 1, np.nan, REFERENCE), CLASSES, VALUES, PREDICTED)
    with pytest.raises(ValueError, match="4 inputs say how 3 of 5 neurons vary together"):
        surprise.density(REFERENCE[:4])
    with pytest.raises(ValueError, match="activations must be activations"):
        surprise.mahalanobis_surprise(REFERENCE[0], VALUES)
    with pytest.raises(ValueError, match="upper must be more than 0"):
        surprise.surprise_coverage(np.ones(3), upper=0)
    assert cw.coverage.surprise is surprise
