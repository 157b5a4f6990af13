"""The attacks of the paper are put together from their parts as their docstrings say."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cwjax as cw
from cwjax.descent import descend
from cwjax.problems import problem
from cwjax.search.rounds import searched, tracked
from tests import problems

MODEL = cw.bind(problems.mlp, problems.mlp_params())
GOAL = cw.LabelGoal(label=jnp.int32(0), sign=jnp.float32(-1))
PARTS = {
    "objective": cw.objectives.smooth_logit_margin(0.5),
    "box": cw.boxes.projected(),
    "optimizer": optax.sgd(0.1),
    "abort": cw.aborts.plateau(),
}


def program(attack: cw.Attack) -> str:
    """All that a step of an attack computes, every number included."""
    given = problem(jnp.asarray(problems.inputs(1)[0]), GOAL)

    def step(key):
        return attack.step(MODEL, given, attack.init(key, given))

    traced = jax.make_jaxpr(step)(jax.random.key(0))
    return re.sub("0x[0-9a-f]+", "", f"{traced} {traced.consts}")  # where in memory a function lies


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_one_descent_runs_a_round_and_a_search_asks_for_its_weight(norm):
    search = cw.search.binary_search(4, initial_c=0.3)
    attack = getattr(cw, norm)(**PARTS, search=search, steps=7)
    descent = descend(**PARTS, distance=cw.distances.DISTANCES[norm], steps=7)
    assert program(attack) == program(searched(descent, search))
    assert attack.terms.distance.norm == norm


@pytest.mark.parametrize("norm", ["linf", "l0"])
def test_a_descent_goes_on_until_it_succeeds_or_c_is_too_large(norm):
    search = {"linf": cw.search.shrink_tau, "l0": cw.search.shrink_mask}[norm]()
    raise_c = cw.aborts.plateau(checks=3)
    attack = getattr(cw, norm)(**PARTS, search=search, steps=7, largest_c=5.0, raise_c=raise_c)
    distance = cw.distances.DISTANCES[norm]
    descent = descend(**PARTS, distance=distance, steps=jnp.iinfo(jnp.int32).max)
    grown = cw.search.grow_c(every=7, largest=5.0, abort=raise_c)
    assert program(attack) == program(searched(tracked(descent, grown), search))
    assert attack.terms.distance.norm == norm


def test_l0_may_count_every_channel():
    delta = jnp.zeros((5, 5, 3)).at[0, 0].set(1.0)
    elements = cw.l0(distance=cw.distances.l0(per_pixel=False), search=cw.search.shrink_mask(per_pixel=False))
    counted = [int(attack.terms.distance.measure(delta)) for attack in (cw.l0(), elements)]
    assert counted == [1, 3]


def weights(attack: cw.Attack, weight, at_most: int = 20) -> tuple[list[float], cw.base.Progress]:
    """The weight c of each step against a model that nothing fools, and how it ends."""
    model = cw.bind(lambda params, x: jnp.arange(problems.CLASSES, 0, -1.0)[None] + 0 * x.sum())
    given = problem(jnp.asarray(problems.inputs(1)[0]), GOAL)
    step = jax.jit(lambda state: attack.step(model, given, state))
    state, told = attack.init(jax.random.key(0), given), []
    while not state.progress.done:
        told.append(float(weight(state)))
        state = step(state)
        assert len(told) <= at_most
    return told, state.progress


def test_c_grows_tenfold_from_a_thousandth_until_there_is_an_example():
    told, ended = weights(cw.l2(steps=2, abort=cw.aborts.never()), lambda state: state.knob.value)
    np.testing.assert_allclose(told, np.repeat(10.0 ** np.arange(-3, 6), 2), rtol=1e-5)
    assert ended.forwards == ended.backwards == 18
    assert np.isinf(ended.best.distance)


def test_c_doubles_within_a_round_while_it_is_below_the_largest():
    told, ended = weights(cw.linf(steps=3, largest_c=7e-5), lambda state: state.inner.knob.c)
    np.testing.assert_allclose(told, 1e-5 * np.repeat([1.0, 2, 4], 3), rtol=1e-5)
    assert ended.forwards == 9
    assert np.isinf(ended.best.distance)
