"""The benchmark against exact minima, at a small size."""

import numpy as np
import pytest

from benchmarks import exact
from benchmarks.dense import logits
from cwjax.lab import data
from tests.lab.conftest import Blobs


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A tiny network on blobs, and two attacks."""
    monkeypatch.setitem(data.SOURCES, "blobs", Blobs())
    monkeypatch.setattr(exact, "HIDDEN", (4,))
    monkeypatch.setitem(exact.RECIPE, "own", exact.RECIPE["standard"]._replace(shift=0, epochs=30))
    monkeypatch.setattr(exact, "ATTACKS", {"linf": ("fast_linf", "fmn")})
    return exact.Arguments(networks=("own",), norm=("linf",), budgets=(40,), examples=2, data="blobs", out=tmp_path)


def test_means_of_two_by_two_pixels():
    images = np.arange(24, dtype=np.float32).reshape(1, 4, 6, 1)
    dataset = data.Dataset("own", "test", images, np.zeros(1, np.int32), ("no", "yes"), np.arange(1))
    np.testing.assert_array_equal(exact.pooled(dataset).images[0, ..., 0], [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]])


def test_a_table_says_the_median_the_worst_and_what_was_missed():
    minima = [{"distance": 0.5, "bound": bound, "seconds": 2.0, "checked": True} for bound in (0.5, 0.5, 0.1)]
    distances = {("fast_linf", 20): np.array([0.5, 0.6, 0.55]), ("fmn", 20): np.array([0.5, np.inf, 0.55])}
    raced = exact.Heat("own", "linf", distances, minima)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "ATTACKS", {"linf": ("fast_linf", "fmn")})
        lines = exact.table(raced, exact.Arguments(budgets=(20,)))
    assert "3 images, 3 of them checked. Minima from 0.5 to 0.5, at least 99.00% of each proved; 2.0 s" in lines[0]
    assert lines[-3:-1] == ["| fast_linf | 1.1000 / 1.200 |", "| fmn | 1.1000 / 1 missed |"]


@pytest.mark.long
def test_the_benchmark_of_exact_minima_at_a_small_size(small, monkeypatch, capsys):
    [raced] = exact.main(small)
    assert "| fast_linf | " in capsys.readouterr().out
    assert all(each["checked"] for each in raced.minima)
    ratios = raced.ratios("fast_linf", 40)
    assert (ratios >= 1 - 1e-4).all()
    layers = exact.layers_of(exact.trained("own", small))
    image = exact.pooled(data.load("blobs", "test")).images[:1]
    model = exact.trained("own", small)
    np.testing.assert_allclose(
        logits(layers, image.reshape(1, -1).astype(float)), model.apply(model.params, image), rtol=1e-4, atol=1e-5
    )
    # A second run takes what is there.
    monkeypatch.setattr(exact, "nearest_example", None)
    monkeypatch.setattr(exact, "epoch", None)
    [again] = exact.main(small)
    assert again.minima == raced.minima
