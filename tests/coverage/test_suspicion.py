import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.coverage import suspicion
from cwjax.coverage.suspicion import Spectrum
from tests.coverage import made

MEASURES = {"tarantula": suspicion.tarantula, "ochiai": suspicion.ochiai, "dstar3": suspicion.d_star}


def golden_spectrum() -> Spectrum:
    arrays = made.golden()[0]
    return suspicion.spectrum(arrays["channel_means"][50:, 392:] > 0, arrays["pretend_fault"].astype(bool))


def test_golden_spectrum():
    arrays = made.golden()[0]
    for mine, key in zip(golden_spectrum(), ("af", "nf", "as", "ns"), strict=True):
        np.testing.assert_array_equal(mine[0], arrays[f"spectrum_{key}"])


@pytest.mark.parametrize("name", MEASURES)
def test_golden_measures(name):
    np.testing.assert_allclose(MEASURES[name](golden_spectrum())[0], made.golden()[0][name], rtol=1e-6)


def test_all_classes_at_once_are_each_by_itself():
    rng = np.random.default_rng(2)
    active, failed, labels = rng.random((80, 6)) < 0.5, rng.random(80) < 0.3, rng.integers(0, 4, 80)
    together = suspicion.spectrum(active, failed, labels, classes=5)
    for label in range(5):
        alone = suspicion.spectrum(active[labels == label], failed[labels == label])
        for mine, its in zip(together, alone, strict=True):
            np.testing.assert_array_equal(mine[label], its[0])


def counts(af, nf, passed_active, passed_inactive) -> Spectrum:
    return Spectrum(*(jnp.full((1, 1), each, jnp.float32) for each in (af, nf, passed_active, passed_inactive)))


@pytest.mark.parametrize(
    ("af", "nf", "passed", "expected"),
    [
        (0, 0, (5, 3), (0, 0, 0)),  # nothing failed
        (0, 4, (5, 3), (0, 0, 0)),  # never active on what failed
        (0, 4, (0, 8), (0, 0, 0)),  # never active
        (4, 0, (0, 8), (1, 1, np.inf)),  # active on all that failed, and on no other
        (4, 0, (0, 0), (1, 1, np.inf)),  # nothing passed
        (2, 2, (0, 0), (1, np.sqrt(0.5), 4)),
        (0, 0, (0, 0), (0, 0, 0)),  # no inputs
        (2, 2, (4, 4), (0.5, 2 / np.sqrt(4 * 6), 8 / 6)),
    ],
)
def test_the_edges(af, nf, passed, expected):
    reached = [measure(counts(af, nf, *passed))[0, 0] for measure in MEASURES.values()]
    np.testing.assert_allclose(reached, expected, rtol=1e-6)


def test_the_most_suspicious_first_and_none_without_suspicion():
    scores = np.asarray([[0, 0.5, 0.7, 0.5], [0, 0, 0, np.inf]])
    first, second = suspicion.most_suspicious(scores, 3)
    np.testing.assert_array_equal(first, [2, 1, 3])
    np.testing.assert_array_equal(second, [3])


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    active, failed = np.ones((4, 2), bool), np.ones(4, bool)
    with pytest.raises(ValueError, match=r"got \[4, 2\] and \[3\]"):
        suspicion.spectrum(active, failed[:3])
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 0 to 3"):
        suspicion.spectrum(active, failed, np.arange(4), classes=3)
    with pytest.raises(ValueError, match="both labels and the number of classes"):
        suspicion.spectrum(active, failed, np.arange(4))
    with pytest.raises(ValueError, match="power must be more than 0"):
        suspicion.d_star(counts(1, 1, 1, 1), power=0)
