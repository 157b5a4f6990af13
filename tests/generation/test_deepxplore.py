"""DeepXplore: its constraints, its ascent, and what is counted."""

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.generation import deepxplore
from tests.generation import made

GRADIENT = np.random.default_rng(3).normal(size=(8, 9, 2)).astype(np.float32)
KEY = jax.random.key(4)


def test_light_is_the_mean_everywhere():
    step = deepxplore.light(factor=3.0)(KEY, GRADIENT)
    np.testing.assert_allclose(step, np.full(GRADIENT.shape, 3 * GRADIENT.mean()), rtol=1e-5)


def test_occlusion_keeps_a_rectangle():
    step = np.asarray(deepxplore.occlusion(3, 4, top=2, left=1)(KEY, GRADIENT))
    np.testing.assert_array_equal(step[2:5, 1:5], GRADIENT[2:5, 1:5])
    assert np.count_nonzero(step) == 3 * 4 * 2


def test_blackout_darkens_a_patch_where_that_helps():
    steps = [np.asarray(deepxplore.blackout(3)(key, GRADIENT)) for key in jax.random.split(KEY, 20)]
    assert {step.min() for step in steps} == {-1, 0}
    for step in steps:
        assert (step != 0).sum() in (0, 18)
        assert not (step != 0).any() or GRADIENT[step != 0].sum() < 0


def test_features_that_may_only_grow_do():
    rises, free = np.arange(5) < 2, np.arange(5) == 2
    step = deepxplore.increasing(rises, free)(KEY, np.array([-1.0, 2, -3, 4, 5]))
    np.testing.assert_array_equal(step, [0, 2, -3, 0, 0])


SEEDS = made.inputs(12)
NEURONS = [made.units(1), made.units(2), made.units(3)]
RUN = jax.jit(cw.batched(deepxplore.differential(deepxplore.occlusion(3, 3), step=0.3, steps=20)))


@pytest.fixture(scope="module")
def found():
    return deepxplore.explored(RUN, NEURONS, made.keys(12), SEEDS, rounds=2, labels=np.zeros(12, int))


def test_what_is_generated_makes_models_disagree_within_the_box(found):
    answers = np.stack([made.logits(seed, found.result.x).argmax(-1) for seed in (1, 2, 3)])
    clean = np.stack([made.logits(seed, SEEDS).argmax(-1) for seed in (1, 2, 3)])
    np.testing.assert_array_equal(found.answers, answers)
    np.testing.assert_array_equal(found.already, (clean != clean[0]).any(0))
    np.testing.assert_array_equal(found.misread, ~found.already & (clean[0] != 0))
    np.testing.assert_array_equal((answers != answers[0]).any(0), found.result.success)
    assert found.success.any()
    assert 0 <= found.result.x.min() <= found.result.x.max() <= 1
    moved = (found.result.x != SEEDS).any(0)[..., 0]
    assert moved[:3, :3].any()
    assert not moved[3:].any()
    assert not moved[:, 3:].any()
    assert (found.result.distance[found.already] == 0).all()


def test_coverage_is_that_of_the_generated_inputs(found):
    made_inputs = found.result.x[found.result.success]
    for each, neurons in zip(found.coverage, NEURONS, strict=True):
        criterion = cw.coverage.neuron_coverage(neurons.convention, threshold=0.0)
        assert each.value == cw.coverage.measure(neurons, criterion, made_inputs).value


def test_the_first_step_is_the_papers():
    """From the slope of the joint objective, by finite differences in float64."""
    labels = made.logits(1, SEEDS).argmax(-1)
    seed = int(np.flatnonzero(~np.asarray(labels != made.logits(2, SEEDS).argmax(-1)))[0])
    x, label = SEEDS[seed : seed + 1].astype(np.float64), labels[seed]

    def joint(x):
        raised = sum(np.maximum(made.hidden(each, x), 0)[0, 2] for each in (1, 2))
        return made.logits(2, x)[0, label] - made.logits(1, x)[0, label] + 0.1 * raised

    slope = np.zeros(20)
    for i in range(20):
        nudge = np.zeros(20)
        nudge[i] = 1e-5
        nudge = nudge.reshape(x.shape)
        slope[i] = (joint(x + nudge) - joint(x - nudge)) / 2e-5
    wanted = x + 0.01 * (slope / (np.sqrt((slope**2).mean()) + 1e-5)).reshape(x.shape)
    only = [np.arange(made.HIDDEN) == 2] * 2
    goal = deepxplore.goals_of(KEY, labels[seed : seed + 1], only)
    attack = deepxplore.differential(lambda key, direction: direction, step=0.01, steps=1)
    model = cw.joined([deepxplore.observed(each) for each in NEURONS[:2]])
    begin, advance, _ = cw.lanes(attack)
    states = begin(made.keys(1), SEEDS[seed : seed + 1], goal)
    states = advance(model, SEEDS[seed : seed + 1], goal, states, 1)
    np.testing.assert_allclose(states.w, np.clip(wanted, 0, 1), atol=2e-4)


@pytest.mark.long
def test_without_bounds_it_leaves_the_box():
    found = deepxplore.explored(
        jax.jit(cw.batched(deepxplore.differential(lambda key, direction: direction, step=1.0))),
        NEURONS,
        made.keys(12),
        SEEDS,
        low=-1e4,
        high=1e4,
    )
    assert found.success.any()
    assert found.result.x.min() < 0 or found.result.x.max() > 1


def test_each_seed_may_have_bounds_of_its_own():
    alone = deepxplore.explored(RUN, NEURONS, made.keys(12), SEEDS, rounds=2, low=SEEDS, high=np.ones_like(SEEDS))
    assert (np.asarray(alone.result.x) >= SEEDS - 1e-6).all()
    assert alone.success.any()


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    with pytest.raises(ValueError, match="at least two models, got 1"):
        deepxplore.explored(RUN, NEURONS[:1], made.keys(12), SEEDS)
    with pytest.raises(ValueError, match="rounds must be at most 12"):
        deepxplore.explored(RUN, NEURONS, made.keys(12), SEEDS, rounds=13)
    with pytest.raises(ValueError, match="target must be at most 2"):
        deepxplore.explored(RUN, NEURONS, made.keys(12), SEEDS, target=3)
    with pytest.raises(ValueError, match="differ in shape"):
        deepxplore.increasing([True], [True, False])
    with pytest.raises(ValueError, match="a rectangle needs images"):
        deepxplore.blackout(2)(KEY, np.zeros(3, np.float32))
    linear = cw.bind(lambda params, x: x.reshape(len(x), -1)[:, :3])
    with pytest.raises(ValueError, match="the model has no layer 'activation'"):
        cw.coverage.neurons(linear, SEEDS)


def test_kinds_are_different_tuples_of_answers(found):
    answers = np.stack([made.logits(seed, found.result.x).argmax(-1) for seed in (1, 2, 3)]).T[found.success]
    assert found.kinds == len(set(map(tuple, answers.tolist()))) > 0


def test_what_an_earlier_call_has_covered_counts(found):
    nothing = found.result._replace(x=SEEDS, success=np.zeros(12, bool))
    first = np.asarray(found.result.x)[np.asarray(found.result.success)]
    for known, expected in ((first, [each.value for each in found.coverage]), (None, [0, 0, 0])):
        again = deepxplore.explored(lambda *_, **__: nothing, NEURONS, made.keys(12), SEEDS, known=known)
        assert [each.value for each in again.coverage] == expected
