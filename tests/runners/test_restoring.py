import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cwjax as cw
from cwjax.runners.restoring import Restoration, restored
from tests import problems

COUNT = 24
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
GOAL = problems.goals(MODEL, np.asarray(X))
KEYS = problems.keys(COUNT)
ATTACK = cw.attacks.pgd(epsilon=0.9, steps=20, random_start=False)


@functools.cache
def solved() -> cw.Result:
    """The attack's own result: it changes every element, and goes farther than it needs to."""
    return jax.jit(cw.batched(ATTACK))(MODEL, KEYS, X, GOAL)


def undone(start, model=MODEL, x=X, goal=GOAL, looks=100, distance=None) -> tuple[cw.Result, Restoration]:
    """What is left of a result."""
    return _undone(start, model, x, goal, looks, distance)


@functools.partial(jax.jit, static_argnames="distance")
def _undone(start, model, x, goal, looks, distance):
    terms = ATTACK.terms if distance is None else ATTACK.terms._replace(distance=distance)
    run = restored(lambda *_, **__: start, terms=terms, looks=looks)
    return run(model, problems.keys(len(x)), x, goal)


@functools.cache
def less(looks: int = 100) -> tuple[cw.Result, Restoration]:
    return undone(solved(), looks=looks)


def pick(rows, *trees):
    return [jax.tree.map(lambda leaf: leaf[np.asarray(rows)], tree) for tree in trees]


def assert_same(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one, other)


def by_hand(met, clean, x, looks):
    """The same search on one example in NumPy. Returns the example and its looks."""
    order = [i for i in np.argsort(np.abs(x - clean), kind="stable") if x[i] != clean[i]]
    group, asked = max((len(order) + 1) // 2, 1), 0
    while order and asked < looks:
        group, trial = min(group, len(order)), x.copy()
        trial[order[:group]] = clean[order[:group]]
        asked += 1
        if met(trial):
            x, order, group = trial, order[group:], 2 * group
        elif group == 1:
            order = order[1:]
        else:
            group //= 2
    return x, asked


@pytest.mark.parametrize("looks", [0, 3, 100])
def test_it_agrees_with_a_plain_loop(looks):
    result, told = less(looks)
    params = problems.mlp_params(dtype=np.float64)
    for i in range(COUNT):
        label, sign = int(GOAL.label[i]), float(GOAL.sign[i])

        def met(x, i=i, label=label, sign=sign):
            hidden = np.tanh(x.astype(np.float64) @ params["w1"] + params["b1"])
            logits = hidden @ params["w2"] + params["b2"]
            return sign * (logits[label] - np.delete(logits, label).max()) > 1e-4

        clean, start = (np.asarray(each[i]).reshape(-1) for each in (X, solved().x))
        if solved().success[i]:
            expected, asked = by_hand(met, clean, start, looks)
        else:
            expected, asked = clean, 0
        np.testing.assert_array_equal(np.asarray(result.x[i]).reshape(-1), expected)
        assert told.looks[i] == asked
        assert told.undone[i] == ((start != clean).sum() - (expected != clean).sum() if solved().success[i] else 0)


def test_much_is_undone_and_every_success_stays_one():
    result, told = less()
    assert solved().success.sum() > COUNT / 2
    np.testing.assert_array_equal(result.success, solved().success)
    hit = np.asarray(result.success)
    assert (told.undone[hit] > 0).mean() > 0.5
    assert cw.metrics.successes(MODEL, result.x, GOAL)[hit].all()
    np.testing.assert_array_equal(told.distance, solved().distance)
    np.testing.assert_array_equal(np.asarray(result.x)[~hit], np.asarray(X)[~hit])
    np.testing.assert_array_equal(told.looks[~hit], 0)


@pytest.mark.parametrize("norm", ["l0", "l1", "l2", "linf"])
def test_no_example_gets_worse_in_any_norm(norm):
    distance = cw.distances.DISTANCES[norm]
    start = solved()
    start = start._replace(distance=jnp.where(start.success, cw.metrics.norms(X, start.x)[norm], jnp.inf))
    result, _ = undone(start, distance=distance)
    for name, before in cw.metrics.norms(X, start.x).items():
        after = cw.metrics.norms(X, result.x)[name]
        assert (after <= before * (1 + 1e-6)).all(), name
    assert (result.distance <= start.distance).all()
    hit = np.asarray(result.success)
    np.testing.assert_allclose(result.distance[hit], cw.metrics.norms(X, result.x)[norm][hit], rtol=1e-5)


def test_a_distance_that_would_grow_keeps_its_change():
    """Of a distance that punishes what is left alone, nothing is undone."""
    strange = cw.Distance(lambda delta, tau: jnp.sum(delta**2), lambda delta: jnp.sum(delta == 0).astype(delta.dtype))
    result, told = undone(solved(), distance=strange)
    np.testing.assert_array_equal(told.undone, 0)
    np.testing.assert_array_equal(result.x, solved().x)


def test_the_channels_of_a_pixel_go_together_where_pixels_are_counted():
    x = jnp.full((1, 4, 5, 3), 0.25)
    moved = x + 0.01 * jnp.arange(1, 61).reshape(1, 4, 5, 3)
    start = solved()
    start = jax.tree.map(lambda leaf: leaf[:1], start)._replace(
        x=moved, success=jnp.array([True]), distance=jnp.array([20.0])
    )
    model = cw.bind(lambda params, x: jnp.stack([x[:, 1, 2, 0] - 0.3, 0 * x[:, 0, 0, 0]], 1))
    terms = ATTACK.terms._replace(distance=cw.distances.l0(channel_axis=-1))
    run = restored(lambda *_, **__: start, terms=terms)
    result, told = run(model, KEYS[:1], x, cw.targeted([0]))
    changed = np.asarray(result.x != x)[0]
    assert changed.any(-1).sum() == 1
    assert changed[1, 2].all()
    assert result.distance[0] == 1
    assert told.undone[0] == 57


def test_looks_are_the_calls_of_the_model():
    model, calls = problems.counted()
    most = int(np.asarray(less()[1].looks).argmax())
    start, x, goal = pick([most], solved(), X, GOAL)
    result, told = undone(start, model, x, goal)
    jax.effects_barrier()
    assert told.looks[0] > 2
    assert calls == {"forward": int(told.looks[0]), "backward": 0}
    assert result.forwards[0] - start.forwards[0] == told.looks[0]
    assert result.backwards[0] == start.backwards[0]


def test_an_example_does_not_depend_on_its_batch():
    order = np.random.default_rng(0).permutation(COUNT)
    start, x, goal = pick(order, solved(), X, GOAL)
    assert_same(undone(start, x=x, goal=goal), tuple(pick(order, *less())))


@pytest.mark.long
def test_with_its_attack_in_one_program_and_in_chunks():
    run = cw.chunked(cw.restored(cw.batched(ATTACK)), 7)
    assert_same(jax.jit(run)(MODEL, KEYS, X, GOAL), less())


def test_masks_and_eight_bits_stay():
    mask = np.arange(X[0].size).reshape(X.shape[1:]) % 2 == 0
    levels = jnp.asarray(np.rint(np.asarray(X) * 255) / np.float32(255), jnp.float32)
    rounded = cw.discretised(cw.batched(ATTACK))
    run = jax.jit(cw.restored(lambda *given, **bounds: rounded(*given, **bounds)[0], terms=ATTACK.terms))
    result, told = run(MODEL, KEYS, levels, GOAL, mask=mask)
    assert told.undone.sum() > 0
    np.testing.assert_array_equal(np.asarray(result.x)[:, ~mask], np.asarray(levels)[:, ~mask])
    np.testing.assert_allclose(np.asarray(result.x) * 255, np.rint(np.asarray(result.x) * 255), atol=1e-4)


def test_new_numbers_and_new_weights_do_not_compile_again():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(model, start, looks):
        return restored(lambda *_, **__: start, terms=ATTACK.terms, looks=looks)(model, KEYS, X, GOAL)

    assert_same(run(MODEL, solved(), 100), less())
    assert run(MODEL, solved(), 2)[1].looks.max() == 2
    run(cw.bind(problems.mlp, problems.mlp_params(seed=5)), solved(), 100)


def test_a_model_that_returns_nan_for_less_keeps_the_example():
    def apply(params, x):
        whole = (jnp.abs(x - params["start"]) < 1e-6).all(tuple(range(1, x.ndim)))
        return jnp.where(whole[:, None], problems.mlp(params["mlp"], x), jnp.nan)

    [row] = np.flatnonzero(solved().success)[:1]
    start, x, goal = pick([row], solved(), X, GOAL)
    result, told = undone(start, cw.bind(apply, {"start": start.x, "mlp": MODEL.params}), x, goal)
    assert result.success.all()
    np.testing.assert_array_equal(result.x, start.x)
    assert told.undone[0] == 0


def test_a_slope_is_not_needed():
    still = cw.bind(lambda params, x: problems.mlp(params, lax.stop_gradient(x)), MODEL.params)
    assert_same(undone(solved(), still), less())
