"""So many of several lags at most 0, against the definition in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.parts.objectives.count import lacking, outputs_margin, raised

SIZE, EPS, TINY = 5, 2.0**-23, 2.0**-126


def definition(question, hinged: bool) -> tuple[float, bool, np.ndarray]:
    """Loss, whether nothing is lacking, and slope; for lags that differ."""
    lags, counted, least = question
    slope = np.zeros(lags.size)
    if not 1 <= least <= counted.sum():
        return np.nan, False, slope
    smallest = np.flatnonzero(counted)[np.argsort(lags[counted])][:least]
    met = bool(lags[smallest[-1]] <= 0)
    if met and not hinged:
        slope[smallest[-1]] = 1
        return lags[smallest[-1]], met, slope
    behind = smallest[lags[smallest] > 0]
    slope[behind] = 1 / least
    return lags[behind].sum() / least, met, slope


def asked(question, hinged=True):
    """Loss, whether nothing is lacking, and slope, of every row."""

    def one(lags, counted, least):
        (loss, met), pull = jax.vjp(lambda lags: lacking(lags, counted, least, hinged=hinged), lags)
        return loss, met, pull((jnp.ones(()), np.zeros((), jax.dtypes.float0)))[0]

    lags, counted, least = question
    given = jnp.asarray(lags, jnp.float32), jnp.asarray(counted), jnp.asarray(least, jnp.int32)
    return [np.asarray(each) for each in jax.jit(jax.vmap(one))(*given)]


@pytest.fixture(scope="module")
def questions():
    """Lags, which of them count, and how many are to be reached, from none to one too many."""
    generator = np.random.default_rng(0)
    lags = generator.permuted(np.tile(np.arange(-4.0, 6.0), (400, 1)), axis=1)[:, :SIZE] / 2  # 0 is among them
    return lags, generator.random((400, SIZE)) < 0.7, generator.integers(0, SIZE + 2, 400)


@pytest.mark.parametrize("hinged", [True, False])
def test_the_loss_and_its_slope_are_their_definition(questions, hinged):
    loss, met, slope = asked(questions, hinged)
    expected = [definition(row, hinged) for row in zip(*questions, strict=True)]
    np.testing.assert_allclose(loss, [each[0] for each in expected], rtol=1e-6)
    np.testing.assert_array_equal(met, [each[1] for each in expected])
    possible = np.isfinite(loss)
    np.testing.assert_allclose(slope[possible], np.array([each[2] for each in expected])[possible], rtol=1e-6)
    assert 50 < met.sum() < 350
    assert 50 < possible.sum() < 350


def test_where_the_goal_is_missed_the_hinge_changes_nothing(questions):
    hinged, free = asked(questions, True), asked(questions, False)
    for one, other in zip(hinged, free, strict=True):
        np.testing.assert_array_equal(one[~hinged[1]], other[~hinged[1]])
    np.testing.assert_array_equal(hinged[0][hinged[1]], 0)
    assert (free[0][hinged[1]] <= 0).all()
    assert (free[0][hinged[1]] < 0).any()


@pytest.mark.parametrize("hinged", [True, False])
@pytest.mark.parametrize("least", [1, 2, 3])
def test_the_loss_is_continuous_where_the_goal_comes_to_be_met(hinged, least):
    step = np.linspace(-1e-3, 1e-3, 41)
    lags = np.stack([step, step - 0.5, 2 * step], 1)
    loss, met, _ = asked((lags, np.ones((41, 3), bool), np.full(41, least)), hinged)
    assert np.abs(np.diff(loss)).max() <= 1.01e-4
    if least > 1:
        assert not met[21:].any()
    assert met[:20].all()


def test_where_lags_are_alike_as_many_as_have_to_be_reached_have_a_slope():
    _, _, slope = asked(([[2.0, 2.0, 2.0, 2.0]], [[True, False, True, True]], [2]))
    assert sorted(slope[0]) == [0, 0, 0.5, 0.5]
    assert slope[0, 1] == 0


def test_the_shape_of_the_lags_does_not_matter():
    lags, counted = jnp.array([[3.0, -1.0], [0.5, 2.0]]), jnp.array([[True, True], [True, False]])
    loss, met = lacking(lags, counted, jnp.int32(3))
    assert float(loss) == pytest.approx(3.5 / 3)
    assert not met
    assert lacking(lags, counted, jnp.int32(1))[1]


@pytest.mark.parametrize(
    ("lags", "counted", "least"),
    [
        ([np.nan, -1.0, -2.0], [True, True, True], 3),
        ([-1.0, -2.0, np.nan], [True, True, True], 3),
        ([-1.0, np.nan, -2.0], [True, True, False], 2),
    ],
)
def test_a_lag_of_nan_that_has_to_be_reached_is_no_number(lags, counted, least):
    loss, met = lacking(jnp.array(lags), jnp.array(counted), jnp.int32(least))
    assert np.isnan(loss)
    assert not met


def test_a_lag_of_nan_that_does_not_count_changes_nothing():
    loss, met, slope = asked(([[np.nan, 1.0, -2.0]], [[False, True, True]], [2]))
    assert loss == 0.5
    assert not met
    np.testing.assert_array_equal(slope, [[0, 0.5, 0]])


@pytest.mark.parametrize(("dtype", "eps", "tiny"), [(jnp.float32, EPS, TINY), (jnp.bfloat16, 2.0**-7, TINY)])
def test_the_margin_of_each_output_is_64_units_in_its_last_place(dtype, eps, tiny):
    outputs = jnp.array([[-8.0, 0.0], [0.5, 3e4]], dtype)
    margin = outputs_margin(outputs)
    assert margin.dtype == jnp.float32
    np.testing.assert_allclose(margin, 64 * eps * np.abs(np.asarray(outputs, np.float64)) + tiny / eps, rtol=1e-6)
    assert (np.asarray(margin) > 0).all()


@pytest.mark.parametrize("confidence", [0.0, 2, np.float64(0.25)])
def test_the_confidence_is_raised_by_that_margin(confidence):
    outputs = jnp.array([4.0, -1000.0])
    expected = float(confidence) + 64 * EPS * np.array([4.0, 1000.0])
    np.testing.assert_allclose(raised(confidence, outputs), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(raised)(jnp.asarray(confidence), outputs), expected, rtol=1e-6)
