"""Rounds that keep to the boundary, and deep ones, by turns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cwjax as cw
from cwjax.attacks.fast import alternating, slide
from cwjax.attacks.fast.legs import equal, in_legs, legs_of
from cwjax.attacks.fast.scout import scout
from cwjax.loop import iterated, steered
from cwjax.problems import problem as problem_of
from tests import golden_net, problems
from tests.attacks.fast.made import CLASSES, KEYS, SIZE, X, affine, affine_model, attacked, bent, two_classes

pytestmark = pytest.mark.xdist_group("the fast family")  # they share programs


@pytest.mark.parametrize(
    ("steps", "towards", "away"),
    [
        (1, [1], [1]),
        (150, [150], [150]),
        (200, [100, 100], [100, 100]),
        (300, [100, 200], [150, 150]),
        (500, [100, 300, 100], [166, 166, 166]),
        (1000, [125, 375, 125, 375], [250, 250, 250, 250]),
    ],
)
def test_deep_rounds_towards_a_label_are_longer_once_the_others_have_enough(steps, towards, away):
    legs = legs_of(steps)

    def lengths(reaching):
        return [int(alternating._length(k, legs, steps, jnp.array(reaching))) for k in range(int(legs))]

    assert lengths(True) == towards
    assert lengths(False) == away
    # A run spends all of its steps: the last leg takes what is left.
    model = affine_model()
    answers = model.apply(model.params, X).argmax(-1)
    for goal, expected in ((cw.targeted((answers + 1) % CLASSES), towards), (cw.untargeted(answers), away)):
        result = attacked(cw.alternating_l2, model, goal, steps=steps)
        np.testing.assert_array_equal(result.backwards, steps)
        assert steps - len(expected) < sum(expected) <= steps


@pytest.mark.parametrize(("steps", "over"), [(30, 0.1), (100, 0.02)])
@pytest.mark.parametrize("rate", [1e-3, 1.0])
def test_a_deep_round_alone_finds_the_closed_form_minimum_of_two_classes(rate, steps, over):
    model, margin, normal = two_classes()
    scaled = cw.bind(affine, jax.tree.map(lambda leaf: rate * leaf, model.params))
    goal = cw.untargeted(model.apply(model.params, X).argmax(-1))
    distance = attacked(deep_alone, scaled, goal, steps=steps, low=-1.0, high=2.0).distance
    np.testing.assert_allclose(distance, margin / np.linalg.norm(normal), rtol=over)


def deep_alone(steps: int) -> cw.Attack:
    parts = {"objective": cw.losses.negative_margin(), "distance": cw.distances.l2()}
    rule = alternating.deep(optax.adam(1.0), steps)
    return iterated(rule, **parts, steps=steps)


@pytest.mark.long
def test_towards_a_label_the_first_round_is_within_a_radius():
    model = cw.bind(problems.mlp, problems.mlp_params())
    x = jnp.asarray(problems.inputs(len(X)))
    answers = model.apply(model.params, x).argmax(-1)

    def distances(attack, goal):
        return jax.jit(cw.batched(attack))(model, KEYS, x, goal).distance

    parts = {"objective": cw.losses.negative_margin(), "distance": cw.distances.l2()}
    within = iterated(steered(slide.slid("l2", 40), cw.attacks.fast.radius(norm="l2", steps=40)), **parts, steps=40)
    ours, radius = cw.alternating_l2(steps=40), in_legs(lambda leg: within, equal(1), steps=40)
    towards, away = cw.targeted((answers + 1) % problems.CLASSES), cw.untargeted(answers)
    np.testing.assert_allclose(distances(ours, towards), distances(radius, towards), rtol=1e-3)
    assert not np.allclose(distances(ours, away), distances(radius, away), rtol=1e-3)  # a probe first


@pytest.mark.parametrize(("bend", "doubted"), [(0.0, False), (0.9, True)])
def test_a_round_is_deep_where_a_probe_finds_most_of_the_loss_left(bend, doubted):
    model, adam = cw.bind(bent, jnp.float32(1 - bend)), optax.adam(1.0)
    within, deep = slide.slid("l2", 40), alternating.deep(adam, 40)
    problem = problem_of(X[0], cw.LabelGoal(jnp.int32(0), jnp.float32(-1)))
    problem = problem._replace(scale=jnp.float32(0.3), low=jnp.full(SIZE, -9.0), high=jnp.full(SIZE, 9.0))

    def walked(rule, count):
        parts = {"objective": cw.losses.negative_margin(), "distance": cw.distances.l2()}
        attack = iterated(rule, **parts, steps=40)
        state = attack.init(KEYS[0], problem)
        points = [state.w]
        for _ in range(count):
            state = attack.step(model, problem, state)
            points.append(state.w)
        return points

    scouts = scout("l2", 40, always=True)
    either = alternating._either(jnp.array(False), within, deep, scouts, cw.losses.negative_margin())
    points = walked(either, 5)
    np.testing.assert_allclose((points[1] - X[0]).sum(), 1.5, rtol=1e-5)  # the slope promises the boundary at 1
    # What follows is what a round of its kind does.
    ways = {True: walked(deep, 4), False: walked(within, 4)}
    assert not np.allclose(ways[True][4], ways[False][4], atol=1e-2)
    np.testing.assert_allclose(points[2:], ways[doubted][1:], atol=1e-6)


@pytest.mark.long
@pytest.mark.optimized
def test_the_rounds_that_follow_come_nearer_and_never_make_it_worse():
    model, arrays = golden_net.load()
    x = jnp.asarray(arrays["images"][:10], jnp.float32) / 255
    goal = cw.targeted(arrays["targets"][:10])
    one, two = (
        jax.jit(cw.batched(cw.alternating_l2(steps=steps)))(model, problems.keys(10), x, goal) for steps in (100, 200)
    )
    assert one.success.all()
    assert (two.distance <= one.distance * (1 + 1e-4)).all()
    assert (two.distance < one.distance * (1 - 1e-3)).any()
