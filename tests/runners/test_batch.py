"""What runners take besides inputs and goals: bounds, a mask and a start, for all inputs or for each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import cwjax as cw
from cwjax.problems import Allowed, problem
from tests import problems

COUNT = 8
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
GOAL = cw.untargeted(MODEL.apply(MODEL.params, X).argmax(-1))
KEYS = problems.keys(COUNT)
MASK = np.arange(problems.SHAPE[0])[:, None] < 2  # the upper rows
ATTACKS = {
    "l2": problems.small("l2", box=cw.boxes.projected()),
    "l0": problems.small("l0"),
    "l2, restarted": cw.restarted(problems.small("l2"), 2, 0.5),
    "fast_l2": cw.fast("l2", steps=40),
    "pgd": cw.attacks.pgd(epsilon=0.5, steps=20),  # with a random start
}
LONG = ("l0", "l2, restarted", "fast_l2")
rows = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in LONG)) for name in ATTACKS]
)


def ran(attack, run=cw.batched, **bounds):
    return jax.jit(run(attack))(MODEL, KEYS, X, GOAL, **bounds)


@functools.cache
def masked(name):
    """The attack as a function of a mask, compiled once."""
    return jax.jit(lambda mask: cw.batched(ATTACKS[name])(MODEL, KEYS, X, GOAL, mask=mask))


@rows
def test_only_what_the_mask_allows_changes_and_it_is_enough(name):
    fixed = np.broadcast_to(~MASK, problems.SHAPE)
    result, free = (masked(name)(mask) for mask in (~fixed, np.ones(problems.SHAPE, bool)))
    np.testing.assert_array_equal(result.x[:, fixed], X[:, fixed])
    assert result.success.sum() >= COUNT // 2
    assert cw.metrics.successes(MODEL, result.x, GOAL)[result.success].all()
    assert not np.array_equal(free.x[:, fixed], X[:, fixed])
    plain = ran(ATTACKS[name])
    np.testing.assert_array_equal(free.success, plain.success)
    np.testing.assert_allclose(free.distance, plain.distance, rtol=1e-4)


@rows
def test_elements_whose_least_value_is_the_clean_one_can_only_rise(name):
    middle = jnp.clip(X, 0.2, 0.8)  # room on both sides
    run = jax.jit(lambda low: cw.batched(ATTACKS[name])(MODEL, KEYS, middle, GOAL, low=low))
    result = run(middle)
    assert (result.x >= middle).all()
    assert result.success.any()
    free = run(jnp.zeros_like(middle))
    assert not (free.x >= middle).all()


@pytest.mark.parametrize("own", [False, pytest.param(True, marks=pytest.mark.long)], ids=["for all", "for each"])
def test_every_runner_takes_them(own):
    attack = cw.attacks.fgsm(epsilon=0.5)  # which compiles most quickly
    given = {"low": np.float32(-0.1), "high": np.full(problems.SHAPE[-1:], 1.1, np.float32), "mask": MASK}
    if own:
        given = {name: np.broadcast_to(value, X.shape) for name, value in given.items()} | {"start": X[::-1]}
    expected = ran(attack, **given)
    assert expected.success.sum() >= COUNT // 2
    assert np.asarray(expected.x).min() < 0
    mesh = Mesh(jax.devices()[:1], ("devices",))
    for run in (
        jax.jit(cw.chunked(cw.batched(attack), 3)),
        jax.jit(cw.sharded(cw.batched(attack), mesh)),
        cw.streamed(attack, width=3, every=7),
        jax.jit(lambda *arguments, **bounds: cw.traced(attack, 3)(*arguments, **bounds)[0]),
    ):
        result = run(MODEL, KEYS, X, GOAL, **given)
        np.testing.assert_array_equal(result.success, expected.success)
        np.testing.assert_allclose(result.distance, expected.distance, rtol=1e-4)
    for wrapped in (cw.verified, *([lambda runner: cw.discretised(runner, between=(-0.1, 1.1))] if own else [])):
        result, _ = jax.jit(wrapped(cw.batched(attack)))(MODEL, KEYS, X, GOAL, **given)
        assert result.success.sum() >= expected.success.sum() - 1
        fixed = np.broadcast_to(~MASK, problems.SHAPE)
        np.testing.assert_array_equal(result.x[:, fixed], X[:, fixed])


def test_new_bounds_do_not_compile_again():
    traces = []

    @jax.jit
    def run(low, mask):
        traces.append(0)
        return cw.batched(ATTACKS["pgd"])(MODEL, KEYS, X, GOAL, low=low, mask=mask)

    for low in (0.0, -1.0):
        for mask in (MASK, ~MASK):
            result = run(low, mask)
            fixed = np.broadcast_to(~mask, problems.SHAPE)
            np.testing.assert_array_equal(result.x[:, fixed], X[:, fixed])
    assert len(traces) == 1


def test_it_starts_where_it_is_told_to_and_no_farther_than_the_bounds():
    attack = cw.descend(
        objective=cw.objectives.logit_margin(),
        distance=cw.distances.l2(),
        box=cw.boxes.projected(),
        optimizer=cw.optimizers.gradient_descent(0.1),
        steps=1,
        abort=cw.aborts.never(),
    )
    found = ran(cw.searched(attack, cw.search.binary_search(1)), start=jnp.flip(X, 0))
    other = cw.metrics.successes(MODEL, jnp.flip(X, 0), GOAL)
    np.testing.assert_array_equal(found.success, other)
    np.testing.assert_array_equal(found.x[other], jnp.flip(X, 0)[other])
    given = problem(X[0], jax.tree.map(lambda leaf: leaf[0], GOAL), Allowed(low=X[0] - 0.1, high=1.0, start=X[0] - 9))
    np.testing.assert_allclose(given.start, X[0] - 0.1, rtol=1e-6)


@pytest.mark.long
def test_an_attack_runs_where_some_elements_have_no_room():
    x, goal = jnp.full((4, 3), 0.5), cw.targeted([1, 1, 2, 2])
    model = cw.bind(lambda weights, x: x @ weights, jnp.eye(3) + 0.1)
    bounds = {"low": jnp.array([0.5, 0.0, 0.5]), "high": jnp.array([0.5, 1.0, 0.5])}
    result = jax.jit(cw.batched(cw.fast("l2", steps=40)))(model, problems.keys(4), x, goal, **bounds)
    # The third may not rise, but the second fall.
    np.testing.assert_array_equal(result.success, [True, True, False, False])
    np.testing.assert_array_equal(result.x[:, [0, 2]], 0.5)


@pytest.mark.long
def test_a_smaller_region_costs_more():
    result, free = (masked("fast_l2")(mask) for mask in (MASK, np.ones_like(MASK)))
    assert result.success.sum() >= COUNT // 2
    assert (result.distance > 0.99 * free.distance).all()


@pytest.mark.long
def test_slopes_of_elements_that_may_not_move_hold_no_others():
    def apply(params, x):  # the second element shows its slope only away from the clean input
        lead = x[:, 0] + 10 * jax.nn.relu(x[:, 1] - 0.6) - 1
        return jnp.stack([jnp.zeros_like(lead), lead], 1)

    attack = cw.restarted(cw.l2(box=cw.boxes.projected(), steps=100), 10, 0.5)
    model, x, mask = cw.bind(apply, ()), jnp.full((1, 2), 0.5), np.array([False, True])
    result = jax.jit(cw.batched(attack))(model, problems.keys(1), x, cw.untargeted([0]), mask=mask)
    assert result.success.all()
    np.testing.assert_allclose(result.x, [[0.5, 0.65]], atol=0.01)


@pytest.mark.long
def test_it_is_compared_with_attacks_on_the_same_elements():
    narrow, attack = np.arange(problems.SHAPE[0])[:, None] < 1, cw.fast("l2", steps=100)
    result = ran(attack, mask=narrow)
    checks = cw.diagnose(MODEL, attack, X, GOAL, result, jax.random.key(0), mask=narrow).checks
    closer = checks["weaker_wins"].evidence[np.asarray(result.success)]
    assert (closer > 0.9 * result.distance[result.success]).all()
    assert not result.success.all()
    assert "only some elements" in checks["unbounded_fails"].note
    # Among all elements FGSM, PGD or noise win.
    checks = cw.diagnose(MODEL, attack, X, GOAL, result, jax.random.key(0)).checks
    closer = checks["weaker_wins"].evidence[np.asarray(result.success)]
    assert (closer <= 0.9 * result.distance[result.success]).any()


@pytest.mark.parametrize(
    ("bounds", "error", "said"),
    [
        ({"mask": np.ones((2, 7), bool)}, ValueError, r"mask of shape \[2, 7\] broadcasts neither to one input"),
        (
            {"mask": np.ones(problems.SHAPE)},
            TypeError,
            "mask must be boolean, True where an element may change, got float64",
        ),
        ({"mask": np.zeros(problems.SHAPE, bool)}, ValueError, "mask is False everywhere: no element may change"),
        ({"low": 1.0, "high": 0.0}, ValueError, r"bounds must be finite, with low <= high.*got \[1.0, 0.0\]"),
        ({"low": 0.5, "high": 0.5}, ValueError, "bounds must be finite"),
        ({"low": float("-inf")}, ValueError, "bounds must be finite"),
        ({"high": float("nan")}, ValueError, "bounds must be finite"),
        ({"low": -np.inf * np.ones(4)}, ValueError, r"bounds must be finite.*got \[-inf, 1.0\]"),
        ({"low": np.array([0.0, 0.0, 2.0, 0.0])}, ValueError, r"with low <= high.*got \[0…2, 1.0\]"),
        ({"high": jnp.array([1.0, 1.0, jnp.inf, 1.0])}, ValueError, "bounds must be finite"),
        ({"low": "0"}, TypeError, "low must be a number or an array of numbers, got the text '0'"),
        ({"high": None}, TypeError, "high must be a number or an array of numbers, got None"),
        ({"low": [0.0] * 4}, TypeError, "low must be a number or an array of numbers, got list"),
        ({"high": True}, TypeError, "high must be a number or an array of numbers, got True"),
        ({"start": np.zeros(4, bool)}, TypeError, "start must be a number or an array of numbers, got bool"),
        (
            {"mask": np.array([0, 1, 1, 1])},
            TypeError,
            "mask must be boolean, True where an element may change, got int",
        ),
        ({"mask": 1}, TypeError, "mask must be boolean, True where an element may change, got 1"),
        ({"high": np.ones(9)}, ValueError, r"high of shape \[9\] broadcasts neither"),
        ({"start": np.ones((3, *problems.SHAPE))}, ValueError, "start of shape"),
        ({"high": 0.5}, ValueError, "outside the box"),
        ({"lower": 0.5}, TypeError, "a runner takes low, high, mask, start, context by name, got lower"),
    ],
)
def test_a_mistake_is_one_line(bounds, error, said):
    for run in (cw.batched, lambda attack: cw.chunked(cw.batched(attack), 3), lambda attack: cw.traced(attack, 5)):
        with pytest.raises(error, match=said):
            run(ATTACKS["l2"])(MODEL, KEYS, X, GOAL, **bounds)
    with pytest.raises(error, match=said):
        cw.validate(MODEL, X, GOAL, **bounds)
