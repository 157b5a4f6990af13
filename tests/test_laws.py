"""The laws: what holds for every attack, under every runner. A new attack adds a row to ATTACKS and is held to all of
them.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cwjax as cw
from tests import problems

COUNT = 12


class Row(NamedTuple):
    """An attack: `make(confidence)` gives it with that confidence, its other numbers as they are in the row."""

    make: Callable[..., cw.Attack]
    norm: str
    lower: float = 0.0
    upper: float = 1.0


def l2(**fixed) -> Callable[..., cw.Attack]:
    return lambda confidence=0.0, **numbers: problems.small_l2(
        objective=cw.logit_margin(confidence), **(fixed | numbers)
    )


ATTACKS = {
    "l2, change of variables": Row(l2(), "l2"),
    "l2, wider box": Row(l2(box=cw.change_of_variables(-0.5, 1.7)), "l2", -0.5, 1.7),
    "l2, projected": Row(l2(box=cw.projected()), "l2"),
    "l2, clipped": Row(l2(box=cw.clipped()), "l2"),
    "l2, Nesterov": Row(l2(box=cw.projected(), optimizer=optax.sgd(1e-2, 0.9, nesterov=True)), "l2"),
    "l2, first success": Row(l2(abort=cw.first_success()), "l2"),
    "l2, no abort": Row(l2(abort=cw.never()), "l2"),
}

every_attack = pytest.mark.parametrize("row", ATTACKS.values(), ids=ATTACKS)
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
GOAL = problems.goals(MODEL, np.asarray(X))
KEYS = problems.keys(COUNT)


@functools.cache
def runner(row: Row, confidence: float = 0.0) -> Callable[..., cw.Result]:
    """The row under the plain runner, jitted, and compiled once for each shape."""
    return jax.jit(cw.batched(row.make(confidence)))


@functools.cache
def attacked(row: Row, confidence: float = 0.0) -> cw.Result:
    """The row's result on the common problem, computed once."""
    return runner(row, confidence)(MODEL, KEYS, X, GOAL)


def pick(places, *trees):
    return tuple(jax.tree.map(lambda leaf: leaf[jnp.asarray(places)], tree) for tree in trees)


def assert_same(result: cw.Result, expected: cw.Result) -> None:
    """The same verdict, and the same distance to 1e-4."""
    np.testing.assert_array_equal(result.success, expected.success)
    np.testing.assert_allclose(result.distance, expected.distance, rtol=1e-4)
    np.testing.assert_array_equal(result.finite, expected.finite)


@every_attack
@pytest.mark.parametrize("confidence", [0.0, 1.5])
def test_most_examples_are_fooled(row, confidence):
    # Without this, the laws that follow would hold for an attack that does nothing.
    assert attacked(row, confidence).success.mean() > 0.6


@every_attack
def test_the_result_is_inside_the_box(row):
    x = np.asarray(attacked(row).x)
    assert x.min() >= row.lower
    assert x.max() <= row.upper


@every_attack
@pytest.mark.parametrize("confidence", [0.0, 1.5])
def test_a_success_is_one_when_the_saved_array_goes_through_the_model_alone(row, confidence):
    result = attacked(row, confidence)
    for i in np.flatnonzero(result.success):
        saved = jnp.asarray(np.asarray(result.x[i : i + 1]))
        logits = np.asarray(problems.mlp(MODEL.params, saved))[0].astype(np.float64)
        label, other = int(GOAL.label[i]), np.delete(logits, GOAL.label[i]).max()
        lead = float(GOAL.sign[i]) * (logits[label] - other)
        assert lead > 0
        assert lead >= confidence


@every_attack
def test_the_distance_is_that_of_the_returned_input(row):
    result = attacked(row)
    measured = cw.metrics.norms(X, result.x)[row.norm]
    hit = np.asarray(result.success)
    np.testing.assert_allclose(result.distance[hit], measured[hit], rtol=1e-5)


@every_attack
def test_a_failure_returns_the_clean_input_at_distance_infinity(row):
    result = attacked(row, confidence=1e4)
    assert not result.success.any()
    np.testing.assert_array_equal(result.x, X)
    assert np.isinf(result.distance).all()
    assert np.isinf(result.c).all()
    assert result.finite.all()
    assert result.finished.all()


@every_attack
def test_an_example_does_not_depend_on_its_batch(row):
    expected = attacked(row)
    order = np.random.default_rng(0).permutation(COUNT)
    run = runner(row)
    assert_same(run(MODEL, *pick(order, KEYS, X, GOAL)), pick(order, expected)[0])
    for i in range(0, COUNT, 5):
        assert_same(run(MODEL, *pick([i], KEYS, X, GOAL)), pick([i], expected)[0])


@every_attack
@pytest.mark.parametrize("size", [5, 6, COUNT, 100])
def test_an_example_does_not_depend_on_its_chunk(row, size):
    run = jax.jit(cw.chunked(cw.batched(row.make()), size))
    assert_same(run(MODEL, KEYS, X, GOAL), attacked(row))


@every_attack
def test_an_attack_can_be_stopped_and_go_on(row):
    begin, advance, result = map(jax.jit, cw.lanes(row.make()))
    states = begin(KEYS, X, GOAL)
    distance = result(states).distance
    while not result(states).finished.all():
        states = advance(MODEL, X, GOAL, states, 7)
        assert (result(states).distance <= distance).all()
        distance = result(states).distance
    chex.assert_trees_all_equal(result(states), attacked(row))


@every_attack
def test_the_best_distance_never_grows_along_a_trace(row):
    expected = attacked(row)
    steps = int(expected.forwards.max())
    result, trace = jax.jit(cw.traced(row.make(), steps))(MODEL, KEYS, X, GOAL)
    assert_same(result, expected)
    assert trace.distance.shape == (COUNT, steps)
    # inf - inf is no number: compare, do not subtract
    assert (trace.distance[:, 1:] <= trace.distance[:, :-1]).all()
    np.testing.assert_array_equal(trace.distance[:, -1], result.distance)
    np.testing.assert_array_equal(result.forwards, expected.forwards)
    cut, _ = jax.jit(cw.traced(row.make(), 3))(MODEL, KEYS, X, GOAL)
    assert not cut.finished.any()
    assert (cut.forwards == 3).all()


@every_attack
def test_forwards_and_backwards_are_the_calls_of_the_model(row):
    calls = {"forward": 0, "backward": 0}

    def count(kind):
        jax.debug.callback(lambda: calls.update({kind: calls[kind] + 1}))

    @jax.custom_vjp
    def watched(logits):
        return logits

    def backward(_, slope):
        count("backward")
        return (slope,)

    watched.defvjp(lambda logits: (logits, None), backward)

    def apply(params, x):
        count("forward")
        return watched(problems.mlp(params, x))

    result = cw.batched(row.make())(cw.bind(apply, MODEL.params), *pick([3], KEYS, X, GOAL))
    jax.effects_barrier()
    assert calls == {"forward": int(result.forwards[0]), "backward": int(result.backwards[0])}
    assert calls["forward"] > 3


@every_attack
def test_new_numbers_and_new_weights_do_not_compile_again(row):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(model, keys, x, goal, confidence, steps, initial_c, rounds):
        search = cw.binary_search(rounds, initial_c=initial_c)
        return cw.batched(row.make(confidence, steps=steps, search=search))(model, keys, x, goal)

    numbers = (0.0, 40, 0.3, 4)
    first = run(MODEL, KEYS, X, GOAL, *numbers)
    assert_same(first, attacked(row))
    other = cw.bind(problems.mlp, problems.mlp_params(seed=5))
    run(other, KEYS, X, GOAL, *numbers)
    run(MODEL, KEYS, X, GOAL._replace(sign=-GOAL.sign), *numbers)
    assert (run(MODEL, KEYS, X, GOAL, 0.5, 11, 1.0, 2).forwards <= 22).all()


@every_attack
def test_jitted_and_unjitted_agree(row):
    assert_same(cw.batched(row.make())(MODEL, KEYS, X, GOAL), attacked(row))
    small = row.make(steps=6, search=cw.binary_search(2, initial_c=3.0))
    arguments = (MODEL, *pick([0, 3], KEYS, X, GOAL))
    expected = jax.jit(cw.batched(small))(*arguments)
    with jax.disable_jit():
        assert_same(cw.batched(small)(*arguments), expected)


@every_attack
@pytest.mark.parametrize("when", ["at once", "on the way"])
def test_a_model_that_returns_nan_ends_as_not_finite_and_disturbs_no_neighbour(row, when):
    victim = 4
    clean = X[victim].reshape(-1)

    def apply(params, x):
        near = jnp.abs(x.reshape(x.shape[0], -1) - clean[None]).max(1) < 0.2
        far = jnp.abs(x.reshape(x.shape[0], -1) - clean[None]).max(1) < 1e-3
        broken = near if when == "at once" else near & ~far
        return jnp.where(broken[:, None], jnp.nan, problems.mlp(params, x))

    result = runner(row)(cw.bind(apply, MODEL.params), KEYS, X, GOAL)
    assert not result.finite[victim]
    assert result.finished.all()
    assert not np.isnan(result.x).any()
    others = np.delete(np.arange(COUNT), victim)
    assert_same(pick(others, result)[0], pick(others, attacked(row))[0])


@every_attack
def test_a_nan_among_the_logits_that_do_not_matter_is_reported(row):
    def apply(params, x):
        logits = problems.mlp(params, x)
        lowest = jnp.arange(problems.CLASSES)[None] == logits.argmin(1)[:, None]
        return jnp.where(lowest, jnp.nan, logits)

    result = jax.jit(cw.batched(row.make()))(cw.bind(apply, MODEL.params), KEYS, X, GOAL)
    assert not result.finite.any()
    assert not result.success.any()


@every_attack
@pytest.mark.parametrize("label", [-1, problems.CLASSES, 1000])
def test_a_label_out_of_range_is_reported_and_disturbs_no_neighbour(row, label):
    goal = GOAL._replace(label=GOAL.label.at[2].set(label))
    result = runner(row)(MODEL, KEYS, X, goal)
    assert not result.finite[2]
    assert not result.success[2]
    others = np.delete(np.arange(COUNT), 2)
    assert_same(pick(others, result)[0], pick(others, attacked(row))[0])


@every_attack
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_inputs_of_half_precision_give_results_of_half_precision(row, dtype):
    x = X.astype(dtype)
    result = runner(row)(MODEL, KEYS, x, GOAL)
    assert result.x.dtype == dtype
    assert result.success.mean() > 0.6
    assert result.finite.all()
    assert cw.metrics.successes(MODEL, result.x, GOAL)[result.success].all()
    measured = cw.metrics.norms(x, result.x)[row.norm]
    np.testing.assert_allclose(result.distance[result.success], measured[result.success], rtol=1e-5)


def test_a_weight_beyond_half_precision_does_not_overflow():
    attack = problems.small_l2(objective=cw.logit_margin(1e4), search=cw.binary_search(9), steps=3)
    result = jax.jit(cw.batched(attack))(MODEL, KEYS, X.astype(jnp.float16), GOAL)
    assert result.finite.all()
    assert not result.success.any()
