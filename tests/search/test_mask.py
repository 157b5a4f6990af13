"""Which elements may change: the L0 attack's pixels as in the released code, and a region that a user gives."""

import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cwjax as cw
from cwjax.base import Problem, untouched
from cwjax.problems import problem
from cwjax.search.mask import many_pixels, one_pixel, shrink_mask
from cwjax.search.radius import shrink_tau
from cwjax.search.rounds import searched
from tests.search.outcomes import a_problem, fake, outcome, told

PROPERTY = settings(
    deadline=None, max_examples=150 if os.environ.get("CWJAX_LONG") else 40, derandomize=True, database=None
)


@pytest.mark.parametrize("search", [shrink_tau(), shrink_mask()])
def test_asking_turns_what_the_search_knows_alone(search):
    given = a_problem()._replace(mask=jnp.array([True, False, True]))
    knob = search.init(given)
    turned = set(knob._fields) - {"over"}
    told = knob._replace(c=jnp.float32(7), start=jnp.ones(3))
    told = told._replace(**{"tau": jnp.float32(0.2)} if "tau" in turned else {"mask": jnp.array([False, False, True])})
    asked = search.ask(given, told)
    for field in set(Problem._fields) - {"goal"}:
        np.testing.assert_array_equal(getattr(asked, field), getattr(told if field in turned else given, field))
    assert asked.goal is given.goal
    # It begins with all that the problem allows.
    np.testing.assert_array_equal(search.ask(given, knob).mask, given.mask)
    np.testing.assert_array_equal(search.ask(given, knob).start, given.start)


PIXELS = 9


def walk(scores, valid, changed, score, share) -> np.ndarray:
    """Which pixels the released code freezes: the loop of `l0_attack.py`."""
    frozen = np.zeros(len(scores), bool)
    for pixel in np.argsort(scores, kind="stable"):
        if not valid[pixel]:
            continue
        frozen[pixel] = True
        if scores[pixel] > np.float32(score) or frozen.sum() >= np.float32(share) * np.sqrt(np.float32(changed)):
            break
    return frozen


def one_of(*values: float) -> st.SearchStrategy[float]:
    """One of the values, as float32 has it."""
    return st.sampled_from(np.asarray(values, np.float32).tolist())


SCORES = hnp.arrays(np.float32, PIXELS, elements=one_of(0, 1e-4, 0.009, 0.01, 0.011, 0.3, 2))
VALID = hnp.arrays(bool, PIXELS, elements=st.booleans() | st.just(True))
LIMITS = st.sampled_from([0.0, 0.01, 0.3, 9.0])
SHARES = st.sampled_from([0.0, 0.3, 0.5, 1.0, 2.5])


@jax.jit
def many(scores, changed, score, share):
    return many_pixels(score=score, share=share)(scores, changed)


@PROPERTY
@given(SCORES, VALID, st.integers(0, 30), LIMITS, SHARES)
def test_many_pixels_freezes_what_the_released_loop_does(scores, valid, changed, score, share):
    removed = many(jnp.where(valid, scores, jnp.inf), jnp.int32(changed), score, share)
    np.testing.assert_array_equal(removed & valid, walk(scores, valid, changed, score, share))


def test_many_pixels_freezes_as_many_as_the_released_code_unless_told():
    scores = 0.0009 * jnp.arange(14.0)  # the thirteenth pixel is the first above 0.01
    assert int(many_pixels()(scores, jnp.int32(100)).sum()) == 3  # 0.3·√100
    assert int(many_pixels()(scores, jnp.int32(101)).sum()) == 4
    assert int(many_pixels()(scores, jnp.int32(10_000)).sum()) == 13
    assert int(many_pixels()(scores + 0.0085, jnp.int32(10_000)).sum()) == 3


@PROPERTY
@given(SCORES, VALID)
def test_one_pixel_freezes_the_lowest_score(scores, valid):
    removed = one_pixel()(jnp.where(valid, scores, jnp.inf), jnp.int32(7))
    np.testing.assert_array_equal(removed & valid, walk(scores, valid, 7, 0.01, 0.0))


_SHAPES = [((2, 2, 2), 2), ((8,), None), ((2, 4), 0)]  # of inputs, with the axis of their channels
_SHAPES_MORE = [((2, 2, 2), 0), ((2, 2, 2), 1), ((2, 2, 2), None), ((2, 4), None)]  # None: every element is a pixel
SHAPES = st.sampled_from(_SHAPES + _SHAPES_MORE * bool(os.environ.get("CWJAX_LONG")))


# Exact in float32 with their sums and products, so that a tie is a tie; and one change too small to count.
DELTAS = one_of(-0.5, -0.25, 0, 0, 2**-14, 0.25, 0.5, 0.75)
GRADIENTS = one_of(-0.5, -0.125, 0, 0.0625, 0.25)


@st.composite
def successes(draw):
    """A shape and the axis of its channels, which pixels may move, and the delta and the gradient of a success."""
    shape, axis = draw(SHAPES)
    pixels = 8 if axis is None else 8 // shape[axis]
    valid = draw(hnp.arrays(bool, pixels, elements=st.booleans() | st.just(True)))
    arrays = [draw(hnp.arrays(np.float32, shape, elements=elements)) for elements in (DELTAS, GRADIENTS)]
    return shape, axis, spread(valid, shape, axis), *arrays


def grouped(values: np.ndarray, axis: int | None) -> np.ndarray:
    """The elements of each pixel: [P, C]."""
    return (
        values.reshape(-1, 1)
        if axis is None
        else np.stack(list(np.moveaxis(values, axis, 0)), -1).reshape(-1, values.shape[axis])
    )


def spread(pixels: np.ndarray, shape: tuple[int, ...], axis: int | None) -> np.ndarray:
    """What holds for each pixel, at each of its elements."""
    if axis is None:
        return pixels.reshape(shape)
    others = [size for place, size in enumerate(shape) if place != axis]
    return np.stack([pixels.reshape(others)] * shape[axis], axis)


def counted(axis: int | None) -> dict[str, Any]:
    """What tells a search of the axis."""
    return {"per_pixel": axis is not None, "channel_axis": axis}


@functools.partial(jax.jit, static_argnums=1)
def tell(numbers, axis, knob, progress):
    """After a success of one of many pixels."""
    search = shrink_mask(removal=many_pixels(score=numbers[0], share=numbers[1]), **counted(axis))
    return search.tell(a_problem(knob.mask.shape), knob, progress)


@PROPERTY
@given(successes(), st.sampled_from([0.01, 0.1, 0.4]), st.sampled_from([0.0, 0.3, 1.0, 2.0]))
def test_the_mask_shrinks_as_in_the_released_code(success, score, share):
    shape, axis, mask, delta, gradient = success
    knob = shrink_mask(**counted(axis)).init(a_problem(shape))._replace(mask=jnp.asarray(mask))
    after = tell((score, share), axis, knob, outcome(3.0, c=0.5, x=delta, gradient=gradient))

    pixels = grouped(delta, axis)
    scores = np.abs(pixels.sum(1)) * np.abs(grouped(gradient, axis)).sum(1)
    valid, changed = grouped(mask, axis).all(1), (np.abs(pixels) >= 1e-4).any(1).sum()
    left = valid & ~walk(scores, valid, changed, score, share)
    np.testing.assert_array_equal(after.mask, spread(left, shape, axis))

    assert not (np.asarray(after.mask) & ~mask).any()
    assert left.sum() < valid.sum() or not valid.any()
    assert bool(after.over) == (not mask.any())
    assert float(after.c) == 0.5
    np.testing.assert_array_equal(after.start, delta)


def test_a_pixel_of_which_only_one_channel_may_move_is_a_pixel():
    search = shrink_mask(removal=one_pixel(), channel_axis=-1)
    mask = jnp.zeros((1, 3, 2), bool).at[0, 0, 1].set(True).at[0, 2].set(True)
    knob = search.init(a_problem((1, 3, 2))._replace(mask=mask))
    success = outcome(1.0, x=jnp.full((1, 3, 2), 0.5).at[0, 0].set(0.25), gradient=jnp.ones((1, 3, 2)))
    np.testing.assert_array_equal(search.tell(a_problem((1, 3, 2)), knob, success).mask, mask.at[0, 0].set(False))


def test_a_round_that_finds_nothing_ends_the_search():
    search = shrink_mask()
    knob = search.tell(a_problem(), search.init(a_problem()), outcome(np.inf))
    assert search.done(knob)


def test_scores_are_of_the_example_found_and_of_the_last_gradient():
    # The best example says that the first pixel matters least, a last gradient of zero that the third does.
    search = shrink_mask(removal=one_pixel())
    found = [0.1, 0.3, 0.2]
    for gradient, frozen in ([1.0, 1.0, 1.0], 0), ([1.0, 1.0, 0.0], 2), ([-9.0, 1.0, -2.0], 1):
        after = search.tell(a_problem(), search.init(a_problem()), outcome(3.0, x=found, gradient=gradient))
        assert np.flatnonzero(~np.asarray(after.mask)).tolist() == [frozen]


def test_scores_are_of_the_change_and_not_of_the_image():
    search, given = shrink_mask(removal=one_pixel()), a_problem()._replace(x=jnp.array([0.0, 0.7, 0.2]))
    after = search.tell(given, search.init(given), outcome(3.0, x=[0.3, 0.8, 0.6], gradient=jnp.ones(3)))
    assert np.flatnonzero(~np.asarray(after.mask)).tolist() == [1]


@pytest.mark.parametrize("needed", [0, 1, 2, 3])
def test_pixels_are_frozen_until_a_round_fails(needed):
    def distance(problem):
        left = problem.mask.sum()
        return jnp.where(left >= needed, left.astype(jnp.float32), jnp.inf)

    search = shrink_mask(initial_c=0.5, removal=one_pixel())
    knobs, progress = told(searched(fake(distance), search), a_problem())
    # With no pixel left there is one more round, which asks whether the clean input will do.
    counts = [3, 2, 1, 0][: 5 - needed if needed else 4]
    assert [int(knob.mask.sum()) for knob in knobs] == list(np.repeat(counts, 2))
    assert float(progress.best.distance) == needed
    np.testing.assert_allclose([knob.c for knob in knobs[::2]], 0.5 * 3.0 ** np.arange(len(counts)), rtol=1e-6)


def constant(params, x):
    """A model that answers the same whatever it is shown."""
    return jnp.broadcast_to(params, (x.shape[0], 3))


@pytest.mark.parametrize(("shape", "axis"), [pytest.param((2, 2), None, marks=pytest.mark.long), ((2, 2, 3), -1)])
def test_with_no_pixel_left_the_clean_input_is_evaluated_once(shape, axis):
    search, counts = shrink_mask(removal=one_pixel(), channel_axis=axis), cw.distances.l0(channel_axis=axis)
    attack = cw.l0(steps=50, largest_c=20.0, search=search, distance=counts)
    x = jnp.full((2, *shape), 0.3)
    goal = cw.LabelGoal(label=jnp.array([0, 0], jnp.int32), sign=jnp.array([1.0, -1.0]))
    model = cw.bind(constant, jnp.array([1.0, 0.0, 0.0]))
    result = jax.jit(cw.batched(attack))(model, jax.random.split(jax.random.key(0), 2), x, goal)
    # The first needs no pixel, which its first look tells. The second needs more than all.
    assert result.success.tolist() == [True, False]
    assert result.distance.tolist() == [0, np.inf]
    assert result.forwards.tolist() == [1, 50 * 15]  # of the weights 0.001·2^k, fifteen are below 20
    np.testing.assert_array_equal(result.x, x)

    # A descent that is given no pixel does not wait for a success either.
    alone = cw.descend(
        objective=cw.objectives.logit_margin(),
        distance=counts,
        box=cw.boxes.projected(),
        optimizer=cw.optimizers.adam(0.1),
        steps=50,
        abort=cw.aborts.never(),
    )
    given = problem(x[0], cw.LabelGoal(label=goal.label[1], sign=goal.sign[1]))._replace(mask=jnp.zeros(shape, bool))
    state = alone.step(model, given, alone.init(jax.random.key(0), given))
    assert state.progress.done
    assert np.isinf(state.progress.best.distance)


def one_in_each_pixel(params, x):
    """Logits of pictures [B, H, W, C]: class 1 wins once two pixels are bright in all of their channels."""
    bright = jnp.sort(x.prod(-1).reshape(len(x), -1))[:, -2:].sum(1)
    return jnp.stack([1.2 - bright, bright - 1.2], 1)


@pytest.mark.long
def test_pixels_are_the_same_in_either_layout():
    x = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.4, (2, 5, 6, 3)), jnp.float32)
    goal, keys = cw.untargeted(np.zeros(2, int)), jax.random.split(jax.random.key(0), 2)

    def run(axis, apply, x):
        counts, search = cw.distances.l0(channel_axis=axis), shrink_mask(channel_axis=axis, removal=one_pixel())
        attack = cw.l0(steps=30, box=cw.boxes.projected(), optimizer=optax.adam(0.1), distance=counts, search=search)
        return jax.jit(cw.batched(attack))(cw.bind(apply), keys, x, goal)

    last = run(-1, one_in_each_pixel, x)
    first = run(0, lambda params, x: one_in_each_pixel(params, jnp.moveaxis(x, 1, -1)), jnp.moveaxis(x, -1, 1))
    assert last.success.all()
    assert first.success.all()
    for found in last.x, jnp.moveaxis(first.x, 1, -1):
        np.testing.assert_array_equal(last.distance, (found != x).any(-1).sum((1, 2)))
    np.testing.assert_array_equal(first.distance, last.distance)

    with pytest.raises(ValueError, match=r"looks like \[C, H, W\]. Pass channel_axis=0"):
        run(None, lambda params, x: one_in_each_pixel(params, jnp.moveaxis(x, 1, -1)), jnp.moveaxis(x, -1, 1))


def test_channels_that_come_first_have_to_be_named():
    with pytest.raises(ValueError, match=r"looks like \[C, H, W\]. Pass channel_axis=0"):
        shrink_mask().tell(
            a_problem((3, 5, 6)), shrink_mask().init(a_problem((3, 5, 6))), untouched(a_problem((3, 5, 6)))
        )


def test_its_first_weight_must_be_positive():
    with pytest.raises(ValueError, match="initial_c must be more than 0"):
        shrink_mask(initial_c=0.0)
    for numbers in {"score": -1.0}, {"share": -0.1}:
        with pytest.raises(ValueError, match="must be at least 0"):
            many_pixels(**numbers)
