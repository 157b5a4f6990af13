"""The folded Gaussian attacks change what adv-lib's change, to the value; FGA only raises elements, or only lowers."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.jsma import label_probability
from cwjax.attacks.vfga import fga, vfga
from cwjax.problems import problem
from tests import problems
from tests.attacks.plain_net import CONSTANT, MODEL, X, asked, goal

# adv-lib 0.2.8, `vfga(net, x, label, targeted, n_samples=4)` and `fga(…, increasing=…)` in float64, on the network and
# the inputs of plain_net, with DRAWS in the place of torch's random numbers: for each input, how many elements differ
# in what it returns, the sum of the differences and the sum of their sizes. Targeted, it is towards the class after the
# network's own answer.
DRAWS = [0.1, 0.4, 0.8, 2.0]
ADV_LIB = {
    ("vfga", -1.0): [
        *((1, -0.569431, 0.569431), (1, 0.565103, 0.565103), (2, 0.012352, 1.612352)),
        *((2, 1.459975, 1.459975), (1, 0.932147, 0.932147), (1, -0.695064, 0.695064)),
    ],
    ("vfga", 1.0): [
        *((1, -0.569431, 0.569431), (1, 0.565103, 0.565103), (2, 0.012352, 1.612352)),
        *((2, 1.459975, 1.459975), (1, 0.932147, 0.932147), (1, 1.0, 1.0)),
    ],
    ("raised", -1.0): [
        *((1, 1.0, 1.0), (1, 0.565103, 0.565103), (3, 1.11029, 1.11029)),
        *((2, 1.459975, 1.459975), (1, 0.932147, 0.932147), (1, 0.419922, 0.419922)),
    ],
    ("raised", 1.0): [
        *((1, 1.0, 1.0), (1, 0.565103, 0.565103), (3, 1.11029, 1.11029)),
        *((2, 1.459975, 1.459975), (1, 0.932147, 0.932147), (1, 1.0, 1.0)),
    ],
    ("lowered", -1.0): [
        *((1, -0.569431, 0.569431), (1, -0.850511, 0.850511), (2, -1.672886, 1.672886)),
        *((2, -1.48436, 1.48436), (1, -1.0, 1.0), (1, -0.695064, 0.695064)),
    ],
    ("lowered", 1.0): [
        *((1, -0.569431, 0.569431), (1, -0.850511, 0.850511), (2, -1.672886, 1.672886)),
        *((3, -1.812557, 1.812557), (2, -1.363263, 1.363263), (2, -1.479847, 1.479847)),
    ],
}
MAKERS = {"vfga": vfga, "raised": fga, "lowered": functools.partial(fga, increasing=False)}
IMAGES = {"vfga": 8, "raised": 4, "lowered": 4}  # that a step tries, at four draws


def attacked(run, sign, x=X, model=MODEL):
    labels = [asked(place, sign) for place in range(len(x))]
    goals = cw.LabelGoal(jnp.asarray(labels, jnp.int32), jnp.full(len(x), sign))
    return run(model, problems.keys(len(x)), jnp.asarray(x), goals)


def jitted(attack):
    return jax.jit(cw.batched(attack))


@pytest.mark.parametrize("name", MAKERS)
def test_with_the_same_draws_it_returns_what_adv_lib_returns(monkeypatch, name):
    def draws(key, count, dtype):
        return jnp.tile(jnp.asarray(DRAWS, dtype), count // len(DRAWS))

    monkeypatch.setattr(importlib.import_module("cwjax.attacks.vfga"), "_draws", draws)
    run = jitted(MAKERS[name](samples=len(DRAWS)))
    for sign in (-1.0, 1.0):
        result = attacked(run, sign)
        assert result.success.all()
        changes = (np.asarray(result.x) - X).reshape(len(X), -1)
        found = [((row != 0).sum(), row.sum(), np.abs(row).sum()) for row in changes]
        np.testing.assert_allclose(found, ADV_LIB[name, sign], atol=1e-5)
        steps = [changed for changed, *_ in ADV_LIB[name, sign]]  # one element each
        np.testing.assert_array_equal(result.forwards, [(1 + IMAGES[name]) * count for count in steps])
        np.testing.assert_array_equal(result.backwards, steps)


def test_another_key_gives_other_values():
    given = problem(jnp.asarray(X[2]), goal(asked(2, -1.0), -1.0))
    attack = fga(samples=1)
    step, init = jax.jit(attack.step), attack.init
    first, second, again = (step(MODEL, given, init(jax.random.key(seed), given)).w for seed in (0, 1, 0))
    assert (first != second).any()
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(("increasing", "way"), [(True, 1), pytest.param(False, -1, marks=pytest.mark.long)])
def test_elements_only_go_one_way(increasing, way):
    result = attacked(jitted(fga(increasing=increasing)), -1.0)
    changes = way * np.asarray(result.x - X)[np.asarray(result.success)]
    assert (changes >= 0).all()
    assert (changes > 0).any()


def test_a_step_changes_one_element_and_none_twice():
    attack = vfga(objective=label_probability(1e4))
    given = problem(jnp.asarray(X[2]), goal(asked(2, -1.0), -1.0))
    step, state, points = jax.jit(attack.step), attack.init(jax.random.key(0), given), [X[2]]
    while not state.progress.done:
        state = step(MODEL, given, state)
        points.append(np.asarray(state.w))
    changed = np.diff(points, axis=0) != 0
    assert (changed.reshape(len(changed), -1).sum(1) <= 1).all()
    assert (changed.sum(0) <= 1).all()
    assert changed.sum() > X[2].size / 2
    assert np.isinf(float(state.progress.best.distance))


def test_it_ends_after_so_many_steps():
    result = attacked(jitted(vfga(steps=1)), -1.0)
    assert not result.success.all()
    np.testing.assert_array_equal(result.forwards, 21)
    np.testing.assert_array_equal(result.backwards, 1)


def test_elements_may_be_counted_instead_of_pixels():
    image = X.reshape(len(X), 6, 1, 2)
    shaped = cw.bind(lambda params, x: MODEL.apply(params, x.reshape(len(x), *problems.SHAPE)), MODEL.params)
    for per_pixel in (True, False):
        attack = vfga(distance=cw.distances.l0(per_pixel=per_pixel))
        result = attacked(jitted(attack), -1.0, x=image, model=shaped)
        changed = np.asarray(result.x != image)
        counted = (changed.any(-1) if per_pixel else changed).reshape(len(X), -1).sum(1)
        np.testing.assert_array_equal(result.distance, counted)


def test_without_a_slope_it_fails_and_ends():
    given = cw.LabelGoal(jnp.zeros(1, jnp.int32), -jnp.ones(1))  # the constant answer
    mask = np.arange(12).reshape(3, 4) < 4
    result = jax.jit(cw.batched(vfga()))(CONSTANT, problems.keys(1), jnp.asarray(X[:1]), given, mask=mask)
    assert result.finite.all()
    assert result.finished.all()
    assert not result.success.any()
    assert int(result.backwards[0]) <= 1000


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize("make", [vfga, fga])
@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"objective": "f6"}, "objective must be of the type cwjax.Objective, got the text 'f6'"),
        ({"distance": cw.distances.l0}, "got the function l0, and not what it returns"),
    ],
)
def test_what_it_refuses(make, told, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(**told)
