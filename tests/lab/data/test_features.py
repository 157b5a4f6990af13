"""Files whose inputs are features: what they say, and what is refused in one line before anything runs."""

import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.lab import data

X = np.array([[0, 1, 3], [1, 0, 0], [1, 1, 2]], np.float32)
FILE = {
    "images": X,
    "labels": np.array([0, 1, 1]),
    "features": np.array(["SEND_SMS", "INTERNET", "pages"]),
    "levels": np.array([[0, 1, np.nan], [0, 1, np.nan], [0, 1, 2]]),
    "steps": np.array([0, 0, 1.0]),
    "high": np.array([1, 1, 50.0]),
    "rises": np.array([True, False, True]),
    "cost": np.array([1, 2, 0.5]),
    "implies": np.array([[0, 1]]),
}


def written(folder, **arrays) -> str:
    path = folder / "apps.npz"
    np.savez(path, **{name: value for name, value in (FILE | arrays).items() if value is not None})
    return str(path)


def test_a_file_says_what_features_may_be(tmp_path):
    dataset = data.load(written(tmp_path, mask=np.array([True, True, False])), "test")
    np.testing.assert_array_equal(dataset.images, X)  # in its own units
    found = dataset.features
    assert found is not None
    assert found.names == ("SEND_SMS", "INTERNET", "pages")
    assert found.bounds(X)["low"].tolist() == [[0, 0, 3], [1, 0, 0], [1, 0, 2]]
    assert found.bounds(X)["high"].tolist() == [1, 1, 50]
    assert found.priced
    assert float(found.distance("l1").measure(jnp.array([1.0, 1, 4]))) == 5
    assert found.lattice is not None
    assert np.asarray(found.lattice.holds(jnp.array([1.0, 0, 44]))).all()
    assert found.changes(X[0], X[1]) == "SEND_SMS 0 → 1, INTERNET 1 → 0, pages 3 → 0"
    assert dataset.take(slice(1)).features is found


def test_names_and_bounds_may_be_left_out(tmp_path):
    file = {name: None for name in FILE if name not in ("images", "labels")} | {"images": X > 0, "levels": [0, 1]}
    found = data.load(written(tmp_path, **file), "test").features
    assert found is not None
    assert (found.names, found.priced, found.rises.any()) == (("0", "1", "2"), False, False)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": X + 0.5}, "feature INTERNET of input 0 is 1.5, outside .0, 1."),
        (
            {"images": X * 0.5},
            r"elements of x are on none of their levels, first x\[0, 1\], which is 0.5 and not 0 or 1",
        ),
        ({"images": X[:, :, None]}, r"are for vectors \[N, F\]"),
        ({"images": np.full((3, 3), np.nan)}, "3 of 3 inputs hold NaN"),
        ({"levels": np.array([1, 0])}, "levels must ascend, got 1 before 0: sort them"),
        ({"levels": np.array([[0, 1], [0, 1]])}, "levels for 2 elements does not fit one input .3."),
        ({"cost": np.array([1, -2, 1.0])}, "cost must be finite, and at least 0, got -2 for feature 1"),
        ({"cost": np.array([1, np.nan, 1.0])}, "got nan for feature 1"),
        ({"cost": 0.0}, "cost is 0 for every feature"),
        ({"cost": np.ones(2)}, "one for each of 3 features, got float64 .2."),
        ({"low": np.array([0, 0, 60.0])}, "low is 60 and high is 50 for feature pages"),
        ({"rises": np.array([1, 0, 1])}, "rises must be booleans"),
        ({"features": np.array(["a"])}, "features names 1 of them, and inputs have 3"),
        ({"implies": np.array([[0, 7]])}, "places from 0 to 2"),
        ({"levels": None, "steps": None}, "implies is about features on levels"),
        ({"steps": -1.0}, "at least 0, got -1.0"),
        ({"bounds": np.array([0, 1.0])}, "features have low and high: give one of both"),
        (
            {"mask": np.array([True, False, False]), "images": X[1:], "labels": [0, 1]},
            "no feature of any input may change",
        ),
        ({"mask": np.zeros(3, bool)}, "False everywhere"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, arrays, words, as_users_have_it):
    with pytest.raises(ValueError, match=words) as caught:
        data.load(written(tmp_path, **arrays), "test")
    assert "apps.npz" in str(caught.value)
    assert "\n" not in str(caught.value)
