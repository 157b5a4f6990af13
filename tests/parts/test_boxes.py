"""Every box keeps every image within its bounds, and brings a clean one back from its variable w; and what the paper
says of the three (section V-B) shows in a descent.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cwjax as cw
from cwjax import base
from cwjax.parts import boxes, distances, optimizers
from cwjax.problems import problem

PROPERTY = settings(deadline=None, max_examples=50, derandomize=True, database=None)

BOXES = {"change_of_variables": boxes.change_of_variables, "projected": boxes.projected, "clipped": boxes.clipped}
BOUNDS = {
    "unit": (0.0, 1.0),
    "centred": (-0.5, 0.5),
    "wide": (-3.0, 7.0),
    "per channel": (np.array([0.0, -1.0, -2.0]), np.array([1.0, 1.0, 6.0])),
    "jax arrays": (jnp.array([0.0, -1.0, -2.0]), jnp.array([1.0, 1.0, 6.0])),
    "one of each": (-0.25, np.array([0.25, 1.0, 2.0])),
}
SHAPE = (2, 3, 3)  # [H, W, C]

every_box = pytest.mark.parametrize("name", BOXES)
every_bound = pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS.keys())
both_dtypes = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])


def full(bound) -> np.ndarray:
    """The bound of every pixel, in float64."""
    return np.broadcast_to(np.asarray(bound, np.float64), SHAPE)


def image(bounds, dtype, seed=0) -> jax.Array:
    """Random pixels strictly inside, but for one pixel on the lower bound and one on the upper."""
    low, high = full(bounds[0]), full(bounds[1])
    share = np.random.default_rng(seed).uniform(0.01, 0.99, SHAPE)
    share[0, 0], share[1, 2] = 0, 1
    return jnp.asarray(low + share * (high - low), dtype)


def ends(bounds) -> tuple[jax.Array, jax.Array]:
    """Both bounds of every pixel, as a box takes them."""
    low, high = (jnp.asarray(full(bound), jnp.float32) for bound in bounds)
    return low, high


def apart(x) -> np.ndarray:
    return np.asarray(jnp.asarray(x).astype(jnp.float32), np.float64)


@every_box
@every_bound
@both_dtypes
def test_decode_brings_back_what_was_encoded(name, bounds, dtype):
    box, x = BOXES[name](), image(bounds, dtype)
    w = box.encode(x, *ends(bounds))
    assert np.isfinite(w).all()
    assert w.shape == SHAPE
    assert w.dtype == jnp.float32  # steps of 1e-2 are lost in bfloat16
    decoded = box.decode(w, *ends(bounds))
    # Two millionths of the range for the pixels on the bounds, and some rounding of numbers as large as the bounds.
    span = full(bounds[1]) - full(bounds[0])
    tolerance = 2e-6 * span + 4e-7 * np.maximum(np.abs(full(bounds[0])), np.abs(full(bounds[1])))
    if name != "change_of_variables":
        tolerance = np.zeros(SHAPE)
    for part in decoded:
        assert (np.abs(apart(part) - apart(x)) <= tolerance).all()
        assert (np.abs(apart(part.astype(dtype)) - apart(x)) <= tolerance + float(jnp.finfo(dtype).eps) * span).all()


@every_box
@every_bound
@both_dtypes
def test_the_slope_of_decode_at_an_encoded_image(name, bounds, dtype):
    box, x = BOXES[name](), image(bounds, dtype)
    w, low, high = box.encode(x, *ends(bounds)), full(bounds[0]), full(bounds[1])
    inside, penalised = (pull(jnp.ones(SHAPE))[0] for pull in pulls(box, w, ends(bounds)))
    assert np.isfinite(inside).all()
    assert np.isfinite(penalised).all()
    strictly = (apart(x) > low + 0.005 * (high - low)) & (apart(x) < high - 0.005 * (high - low))
    if name == "change_of_variables":
        # x' = middle + half·tanh(w) has the slope half·(1 - tanh(w)²) = (x' - low)·(high - x') / half.
        slope = 2 * (apart(x) - low) * (high - apart(x)) / (high - low)
        assert (np.asarray(inside)[strictly] > 0).all()
        np.testing.assert_allclose(np.asarray(inside)[strictly], slope[strictly], rtol=1e-3)
    else:
        np.testing.assert_array_equal(np.asarray(inside)[strictly], 1)
        np.testing.assert_array_equal(penalised, 1)


def pulls(box, w, bounds):
    """Of what the model sees, and of what the distance sees."""
    inside, penalised = (lambda w: box.decode(w, *bounds).inside), (lambda w: box.decode(w, *bounds).penalised)
    return jax.vjp(inside, w)[1], jax.vjp(penalised, w)[1]


WILD = st.sampled_from([1e9, -1e9, 3e38, -3e38, 0.0, 1e-30]) | st.floats(-50, 50, width=32)


@functools.cache
def seen(name, which):
    box, bounds = BOXES[name](), ends(BOUNDS[which])
    return jax.jit(lambda w: box.decode(box.project(w, *bounds), *bounds).inside)


@every_box
@pytest.mark.parametrize("which", BOUNDS)
@settings(PROPERTY, max_examples=25)
@given(hnp.arrays(np.float32, SHAPE, elements=WILD))
def test_what_the_model_sees_is_within_the_bounds(name, which, w):
    inside = apart(seen(name, which)(w))
    assert (inside >= apart(BOUNDS[which][0])).all()
    assert (inside <= apart(BOUNDS[which][1])).all()


@pytest.mark.parametrize("name", ["change_of_variables", "clipped"])
def test_these_boxes_need_no_projection(name):
    box, w = BOXES[name](), jnp.array([-1e9, 1e9, 0.3, 5.0])
    np.testing.assert_array_equal(box.project(w, 0.0, 1.0), w)
    assert apart(box.decode(w, 0.0, 1.0).inside).min() >= 0
    assert apart(box.decode(w, 0.0, 1.0).inside).max() <= 1


def test_projected_clips_after_an_update():
    w = boxes.projected().project(jnp.array([-9.0, -0.25, 0.0, 9.0]), -0.5, 0.5)
    np.testing.assert_array_equal(w, [-0.5, -0.25, 0.0, 0.5])


def test_clipped_descent_penalises_the_unclipped_image():
    w = jnp.array([-2.0, 0.25, 3.0])
    decoded = boxes.clipped().decode(w, 0.0, 1.0)
    np.testing.assert_array_equal(decoded.penalised, w)
    np.testing.assert_array_equal(decoded.inside, [0.0, 0.25, 1.0])


@pytest.mark.parametrize("name", ["change_of_variables", "projected"])
def test_the_other_boxes_penalise_what_the_model_sees(name):
    decoded = BOXES[name]().decode(jnp.array([-0.75, 0.25, 0.5]), -1.0, 1.0)
    np.testing.assert_array_equal(decoded.penalised, decoded.inside)


@every_box
def test_an_element_without_room_has_a_variable_and_a_slope_that_are_numbers(name):
    low, high = jnp.array([0.0, 0.5]), jnp.array([1.0, 0.5])
    box, x = BOXES[name](), jnp.array([0.25, 0.5])
    w = box.encode(x, low, high)
    assert np.isfinite(w).all()
    assert np.isfinite(box.in_variable(jnp.ones(2), low, high)).all()
    for pull in pulls(box, w, (low, high)):
        assert np.isfinite(pull(jnp.ones(2))[0]).all()
    np.testing.assert_allclose(box.decode(w, low, high).inside, x, atol=1e-6)


# In a descent. The model has two classes, and its logits are 0 and weights·x - threshold.

WEIGHTS = jnp.array([10.0, -5.0, 2.0])
LEARNING_RATE, DECAY = 0.2, 0.9


def apply(params, x):
    weights, threshold = params
    logit = jnp.sum(x * weights[None], axis=1) - threshold
    return jnp.stack([jnp.zeros_like(logit), logit], axis=1)


def descent(name, optimizer, model, problem, steps):
    """The states after every step."""
    attack = cw.descend(
        objective=cw.objectives.logit_margin(),
        distance=distances.l2(),
        box=BOXES[name](),
        optimizer=optimizer,
        steps=steps,
        abort=cw.aborts.never(),
    )

    @jax.jit
    def run(model, problem):
        def step(state, _):
            state = attack.step(model, problem, state)
            return state, state

        return jax.lax.scan(step, attack.init(jax.random.key(0), problem), length=steps)[1]

    return run(model, problem)


def towards(label, x):
    return problem(jnp.array(x), base.LabelGoal(label=jnp.int32(label), sign=jnp.float32(1)))


def test_momentum_knows_nothing_of_the_projection():
    """The first step takes the one pixel to its bound, where the goal is met and the distance pulls it back. Plain
    gradient descent follows at once; momentum stays until the velocity that ran into the bound is worn off.
    """
    model, problem = cw.bind(apply, (WEIGHTS[:1], jnp.float32(7))), towards(1, [0.5])
    at_the_bound = []
    for optimizer in (optimizers.gradient_descent(LEARNING_RATE), optimizers.momentum(LEARNING_RATE, DECAY)):
        states = descent("projected", optimizer, model, problem, 10)
        w, gradient = np.asarray(states.w)[:, 0], np.asarray(states.progress.last.gradient)[:, 0]
        assert w[0] == 1
        assert gradient[0] < 0 < gradient[1]  # turned
        stays = int(np.argmax(w < 1))
        np.testing.assert_allclose(gradient[1 : stays + 1], 2 * (1 - 0.5), rtol=1e-6)
        at_the_bound.append(stays)
    assert at_the_bound == [1, 7]

    # The velocity is that of all the gradients, as if no step had been cut short.
    velocity, free = optax.tree_utils.tree_get(states.memory.optimizer, "trace")[:, 0], 0.0
    for t in range(10):
        free = DECAY * free + gradient[t]
        assert velocity[t] == pytest.approx(free, rel=1e-5)
    assert abs(LEARNING_RATE * velocity[0]) == pytest.approx(2.0, rel=1e-3)  # of which the box let pass one half


def test_clipped_descent_asks_the_model_about_the_clipped_image_and_penalises_the_other():
    clean, start, c = np.array([0.5, 0.5, 0.5]), np.array([-2.0, 0.25, 3.0]), 1.5
    problem = towards(1, clean)._replace(start=jnp.array(start), c=jnp.float32(c))
    states = descent("clipped", optimizers.gradient_descent(LEARNING_RATE), cw.bind(apply, (WEIGHTS, 8.0)), problem, 1)
    last, clip = jax.tree.map(lambda leaf: leaf[0], states.progress.last), np.clip(start, 0, 1)
    f = 8.0 - float(clip @ np.asarray(WEIGHTS))
    assert f > 0
    assert float(last.loss) == pytest.approx(np.sum((start - clean) ** 2) + c * f, rel=1e-5)
    assert float(last.distance) == pytest.approx(np.linalg.norm(clip - clean), rel=1e-6)
    # Where w is outside, f cannot pull: only the distance does.
    expected = 2 * (start - clean) - c * np.asarray(WEIGHTS) * (start == clip)
    np.testing.assert_allclose(last.gradient, expected, rtol=1e-4)
    np.testing.assert_allclose(states.w[0], start - LEARNING_RATE * expected, rtol=1e-4)  # and no projection


def test_clipped_descent_returns_the_clipped_image():
    start = jnp.array([3.0, -2.0, 0.5])
    problem = towards(1, [0.5, 0.5, 0.5])._replace(start=start)
    states = descent("clipped", optimizers.gradient_descent(LEARNING_RATE), cw.bind(apply, (WEIGHTS, 8.0)), problem, 1)
    best = jax.tree.map(lambda leaf: leaf[0], states.progress.best)
    np.testing.assert_array_equal(best.x, [1.0, 0.0, 0.5])
    assert float(best.distance) == pytest.approx(np.sqrt(0.5), rel=1e-6)
