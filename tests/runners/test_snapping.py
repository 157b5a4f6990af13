"""Points on a lattice: within the bounds, never a false success, and no more than the goal needs."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.parts.lattices import lattice
from cwjax.runners.snapping import snapped

F, COUNT = 6, 40
RNG = np.random.default_rng(3)
WEIGHTS = {
    "first": (RNG.normal(size=(F, 12)) / 4).astype(np.float32),
    "bias": RNG.normal(size=12).astype(np.float32),
    "last": RNG.normal(size=(12, 2)).astype(np.float32),
}
LEVELS = [[0, 1]] * 3 + [[0, 1, 2, 4]] * 3
TOPS = np.array([row[-1] for row in LEVELS], np.float32)
X = np.stack([RNG.choice(row, COUNT) for row in LEVELS], 1).astype(np.float32)
SOLUTIONS = (
    (X + RNG.uniform(-1, 1, X.shape) * TOPS * (RNG.uniform(size=X.shape) < 0.7)).clip(0, TOPS).astype(np.float32)
)
MASK = np.arange(F) != 2
KEYS = jax.random.split(jax.random.key(0), COUNT)
PAIRS = [(0, 1), (5, 3)]
BITS = lattice()
COUNTED = cw.distances.l0(per_pixel=False)


def net(params, x):
    return jnp.tanh(x @ params["first"] + params["bias"][None]) @ params["last"]


def answers(x):
    return np.asarray(net(WEIGHTS, np.asarray(x))).argmax(1)


MODEL = cw.bind(net, WEIGHTS)
LABELS = answers(X)
GOAL = cw.untargeted(LABELS)


def solved(x) -> cw.Result:
    """A result that says of any points that they are examples."""
    none, ones = jnp.zeros(len(x), jnp.int32), jnp.ones(len(x))
    yes = jnp.ones(len(x), bool)
    return cw.Result(jnp.asarray(x), yes, ones, ones, forwards=none, backwards=none, finite=yes, finished=yes)


def program(found=BITS, distance=COUNTED):
    """(model, x, solution, goal, steps, bounds) -> the points on the lattice, in one program."""
    terms = cw.base.Terms(cw.losses.negative_margin(), distance, cw.boxes.projected())

    @jax.jit
    def run(model, x, solution, goal, steps, bounds):
        wrapped = snapped(lambda *_, **__: solved(solution), found, steps=steps, terms=terms)
        return wrapped(model, KEYS[: len(x)], x, goal, **bounds)

    return run


RUN = {pairs: program(lattice(LEVELS, implies=PAIRS if pairs else (), shape=(F,))) for pairs in (False, True)}


def bounds(rises: bool, rows: slice | np.ndarray = slice(None)):
    return {"low": X[rows] if rises else np.zeros_like(X[rows]), "high": TOPS, "mask": MASK}


@functools.cache
def ran(pairs: bool, rises: bool):
    return RUN[pairs](MODEL, X, np.maximum(SOLUTIONS, X) if rises else SOLUTIONS, GOAL, 50, bounds(rises))


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("rises", [False, True])
def test_results_are_inputs_that_could_be(pairs, rises):
    result, rounding = ran(pairs, rises)
    x, hit = np.asarray(result.x), np.asarray(result.success)
    assert COUNT // 8 < hit.sum() < COUNT
    assert all(np.isin(x[:, i], LEVELS[i]).all() for i in range(F))
    assert (x[:, ~MASK] == X[:, ~MASK]).all()
    assert (x >= (X if rises else 0)).all()
    assert ((answers(x) != LABELS) == hit).all()
    np.testing.assert_array_equal(x[~hit], X[~hit])
    np.testing.assert_array_equal(result.distance, np.where(hit, (x != X).sum(1), np.inf))
    assert (np.asarray(rounding.repairs)[hit & ~np.asarray(rounding.rounded)] > 0).all()
    for i, j in PAIRS if pairs else ():
        assert not ((x[:, i] > 0) & (x[:, j] == 0) & ~((X[:, i] > 0) & (X[:, j] == 0))).any()


@pytest.mark.parametrize("rises", [False, True])
def test_no_change_is_left_that_the_goal_does_not_need(rises):
    for x, clean, label in zip(np.asarray(ran(False, rises)[0].x), X, LABELS, strict=True):
        for place in np.flatnonzero(x != clean):
            fewer = np.where(np.arange(F) == place, clean, x)
            assert answers(fewer[None])[0] == label


def inputs_of(clean) -> np.ndarray:
    """All that the clean input may become by rising."""
    choices = [[v for v in row if v >= clean[i]] if MASK[i] else [clean[i]] for i, row in enumerate(LEVELS)]
    return np.array(list(itertools.product(*choices)), np.float32)


@pytest.mark.long
def test_an_attack_ends_within_a_change_of_the_fewest():
    run = jax.jit(snapped(cw.batched(cw.fast("l0", steps=40, distance=COUNTED)), lattice(LEVELS)))
    result, _ = run(MODEL, KEYS, X, GOAL, **bounds(True))
    near = []
    for x, clean, label in zip(np.asarray(result.x), X, LABELS, strict=True):
        every = inputs_of(clean)
        fooled = every[answers(every) != label]
        if len(fooled):
            near.append((x != clean).any() and (x != clean).sum() <= (fooled != clean).sum(1).min() + 1)
    assert len(near) >= COUNT // 4
    assert np.mean(near) >= 0.95


def test_rows_do_not_depend_on_their_batch():
    result, rounding = ran(False, True)
    order = RNG.permutation(COUNT)
    goal = jax.tree.map(lambda leaf: leaf[order], GOAL)
    other, cost = RUN[False](MODEL, X[order], np.maximum(SOLUTIONS, X)[order], goal, 50, bounds(True, order))
    np.testing.assert_array_equal(other.x, np.asarray(result.x)[order])
    np.testing.assert_array_equal(cost.repairs, np.asarray(rounding.repairs)[order])


LOOKS = []


def linear(params, x):
    """Two logits, the second of which leads by x·w - 1; NaN where an element falls that may not. Looks are counted."""
    lead = x.reshape(len(x), -1) @ params["weights"]
    jax.debug.callback(lambda _: LOOKS.append(1), lead)
    broken = params["broken"] & (x.reshape(len(x), -1)[:, 0] == 0)
    return jnp.where(broken[:, None], jnp.nan, jnp.stack([jnp.ones_like(lead), lead], 1))


def by(*weights, broken=False):
    return cw.bind(linear, {"weights": jnp.array(weights), "broken": jnp.array(broken)})


BINARY = program()
PRICED = {
    norm: program(distance=distance(cost=np.array([1.0, 9.0, 2.0, 1.0])))
    for norm, distance in (("l0", cw.distances.l0), ("l1", cw.distances.l1))
}
FIRST = cw.untargeted(np.zeros(1, np.int32))
NOWHERE = np.zeros((1, 4), np.float32)


def on(model, solution, *, run=BINARY, clean=NOWHERE, steps=50, mask=(True,) * 4):
    result, rounding = run(model, clean, np.array([solution], np.float32), FIRST, steps, {"mask": np.array(mask)})
    return result.x[0].tolist(), result, rounding


def test_passes_are_those_of_the_model():
    LOOKS.clear()
    x, result, rounding = on(by(0.3, 0.4, 0.5, 0.0), [0.4] * 4)
    jax.effects_barrier()
    # Rounded to nothing, then 0.5, 0.4 and 0.3 are added: none of them can be undone.
    assert x == [1, 1, 1, 0]
    assert (int(rounding.repairs[0]), bool(rounding.rounded[0])) == (3, False)
    assert int(result.forwards[0]) == int(result.backwards[0]) == len(LOOKS) == 4 + 3


def test_what_is_not_needed_is_undone_the_dearest_first():
    weights = by(0.8, 0.8, 0.9, 0.1)
    x, result, rounding = on(weights, [1] * 4)
    assert (sum(x), bool(rounding.rounded[0]), float(result.distance[0])) == (2, True, 2.0)
    x, result, _ = on(weights, [1] * 4, run=PRICED["l0"])
    assert (x, float(result.distance[0])) == ([1, 0, 1, 0], 3.0)


def test_a_repair_takes_what_helps_most_for_its_cost():
    weights = by(0.0, 1.4, 0.0, 1.2)
    assert on(weights, [0.1] * 4)[0] == [0, 1, 0, 0]
    for run in PRICED.values():
        assert on(weights, [0.1] * 4, run=run)[0] == [0, 0, 0, 1]


def test_what_follows_is_added_and_what_may_not_follow_is_not():
    run = program(lattice(implies=[(0, 1)], shape=(4,)))
    weights, added = by(1.5, -0.2, 1.1, 0.0), [0.9, 0, 0, 0]
    assert on(weights, added, run=run)[0] == [1, 1, 0, 0]
    assert on(weights, added, run=run, mask=(True, False, True, True))[0] == [0, 0, 1, 0]
    lacking = np.array([[1, 0, 0, 0]], np.float32)  # from the beginning, what should follow
    assert on(by(0.0, -1.0, 1.1, 0.0), lacking[0], run=run, clean=lacking)[0] == [1, 0, 1, 0]
    whole = np.array([[1, 1, 0, 0]], np.float32)  # what is needed is not taken away
    assert on(by(0.2, -9.0, 10.5, 0.0), whole[0], run=run, clean=whole)[0] == [1, 1, 1, 0]


@pytest.mark.parametrize("more", [{"steps": 1}, {"mask": (True, False, True, True)}])
def test_a_repair_without_steps_or_room_fails_as_the_clean_input(more):
    x, result, rounding = on(by(0.3, 0.4, 0.5, 0.0), [0.1] * 4, **more)
    assert x == NOWHERE[0].tolist()
    assert np.isinf(result.distance[0])
    assert (bool(rounding.success[0]), bool(result.success[0]), bool(result.finite[0])) == (True, False, True)


def test_a_nan_ends_a_repair_and_not_an_example():
    x, result, _ = on(by(0.3, 0.4, 0.9, 0.0, broken=True), [0.1, 0.9, 0.1, 0.1])
    assert (x, bool(result.finite[0]), bool(result.success[0])) == ([0, 0, 0, 0], False, False)
    x, result, _ = on(by(0.0, 0.4, 1.9, 0.0, broken=True), [0.9, 0.1, 0.9, 0.1])  # a NaN where the first is undone
    assert (x, bool(result.finite[0]), bool(result.success[0])) == ([1, 0, 1, 0], True, True)


@pytest.mark.long
def test_half_precision_and_pictures():
    model, goal = by(0.8, 0.1, 0.8, 0.1), FIRST
    clean, solution = np.zeros((1, 2, 2, 1), jnp.bfloat16), np.full((1, 2, 2, 1), 0.6, jnp.bfloat16)
    result, _ = program(lattice([0, 0.5, 1]))(model, clean, solution, goal, 50, {})
    assert (result.x.dtype, bool(result.success[0])) == (jnp.bfloat16, True)
    assert np.isin(np.asarray(result.x, np.float32), [0, 0.5, 1]).all()


def test_inputs_off_the_lattice_are_refused_by_name(as_users_have_it):
    run = cw.batched(cw.fast("l0", steps=2))
    with pytest.raises(ValueError, match=r"2 of 6 elements of x are on none of their levels, first x\[0, 1\]"):
        snapped(run, lattice())(MODEL, KEYS[:1], np.array([[0, 0.5, 1, 0.25, 0, 0]], np.float32), FIRST)
    still = {"mask": np.array([False, False, True, False, False, True])}
    loose = np.array([[0.3, 0.5, 1, 0.25, 0.1, 0]], np.float32)
    assert snapped(lambda *_, **__: solved(loose), lattice(), terms=cw.fast("l0").terms)(
        MODEL, KEYS[:1], loose, FIRST, **still
    )[0].x[0, 1] == np.float32(0.5)
    with pytest.raises(TypeError, match="lattice must be of the type"):
        snapped(run, [0, 1])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        snapped(run, lattice(), steps=0)
