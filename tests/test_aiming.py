"""The class to go for where any but one will do, on models whose nearest boundary is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax import aiming
from cwjax.base import problem as problem_of
from cwjax.base import untouched
from cwjax.fast import mirrored
from cwjax.iterated import Rule, iterated

SIZE = 8
AWAY = cw.Goal(jnp.int32(0), jnp.float32(-1))
ATTACKS = {"l2": cw.alternating_l2, "linf": cw.fast_linf}


def affine(params, x):
    weights, bias = params
    return x @ weights + bias[None]


def fan(distances: list[float], likely: list[float]) -> cw.Model:
    """Class 0's rivals: their boundaries at these L2 distances from 0, and so far above the least logit there.

    The slope of each rival is in two elements of its own, of the same size, so that in L-infinity the distances are
    those divided by the square root of two, and that to go for one is no way towards another.
    """
    gaps = max(likely) + 1 - np.array(likely)  # of logits, to class 0
    weights = np.zeros((SIZE, len(distances) + 1))
    for place, (gap, distance) in enumerate(zip(gaps, distances, strict=True)):
        weights[2 * place : 2 * place + 2, place + 1] = gap / distance / np.sqrt(2)
    bias = np.concatenate([[0.0], -gaps])
    return cw.bind(affine, (jnp.asarray(weights, jnp.float32), jnp.asarray(bias, jnp.float32)))


def found(attack: cw.Attack, model: cw.Model, goal: cw.Goal = AWAY) -> cw.Result:
    goal = jax.tree.map(lambda field: field[None], goal)
    return jax.jit(cw.batched(attack))(model, jax.random.split(jax.random.key(0), 1), jnp.zeros((1, SIZE)), goal)


@pytest.mark.parametrize("norm", ATTACKS)
@pytest.mark.parametrize("nearest", range(4))
def test_the_nearest_class_is_found_however_likely_it_is(norm, nearest):
    distances = [1.0, 1.1, 1.2, 1.3]
    distances[nearest] = 0.5
    model = fan(distances, likely=[4.0, 3.0, 2.0, 1.0])
    result = found(ATTACKS[norm](steps=100, lower=-9.0, upper=9.0), model)
    np.testing.assert_allclose(result.distance, 0.5 / (np.sqrt(2) if norm == "linf" else 1), rtol=2e-2)
    assert model.apply(model.params, result.x).argmax() == 1 + nearest
    np.testing.assert_array_equal(result.forwards, 100)
    np.testing.assert_array_equal(result.backwards, 100)


def test_without_a_look_at_classes_it_is_not():
    model = fan([1.0, 1.1, 1.2, 0.5], likely=[4.0, 3.0, 2.0, 1.0])
    for attack in (cw.fast_l2(steps=100, box=cw.projected(-9, 9)), cw.alternating_l2(steps=49, lower=-9, upper=9)):
        assert found(attack, model).distance > 0.7


def walked(goal: cw.Goal, likely: list[float], distances: list[float], count: int, steps: int = 60, start: float = 0.0):
    """The aims of the first so many points, whether the rule moved on from each, and the steps that it knew of."""
    told = []

    def move(problem, memory, seen):
        told.append(int(seen.taken))
        return seen.x + 1e-3, memory

    rule = aiming.aimed(Rule(init=lambda key, problem: (problem.start, ()), move=move), "l2", steps)
    parts = {"objective": cw.losses.negative_margin(), "distance": cw.distances.l2(), "lower": -9.0, "upper": 9.0}
    attack, model = iterated(rule, **parts, steps=steps), fan(distances, likely)
    problem = problem_of(jnp.zeros(SIZE), goal)._replace(start=jnp.full(SIZE, start))
    state, aims, moved = attack.init(jax.random.key(0), problem), [], []
    for _ in range(count):
        aims.append(int(state.memory.aim))
        state = attack.step(lambda x: model.apply(model.params, x[None])[0], problem, state)
        moved.append(bool((state.x != start).any()))
    return aims, moved, told


def test_the_likeliest_classes_are_looked_at_in_their_order_and_nothing_moves():
    aims, moved, told = walked(AWAY, likely=[2.0, 4.0, 1.0, 3.0], distances=[1.0, 1.1, 0.5, 1.2], count=7)
    assert aims == [-1, 4, 1, 3, -1, 3, 3]  # by the index of their logit; the fifth of four is none
    assert moved == [False] * 4 + [False, True, True]
    assert told == [0] * 6 + [1]


@pytest.mark.parametrize(("share", "aim"), [(0.9, 3), (0.97, -1)])
def test_a_class_has_to_be_clearly_nearer_than_the_likeliest(share, aim):
    assert walked(AWAY, likely=[4.0, 3.0, 2.0, 1.0], distances=[1.0, 2.0, share, 3.0], count=6)[0][-1] == aim


@pytest.mark.parametrize(
    "spared", [{"goal": cw.Goal(jnp.int32(2), jnp.float32(1))}, {"steps": 49}, {"start": 0.1}], ids=str
)
def test_no_step_goes_to_a_choice_where_there_is_none_to_make(spared):
    asked = {"goal": AWAY, "likely": [4.0, 3.0, 2.0, 1.0], "distances": [1.0, 1.1, 1.2, 0.5], "count": 3} | spared
    aims, moved, told = walked(**asked)
    assert (aims, moved, told) == ([-1] * 3, [True] * 3, [0, 1, 2])


def test_a_search_that_waits_is_told_of_what_comes_then():
    problem = problem_of(jnp.zeros(SIZE), AWAY)
    search = aiming.waiting(mirrored(9), lambda problem: jnp.int32(2))
    knob = search.init(problem)
    rounds = []
    for _ in range(4):
        knob = search.tell(problem, knob, untouched(problem))
        rounds.append(int(knob.knob.rounds))
    assert rounds == [0, 0, 1, 2]
