"""The attack on speech, in both phases, on frames that are read off a wave by a small linear network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cwjax as cw
from cwjax.attacks.audio import audio, audio_aligned, weighing_frames
from cwjax.loop import Rule, iterated
from cwjax.problems import problem

FRAMES, HOP, SYMBOLS, COUNT = 6, 8, 4, 5
LOUD = np.array([1.0, 0.1, 0.5, 0.02, 1.0], np.float32)  # of waves that are alike otherwise
MATRIX = np.random.default_rng(3).normal(size=(HOP, SYMBOLS)).astype(np.float32)
START = 0.9  # of the peak


def hears(params, x, length):
    """Logits of frames, whatever the loudness; what is behind the length is silent."""
    x = jnp.where(jnp.arange(x.shape[1])[None] < length[:, None], x, 0)
    x = x / jnp.sqrt(jnp.mean(x**2, 1, keepdims=True) + 1e-12)
    return 3 * x.reshape(len(x), -1, HOP) @ params


MODEL = cw.bind(hears, MATRIX)
LENGTH = np.full(COUNT, FRAMES * HOP, np.int32)
WAVES = LOUD[:, None] * np.random.default_rng(4).uniform(-1, 1, (1, FRAMES * HOP)).astype(np.float32)
GOAL = cw.goals.transcript([[1, 2], [1, 2], [3], [1, 2], []], frames=FRAMES, silence=True)
KEYS = jax.random.split(jax.random.key(0), COUNT)


def within(waves, radius):
    return {"low": waves - radius[:, None], "high": waves + radius[:, None]}


RUN = jax.jit(cw.batched(audio(steps=150)))


@pytest.fixture(scope="module")
def first():
    return RUN(MODEL, KEYS, WAVES, GOAL, context=LENGTH, **within(WAVES, START * np.abs(WAVES).max(1)))


def heard(waves):
    logits = np.asarray(hears(MATRIX, jnp.asarray(waves), jnp.asarray(LENGTH)))
    return [cw.objectives.beam_search(each, width=1) for each in logits], logits


def test_every_target_is_reached_and_the_distance_is_the_largest_sample(first):
    assert first.success.all()
    goal = GOAL
    for logits, row, length in zip(heard(first.x)[1], goal.labels, goal.length, strict=True):
        symbols, size = cw.objectives.greedily(jnp.asarray(logits), FRAMES)
        assert symbols[: int(size)].tolist() == row[: int(length)].tolist()
    np.testing.assert_allclose(np.abs(np.asarray(first.x) - WAVES).max(1), first.distance, rtol=1e-4)
    assert (first.forwards == 150).all()


def test_a_wave_that_is_louder_has_the_same_change_in_decibels(first):
    relative = np.asarray(first.distance) / LOUD
    np.testing.assert_allclose(relative[1], relative[0], rtol=1e-3)
    np.testing.assert_allclose(relative[3], relative[0], rtol=1e-3)
    assert (relative < START * 0.8 * np.abs(WAVES[0]).max()).all()  # the bounds were drawn in


def test_an_example_does_not_depend_on_its_neighbours(first):
    goal = cw.goals.transcript([[1, 2], [2, 1], [3], [2, 1], [2, 1]], frames=FRAMES)
    other = RUN(MODEL, KEYS, WAVES, goal, context=LENGTH, **within(WAVES, START * np.abs(WAVES).max(1)))
    np.testing.assert_array_equal(other.distance[jnp.array([0, 2])], first.distance[jnp.array([0, 2])])
    assert (other.distance[jnp.array([1, 3, 4])] != first.distance[jnp.array([1, 3, 4])]).all()


def test_the_second_phase_starts_from_the_first_and_ends_no_farther(first):
    path = heard(first.x)[1].argmax(-1)
    radius = np.asarray(first.distance) * (1 + 1e-6)
    run = jax.jit(cw.batched(audio_aligned(steps=150)))
    goal = cw.goals.aligned(GOAL, path)
    second = run(MODEL, KEYS, WAVES, goal, start=first.x, context=LENGTH, **within(WAVES, radius))
    assert second.success.all()
    assert (second.distance <= first.distance * (1 + 1e-5)).all()
    assert second.distance.sum() < 0.98 * first.distance.sum()
    np.testing.assert_array_equal(heard(second.x)[1].argmax(-1), path)


def test_weights_rise_in_frames_that_lag_and_fall_in_others():
    # A rule that stands still: the first frame says its symbol, the second does not.
    still = Rule(init=lambda key, problem: (problem.start, ()), move=lambda problem, memory, seen: (seen.x, memory))
    rule = weighing_frames(still, rate=jnp.log(2.0))
    goal = cw.goals.aligned(cw.goals.transcript([[1, 2]], frames=2), np.array([[1, 2]]), weights=np.array([[1.0, 3.0]]))
    one = jax.tree.map(lambda leaf: leaf[0], goal)
    x = jnp.array([0.0, 1.0, 0.0, 0.0, 0.5, 0.25])
    model = cw.bind(lambda params, x: x.reshape(len(x), 2, 3))
    parts = {"distance": cw.distances.l2(), "steps": 9}
    attack = iterated(rule, objective=cw.objectives.aligned_margin(), **parts)
    given, losses = problem(x, one), []
    state, step = attack.init(KEYS[0], given), jax.jit(lambda state: attack.step(model, given, state))
    for _ in range(3):
        state = step(state)
        losses.append(float(state.progress.last.loss))
    np.testing.assert_allclose(state.memory.weights, [1 / 8, 24.0], rtol=1e-5)
    np.testing.assert_allclose(losses, [0.75, 1.5, 3.0], rtol=1e-3)  # 3, 6 and 12 times a lag of a quarter


def test_numbers_that_make_no_sense_are_refused():
    for make in (lambda: audio(factor=1.0), lambda: audio(steps=0), lambda: audio_aligned(rate=-1.0)):
        with pytest.raises(ValueError, match="must be"):
            make()
    with pytest.raises(TypeError, match="optimizer"):
        audio(optimizer=optax.adam)  # type: ignore
