"""The four norms and their penalties against NumPy float64, and the penalties' gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cwjax.parts import distances

PROPERTY = settings(deadline=None, max_examples=50, derandomize=True, database=None)

ELEMENTS = st.floats(-8, 8, width=32, allow_subnormal=False) | st.just(0.0)
DELTAS = st.sampled_from([(2, 3, 3), (7,)]).flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=ELEMENTS))
TAUS = st.floats(0, 4, width=32)

NAMES = ["l0", "l1", "l2", "linf"]
MEASURES = {name: jax.jit(distances.named(name, channel_axis=-1).measure) for name in NAMES}
PENALTIES = {name: jax.jit(jax.value_and_grad(getattr(distances, name)().penalty)) for name in NAMES}


def norm(name: str, delta: np.ndarray) -> float:
    exact = np.asarray(delta, np.float64)
    if name == "l0":
        pixels = exact.reshape(-1, exact.shape[-1]) if exact.ndim == 3 else exact
        return float(sum(np.any(pixel != 0) for pixel in pixels))
    order = {"l1": 1, "l2": 2, "linf": np.inf}[name]
    return float(np.linalg.norm(exact.ravel(), order))


def penalty(name: str, delta: np.ndarray, tau: float) -> tuple[float, np.ndarray]:
    """The value that a descent minimises, and its gradient."""
    exact = np.asarray(delta, np.float64)
    if name in ("l0", "l2"):
        return (exact**2).sum(), 2 * exact
    free = tau if name == "linf" else 0.0
    over = np.abs(exact) - free
    return over[over > 0].sum(), np.where(over > 0, np.sign(exact), 0)


@pytest.mark.parametrize("name", NAMES)
@PROPERTY
@given(DELTAS)
def test_measure_is_the_norm(name, delta):
    measured = MEASURES[name](delta)
    assert measured.shape == ()
    assert measured.dtype == jnp.float32
    np.testing.assert_allclose(measured, norm(name, delta), rtol=1e-6, atol=1e-18)


@pytest.mark.parametrize("name", NAMES)
@PROPERTY
@given(DELTAS, TAUS)
def test_penalty_and_its_gradient(name, delta, tau):
    value, gradient = PENALTIES[name](delta, jnp.float32(tau))
    expected, slope = penalty(name, delta, tau)
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-5)
    # In a corner any subgradient will do, but not a NaN; the corner at zero has its own test.
    corner = {"l1": delta == 0, "linf": np.abs(delta) == tau}.get(name, np.zeros(delta.shape, bool))
    np.testing.assert_allclose(np.where(corner, slope, gradient), slope, rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("tau", [0.0, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_at_the_clean_input_nothing_is_paid_and_the_gradient_is_zero(name, tau):
    value, gradient = PENALTIES[name](jnp.zeros((2, 3, 3)), jnp.float32(tau))
    assert float(value) == 0
    np.testing.assert_array_equal(gradient, 0)
    assert float(MEASURES[name](jnp.zeros((2, 3, 3)))) == 0


def test_l0_counts_pixels_or_elements():
    delta = jnp.zeros((4, 4, 3)).at[0, 0, :].set(0.5).at[1, 2, 1].set(-1e-6).at[3, 3, 0].set(1.0).at[3, 3, 2].set(-1.0)
    delta = jnp.pad(delta, ((0, 1), (0, 0), (0, 0)))
    assert float(distances.l0().measure(delta)) == 3
    assert float(distances.l0(per_pixel=False).measure(delta)) == 6
    # Opposite changes of two channels are still a change.
    assert float(distances.l0().measure(jnp.zeros((5, 2, 2)).at[0, 0].set(jnp.array([1.0, -1.0])))) == 1
    # Without channels there is nothing to gather.
    delta = delta[:4]
    assert float(distances.l0().measure(delta.reshape(4, 12))) == 6
    assert float(distances.l0().measure(delta.ravel())) == 6


PICTURE = (np.random.default_rng(0).uniform(size=(6, 7, 3)) < 0.3).astype(np.float32)  # [H, W, C]
PIXELS, ELEMENTS_CHANGED = int(PICTURE.any(-1).sum()), int(PICTURE.sum())


# The layout of one picture -> what is counted with no axis named, and with each axis that may be named.
LAYOUTS = {
    "NHWC": (PICTURE, PIXELS, {-1: PIXELS, 2: PIXELS}),
    "NCHW": (np.moveaxis(PICTURE, -1, 0), None, {0: PIXELS, -3: PIXELS}),
    "NHCW": (np.moveaxis(PICTURE, -1, 1), None, {1: PIXELS}),
    "flat": (PICTURE.ravel(), ELEMENTS_CHANGED, {-1: ELEMENTS_CHANGED, 0: ELEMENTS_CHANGED}),
    "NHW": (PICTURE[..., 0], int(PICTURE[..., 0].sum()), {-1: int(PICTURE[..., 0].any(-1).sum())}),
    "NTHWC": (PICTURE[None], ELEMENTS_CHANGED, {-1: PIXELS, 3: PIXELS}),
    "small": (PICTURE[:3], None, {-1: int(PICTURE[:3].any(-1).sum()), 0: int(PICTURE[:3].any(0).sum())}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_l0_counts_along_the_axis_that_is_named_or_told_by_the_shape(layout):
    delta, unnamed, named = LAYOUTS[layout]
    assert PIXELS < ELEMENTS_CHANGED < 2 * PIXELS
    if unnamed is None:
        with pytest.raises(ValueError, match="which elements make a pixel"):
            jax.jit(distances.l0().measure)(delta)
    else:
        assert float(distances.l0().measure(jnp.asarray(delta))) == unnamed
    for axis, count in named.items():
        assert float(distances.l0(channel_axis=axis).measure(jnp.asarray(delta))) == count, axis
    assert float(distances.l0(per_pixel=False).measure(jnp.asarray(delta))) == (delta != 0).sum()


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 32, 32), r"of shape \[3, 32, 32\]\? It looks like \[C, H, W\]. Pass channel_axis=0, or per_pixel=False"),
        ((1, 28, 28), r"looks like \[C, H, W\]. Pass channel_axis=0"),
        ((3, 5, 3), r"is not clear: \[H, W, C\] or \[C, H, W\]. Pass channel_axis=-1 or channel_axis=0"),
        ((4, 5, 1), r"is not clear: \[H, W, C\] or \[C, H, W\]"),
        ((64, 48, 40), r"no axis at either end is at most 4 long, as channels are. Pass channel_axis=-1"),
        ((8, 3, 8), r"no axis at either end is at most 4 long"),
    ],
)
def test_a_shape_that_does_not_say_where_its_channels_are_is_refused(shape, words):
    with pytest.raises(ValueError, match=words):
        distances.channels(shape)
    assert distances.channels(shape, channel_axis=-1) == 2
    assert distances.channels(shape, channel_axis=0) == 0
    assert distances.channels(shape, per_pixel=False) is None


@pytest.mark.parametrize("shape", [(5, 5, 1), (28, 28, 1), (32, 32, 3), (224, 2, 4), (5, 9, 2)])
def test_pictures_have_their_channels_last(shape):
    assert distances.channels(shape) == 2


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"an input of shape \[6, 6\] has no axis 2: name another channel_axis"):
        distances.channels((6, 6), channel_axis=2)


def test_linf_penalty_frees_what_is_below_tau_on_either_side():
    delta = jnp.array([0.25, -0.25, 0.75, -1.0, 0.0])
    value, gradient = PENALTIES["linf"](delta, jnp.float32(0.5))
    assert float(value) == 0.25 + 0.5
    np.testing.assert_array_equal(gradient, [0, 0, 1, -1, 0])


def test_the_table_of_the_report_holds_the_four_norms():
    delta = jnp.array([3.0, 0.0, -4.0])
    values = {name: float(distance.measure(delta)) for name, distance in distances.DISTANCES.items()}
    assert values == {"l0": 2.0, "l1": 7.0, "l2": 5.0, "linf": 4.0}


def test_linf_is_free_up_to_tau_and_no_further():
    delta, tau = jnp.array([0.25, -0.25, 0.125, 0.0, 0.3125]), jnp.float32(0.25)
    value, slope = jax.value_and_grad(distances.linf().penalty)(delta, tau)
    assert value == 0.0625
    np.testing.assert_array_equal(slope, [0, 0, 0, 0, 1])


# Costs

COSTS = np.array([0.0, 1.0, 2.5, 4.0], np.float32)


def test_elements_cost_what_they_are_said_to():
    delta = jnp.array([9.0, 0.0, -2.0, 0.5])
    counted, summed = distances.l0(cost=COSTS), distances.l1(cost=COSTS)
    assert counted.measure(delta) == 6.5
    assert counted.penalty(delta, jnp.float32(0)) == 2.5 * 4 + 4 * 0.25
    assert summed.measure(delta) == summed.penalty(delta, jnp.float32(0)) == 7.0
    assert jax.grad(summed.penalty)(delta, jnp.float32(0)).tolist() == [0, 0, -2.5, 4]
    assert distances.named("l1", cost=COSTS).measure(delta) == 7.0
    picture = jnp.array([[[1.0, 1.0], [0.0, 0.0]], [[0.0, 3.0], [0.0, 0.0]]])
    assert distances.l0(channel_axis=-1, cost=np.array([1.0, 5.0])).measure(picture) == 10


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (-1.0, "finite and at least 0, got -1.0"),
        (np.array([1.0, np.nan]), "got nan"),
        (np.zeros(3), "every cost is 0"),
    ],
)
def test_costs_that_are_none_are_refused(cost, words, as_users_have_it):
    for make in (distances.l0, distances.l1):
        with pytest.raises(ValueError, match=words):
            make(cost=cost)
    with pytest.raises(ValueError, match="costs of elements are for L0 and L1, got some for l2"):
        distances.named("l2", cost=2.0)
    with pytest.raises(TypeError, match="must be a number or an array of numbers, got the text 'dear'"):
        distances.l1(cost="dear")  # pyright: ignore[reportArgumentType]
