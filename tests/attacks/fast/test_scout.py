"""The class to go for where any but one will do, on models whose nearest boundary is known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.answers import Seen
from cwjax.attacks.fast import scout
from cwjax.loop import Rule
from cwjax.problems import problem as problem_of
from tests.attacks.fast.made import KEYS, MARGIN, X, bent, followed, leg_of, program

pytestmark = pytest.mark.xdist_group("the nearest class")  # they share programs

SIZE = 8
AWAY = cw.LabelGoal(jnp.int32(0), jnp.float32(-1))


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


def found(norm: str, model: cw.Model, goal: cw.LabelGoal = AWAY, steps: int = 100) -> cw.Result:
    goal = jax.tree.map(lambda field: field[None], goal)
    numbers = {"steps": steps, "low": -9.0, "high": 9.0}
    return program(norm)(numbers, model, jax.random.split(jax.random.key(0), 1), jnp.zeros((1, SIZE)), goal)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("nearest", [0, 1, 2, 3])
def test_the_nearest_class_is_found_however_likely_it_is(norm, nearest):
    distances = [1.0, 1.1, 1.2, 1.3]
    distances[nearest] = 0.5
    model = fan(distances, likely=[4.0, 3.0, 2.0, 1.0])
    result = found(norm, model)
    np.testing.assert_allclose(result.distance, 0.5 / (np.sqrt(2) if norm == "linf" else 1), rtol=2e-2)
    assert model.apply(model.params, result.x).argmax() == 1 + nearest
    np.testing.assert_array_equal(result.forwards, 100)
    np.testing.assert_array_equal(result.backwards, 100)


def test_without_a_look_at_classes_it_is_not():
    model = fan([1.0, 1.1, 1.2, 0.5], likely=[4.0, 3.0, 2.0, 1.0])
    for norm in ("l2", "linf"):
        assert found(norm, model, steps=49).distance > 0.7 / (np.sqrt(2) if norm == "linf" else 1)


def hidden(params, x):
    """Class 0's rivals: the likeliest at 1 in L-infinity, and one whose slope is small until half of the way to it."""
    first, second = x[:, :4].mean(1), x[:, 4:].mean(1)
    return jnp.stack([0 * first, first - 1, 0.1 * second - 3 + 60 * jnp.maximum(second - 0.5, 0)], -1)


def test_a_later_leg_finds_the_class_that_is_nearest_and_does_not_seem_so():
    goal, model = cw.untargeted([0]), cw.bind(hidden)
    for steps, nearest in (100, 1.0), (150, 0.55):
        numbers = {"steps": steps, "low": -9.0, "high": 9.0}
        result = program("linf")(numbers, model, jax.random.split(jax.random.key(0), 1), jnp.zeros((1, SIZE)), goal)
        np.testing.assert_allclose(result.distance, nearest, rtol=2e-2)


class Walk(NamedTuple):
    aims: list[int]  # of the loss at each point
    points: np.ndarray
    told: list[Seen]  # what the rule is told of each


def walked(
    model: cw.Model, goal: cw.LabelGoal, count: int, steps: int = 60, start: float = 0.0, rival: int = -1
) -> Walk:
    """The first so many points of a rule that goes a little farther at every step."""
    told = []

    def move(problem, memory, seen):
        told.append(seen)
        return seen.x + 1e-3, memory

    onward = Rule(init=lambda key, problem: (problem.start, ()), move=move)
    attack = followed(scout.scouted("l2", leg_of(steps, rival=rival), MARGIN, onward), "l2", steps)
    wide = {"low": jnp.full(SIZE, -9.0), "high": jnp.full(SIZE, 9.0)}
    problem = problem_of(jnp.zeros(SIZE), goal)._replace(start=jnp.full(SIZE, start), **wide)
    state, aims, points = attack.init(jax.random.key(0), problem), [], []
    for _ in range(count):
        aims.append(int(state.memory.known.aim))
        points.append(np.asarray(state.w))
        state = attack.step(lambda x: model.apply(model.params, x[None])[0], problem, state)
    return Walk(aims, np.array(points), told)


def test_the_likeliest_classes_are_looked_at_in_their_order_and_two_of_them_from_a_probe():
    distances = [1.0, 1.1, 0.5, 1.2]
    model = fan(distances, likely=[2.0, 4.0, 1.0, 3.0])
    walk = walked(model, AWAY, count=8)
    assert walk.aims == [-1, -1, 4, 1, 3, 3, 3, 3]  # by the index of their logit
    probes = {1: 2, 5: 3}  # at this point, of that class
    for place, point in enumerate(walk.points[:6]):
        rival = probes.get(place)
        expected = np.zeros(SIZE)
        if rival:
            expected[2 * rival - 2 : 2 * rival] = 1.5 * distances[rival - 1] / np.sqrt(2)
        np.testing.assert_allclose(point, expected, atol=1e-3)
    np.testing.assert_allclose(walk.points[6:], np.full((2, SIZE), [[1e-3], [2e-3]]), rtol=1e-4)

    # The round begins with what was seen of the class at the start.
    first, second = walk.told[5], walk.told[6]
    assert (int(first.taken), int(second.taken)) == (0, 1)
    np.testing.assert_array_equal(first.x, 0)
    np.testing.assert_allclose(float(first.loss) / np.linalg.norm(first.slope), 0.5, rtol=1e-5)
    assert np.isnan(first.outputs).all()


def test_a_leg_for_a_class_does_not_look_around():
    walk = walked(fan([1.0, 1.1, 1.2, 0.5], likely=[4.0, 3.0, 2.0, 1.0]), AWAY, count=4, rival=2)
    assert walk.aims == [-1] * 4
    assert [int(seen.taken) for seen in walk.told] == [0, 1, 2, 3]


@pytest.mark.parametrize(("share", "aim"), [(0.85, 3), (0.95, -1)])
def test_a_class_has_to_be_clearly_nearer_than_the_likeliest(share, aim):
    model = fan([1.0, 2.0, share, 3.0], likely=[4.0, 3.0, 2.0, 1.0])
    assert walked(model, AWAY, count=7).aims[-2:] == [3, aim]  # at its probe, and then


def test_there_is_one_probe_where_the_likeliest_is_nearest():
    walk = walked(fan([0.5, 1.1, 1.2, 1.0], likely=[4.0, 3.0, 2.0, 1.0]), AWAY, count=6)
    assert walk.aims == [-1, -1, 2, 3, 4, -1]
    np.testing.assert_allclose(walk.points[5], 1e-3, rtol=1e-4)


def test_what_the_slopes_promise_is_checked_at_the_probes():
    """The nearest by its slope is not, for its logit rises no more beyond the boundary that was promised."""
    weights, bias = fan([1.0, 2.0, 0.5, 3.0], likely=[4.0, 3.0, 2.0, 1.0]).params
    held = cw.bind(
        lambda params, x: affine(params, x).at[:, 3].min(params[1][3] + 0.45 * jnp.linalg.norm(params[0][:, 3])),
        (weights, bias),
    )
    assert walked(held, AWAY, count=7).aims[-2:] == [3, -1]


@pytest.mark.long
def test_a_network_whose_slopes_do_not_keep_their_promise_is_given_no_further_look():
    def bent(params, x):
        added = jnp.abs(x).sum(-1)
        return jnp.stack([1 - jnp.minimum(added, 0.1), *[0 * added - k for k in range(3)]], -1)

    walk = walked(cw.bind(bent, ()), AWAY, count=4, start=0.0)
    assert walk.aims == [-1] * 4
    np.testing.assert_allclose(walk.points[2:], np.full((2, SIZE), [[1e-3], [2e-3]]), rtol=1e-4)


@pytest.mark.parametrize(
    "spared", [{"goal": cw.LabelGoal(jnp.int32(2), jnp.float32(1))}, {"steps": 49}, {"start": 0.1}], ids=str
)
def test_no_step_goes_to_a_choice_where_there_is_none_to_make(spared):
    model = fan([1.0, 1.1, 1.2, 0.5], likely=[4.0, 3.0, 2.0, 1.0])
    walk = walked(model, **({"goal": AWAY, "count": 3} | spared))
    assert walk.aims == [-1] * 3
    assert [int(seen.taken) for seen in walk.told] == [0, 1, 2]
    assert (np.diff(walk.points, axis=0)[:, 0] > 5e-4).all()  # an element that shows a slope


@pytest.mark.parametrize(("bend", "doubted"), [(0.0, False), (0.9, True)])
def test_another_rule_goes_where_a_probe_finds_most_of_the_loss_left_and_in_a_leg_of_its_own(bend, doubted):
    model, problem = cw.bind(bent, jnp.float32(1 - bend)), problem_of(X[0], AWAY)
    problem = problem._replace(low=jnp.full(len(X[0]), -9.0), high=jnp.full(len(X[0]), 9.0))

    def going(far):
        return Rule(
            init=lambda key, problem: (problem.start, ()), move=lambda problem, memory, seen: (seen.x + far, ())
        )

    def gone(**told):
        rule = scout.scouted("l2", leg_of(40), MARGIN, going(1e-3), going(2e-3), **told)
        attack = followed(rule, "l2", 40)
        state, points = attack.init(KEYS[0], problem), []
        for _ in range(4):
            points.append(float((state.w - X[0])[0]))
            state = attack.step(model, problem, state)
        return points

    probed = gone()
    assert probed[1] * len(X[0]) == pytest.approx(1.5, rel=1e-5)  # the slope promises the boundary at 1
    np.testing.assert_allclose(probed[2:], [2e-3, 4e-3] if doubted else [1e-3, 2e-3], rtol=1e-2)
    np.testing.assert_allclose(gone(instead=True), [0, 2e-3, 4e-3, 6e-3], rtol=1e-2)  # and no probe
