"""The optimisers against their printed recurrences, in NumPy float64."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cwjax as cw
from cwjax.parts import optimizers

STEPS = 50
RNG = np.random.default_rng(0)
MIXING, SHIFT, START = RNG.normal(size=(4, 3)), RNG.normal(size=4), np.array([1.5, -2.0, 0.3])

every_optimizer = pytest.mark.parametrize("name", cw.optimizers.OPTIMIZERS)


def smooth(theta):
    """A function with a slope that is not linear, and of another steepness in every direction."""
    return jnp.sum(jnp.logaddexp(0, MIXING @ theta - SHIFT)) + 0.1 * jnp.sum(theta**4)


def slope(theta: np.ndarray) -> np.ndarray:
    """Its gradient, by hand."""
    return MIXING.T @ (1 / (1 + np.exp(-(MIXING @ theta - SHIFT)))) + 0.4 * theta**3


def gradient_descent(etas):
    """(4)."""
    theta = START
    for eta in etas:
        theta = theta - eta * slope(theta)
        yield theta


def momentum(etas, gamma=0.9):
    """(5) and (6)."""
    theta, v = START, np.zeros_like(START)
    for eta in etas:
        v = gamma * v + eta * slope(theta)
        theta = theta - v
        yield theta


def nesterov(etas, gamma=0.9):
    """(7) and (8): theta and, second, where the next gradient is taken."""
    theta, v = START, np.zeros_like(START)
    for eta in etas:
        v = gamma * v + eta * slope(theta - gamma * v)
        theta = theta - v
        yield theta, theta - gamma * v


def adam(etas):
    """Algorithm 1 of Kingma & Ba (2015)."""
    theta, m, v = START, np.zeros_like(START), np.zeros_like(START)
    for t, eta in enumerate(etas, start=1):
        g = slope(theta)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        theta = theta - eta * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        yield theta


PRINTED = {
    "gradient_descent": gradient_descent,
    "momentum": momentum,
    "nesterov": lambda etas, gamma=0.9: (ahead for _, ahead in nesterov(etas, gamma)),
    "adam": adam,
}
ETA = {"gradient_descent": 0.05, "momentum": 0.02, "nesterov": 0.02, "adam": 0.1}


def iterates(optimizer: optax.GradientTransformation) -> np.ndarray:
    """The STEPS points after START, in float64."""

    def step(carry, _):
        theta, state = carry
        updates, state = optimizer.update(jax.grad(smooth)(theta), state, theta)
        theta = optax.apply_updates(theta, updates)
        return (theta, state), theta

    with jax.enable_x64(True):
        start = jnp.asarray(START)
        found = jax.jit(lambda: jax.lax.scan(step, (start, optimizer.init(start)), length=STEPS)[1])()
    assert found.dtype == jnp.float64
    return np.asarray(found)


def recurrence(name, etas, **settings) -> np.ndarray:
    return np.array(list(PRINTED[name](etas, **settings)))


def test_the_slope_by_hand_is_the_slope():
    with jax.enable_x64(True):
        np.testing.assert_allclose(slope(START), jax.grad(smooth)(jnp.asarray(START)), rtol=1e-12)


@every_optimizer
def test_an_optimizer_is_its_printed_recurrence(name):
    found = iterates(cw.optimizers.OPTIMIZERS[name](ETA[name]))
    np.testing.assert_allclose(found, recurrence(name, [ETA[name]] * STEPS), rtol=0, atol=1e-11)
    assert np.abs(found[-1] - START).max() > 0.5  # far enough for the curvature to matter
    assert not set(PRINTED) ^ set(cw.optimizers.OPTIMIZERS)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_the_decay_is_gamma(name, decay):
    found = iterates(cw.optimizers.OPTIMIZERS[name](0.02, decay))
    np.testing.assert_allclose(found, recurrence(name, [0.02] * STEPS, gamma=decay), rtol=0, atol=1e-11)


def test_the_iterate_of_nesterov_is_where_the_printed_form_takes_its_gradient():
    found = iterates(optimizers.nesterov(0.02))
    theta, ahead = (np.array(points) for points in zip(*nesterov([0.02] * STEPS), strict=True))
    np.testing.assert_allclose(found, ahead, rtol=0, atol=1e-11)
    assert np.abs(found - theta).max(axis=1)[:20].min() > 1e-3  # not theta itself
    assert np.abs(found - recurrence("momentum", [0.02] * STEPS)).max(axis=1)[:20].min() > 1e-3


@every_optimizer
def test_a_schedule_gives_the_step_size_of_every_step(name):
    """As in Optax, eta scales the whole step: with a velocity, all of it, not only the part that is new."""
    etas = [ETA[name] / (1 + t) ** 0.5 for t in range(STEPS)]
    found = iterates(cw.optimizers.OPTIMIZERS[name](lambda count: ETA[name] / (1 + count) ** 0.5))
    if name in ("gradient_descent", "adam"):
        np.testing.assert_allclose(found, recurrence(name, etas), rtol=0, atol=1e-11)
        return
    theta, v = START, np.zeros_like(START)
    for t, eta in enumerate(etas):
        v = 0.9 * v + slope(theta)
        theta = theta - eta * (v if name == "momentum" else 0.9 * v + slope(theta))
        np.testing.assert_allclose(found[t], theta, rtol=0, atol=1e-11)


@every_optimizer
def test_an_optax_schedule_will_do(name):
    constant = iterates(cw.optimizers.OPTIMIZERS[name](ETA[name]))
    found = iterates(cw.optimizers.OPTIMIZERS[name](optax.piecewise_constant_schedule(ETA[name], {20: 0.1})))
    np.testing.assert_allclose(found[:20], constant[:20], rtol=1e-12)
    assert np.abs(found[20] - constant[20]).max() > 1e-3


@every_optimizer
def test_every_number_may_be_traced_and_compiles_once(name):
    chex.clear_trace_counter()  # chex counts by source line, whatever the parameter

    def after_two(*numbers):
        optimizer = cw.optimizers.OPTIMIZERS[name](*numbers)
        theta = jnp.array([1.0, -2.0])
        state = optimizer.init(theta)
        for _ in range(2):
            updates, state = optimizer.update(theta**3, state, theta)
            theta = jnp.asarray(optax.apply_updates(theta, updates))
        return theta

    compiled = jax.jit(chex.assert_max_traces(after_two, n=1))
    decays = [(0.5,), (0.9,)] if name in ("momentum", "nesterov") else [()]
    for numbers in [(rate, *decay) for rate in (0.01, 0.1) for decay in decays]:
        np.testing.assert_allclose(compiled(*map(jnp.float32, numbers)), after_two(*numbers), rtol=1e-5)


@every_optimizer
@pytest.mark.parametrize("rate", [0.0, -0.1, float("nan"), float("inf")])
def test_a_bad_learning_rate_is_named(name, rate):
    with pytest.raises(ValueError, match=f"learning_rate must be more than 0, got {rate}"):
        cw.optimizers.OPTIMIZERS[name](rate)
    with pytest.raises(ValueError, match="learning_rate must be more than 0"):
        cw.optimizers.OPTIMIZERS[name](jnp.float32(rate))


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
@pytest.mark.parametrize(
    ("decay", "words"),
    [
        (-0.1, "at least 0, got -0.1"),
        (float("nan"), "at least 0, got nan"),
        (1.0, "at most 0.999999999, got 1.0"),
        (1.5, "at most 0.999999999, got 1.5"),
    ],
)
def test_a_bad_decay_is_named(name, decay, words):
    with pytest.raises(ValueError, match=f"decay must be {words}"):
        cw.optimizers.OPTIMIZERS[name](0.1, decay)
