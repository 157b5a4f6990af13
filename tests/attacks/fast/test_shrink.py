"""Proximal descent: Adam, the operator in its metric, and one step of both by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.answers import Seen
from cwjax.attacks.fast import shrink, slide
from cwjax.base import untouched
from cwjax.loop import Rule
from cwjax.problems import problem as problem_of
from tests.attacks.fast.made import KEYS, SIZE, X, followed, two_classes

GOAL = cw.LabelGoal(jnp.int32(0), jnp.float32(-1))


def test_a_norm_without_an_operator_is_refused():
    with pytest.raises(ValueError, match="norm must be one of l2, l1, l0, got 'linf'"):
        shrink.shrink("linf", 10)


PROBLEM = problem_of(jnp.full(SIZE, 0.5), GOAL)
SIGNS = np.where(np.arange(SIZE) % 3, 1.0, -1.0)


def moved(steps: int, *, met=False, bold=False, lost=False, known=False, loss=2.0):
    """The first step in L1, down a slope whose elements all have the same size; with what is remembered before it and
    after.
    """
    rule = shrink.shrink("l1", steps, bold=lambda problem: jnp.array(bold), lost=lost)
    x, memory = rule.init(KEYS[0], PROBLEM)
    slope, loss = jnp.asarray(0.25 * SIGNS, jnp.float32), jnp.float32(loss)
    told = {"w": x, "x": x, "delta": jnp.zeros_like(x), "distance": jnp.float32(0), "outputs": jnp.zeros(4)}
    told |= {"loss": loss, "slope": slope, "total": loss, "gradient": slope, "met": jnp.array(met)}
    best = untouched(PROBLEM).best._replace(distance=jnp.float32(1 if known else np.inf))
    seen = Seen(**told, taken=jnp.int32(0), best=best)
    return memory, *rule.move(PROBLEM, memory, seen)


@pytest.mark.parametrize(
    ("steps", "bold", "far", "c"),
    [
        (100, False, 0.2, 100.0),
        (40, False, 0.3, 100 ** (40 / 60)),
        (30, False, 0.4, 10.0),
        (100, True, 0.5, 100.0),  # which goes a whole width, and so to the bound
    ],
)
def test_the_first_step_is_adams_less_what_the_norm_takes(steps, bold, far, c):
    """Every element goes as far, and loses step/c over what Adam divides by."""
    before, x, after = moved(steps, bold=bold)
    assert float(before.c) == pytest.approx(c, rel=1e-5)
    divisor = 1 / (1 + np.exp(-0.5)) / np.sqrt(SIZE)  # the softplus' slope at the first loss, along the unit of slopes
    lost = (1.0 if bold else far) / (float(after.c) * divisor)
    np.testing.assert_allclose(x, 0.5 - SIGNS * (far - lost), atol=1e-4)


def test_after_legs_that_found_nothing_steps_are_bold_and_free_until_there_is_an_example():
    before, x, after = moved(100, lost=True)
    np.testing.assert_allclose(x, 0.5 - 0.5 * SIGNS, atol=1e-6)  # to the bound; the norm takes nothing
    assert after.c == before.c
    for mine, others in zip(moved(100, lost=True, known=True)[1:], moved(100, known=True)[1:], strict=True):
        jax.tree.map(np.testing.assert_array_equal, mine, others)


def test_the_scale_of_the_loss_does_not_matter():
    np.testing.assert_allclose(moved(100, loss=2e-3)[1], moved(100, loss=2.0)[1], rtol=1e-5)


@pytest.mark.parametrize(("met", "factor"), [(True, np.exp(-0.2)), (False, np.exp(0.2))])
def test_c_falls_where_the_goal_is_met_and_rises_where_it_is_not(met, factor):
    before, _, after = moved(30, met=met)
    assert float(after.c / before.c) == pytest.approx(factor, rel=1e-5)
    assert after.margin == 2


def reported(steps: int, rule: Rule):
    """Two classes, the attack that follows a rule, and the distances that it ends at."""
    model, margin, normal = two_classes()
    goal = cw.untargeted(model.apply(model.params, X).argmax(-1))
    result = jax.jit(cw.batched(followed(rule, "l2", steps)))(model, KEYS, X, goal, low=-1.0, high=2.0)
    return result.distance, margin / np.linalg.norm(normal)


@pytest.mark.parametrize(("steps", "over"), [(30, 0.1), (100, 0.02)])
def test_shrinking_and_then_following_the_boundary_finds_the_closed_form_minimum(steps, over):
    going = 0.6 * steps
    distances, expected = reported(
        steps, shrink.then(shrink.shrink("l2", going), slide.follow("l2", steps - going), going)
    )
    np.testing.assert_allclose(distances, expected, rtol=over)


def test_the_last_rule_goes_once_there_is_an_example_and_counts_its_own_steps():
    told = []
    going = Rule(  # it remembers the steps that it was told last
        init=lambda key, problem: (problem.start, jnp.int32(-1)),
        move=lambda problem, memory, seen: (seen.x + 0.1, seen.taken),
    )
    attack = followed(shrink.then(going, going, 2), "l2", 9)
    model = cw.bind(lambda _, x: jnp.stack([0.35 - (x - 0.5)[:, 0], 0 * x[:, 0]], -1))
    state = attack.init(KEYS[0], PROBLEM._replace(high=jnp.full(SIZE, 9.0)))
    for _ in range(7):
        state = attack.step(model, PROBLEM._replace(high=jnp.full(SIZE, 9.0)), state)
        told.append((int(state.memory.first), int(state.memory.last)))
    # The goal is met at the fifth point; from there on the last rule goes, and the first is left as it was.
    assert told == [(0, -1), (1, -1), (2, -1), (3, -1), (3, 0), (3, 1), (3, 2)]


def test_removal_undoes_the_element_that_promises_to_cost_least_and_keeps_what_is_needed():
    weights = jnp.asarray([3.0, 2.0, 1.0, 0.5])
    problem = problem_of(jnp.full(4, 0.5), GOAL)
    rule, example = shrink.remove(), jnp.array([1.0, 1.0, 1.0, 0.5])
    best = untouched(problem).best._replace(x=example, distance=jnp.float32(3))
    x, memory = rule.init(KEYS[0], problem)
    gone, x = [], example
    for taken in range(3):
        told = {"w": x, "x": x, "delta": x - 0.5, "distance": jnp.float32(3), "outputs": jnp.zeros(2)}
        told |= {"loss": jnp.float32(0), "slope": -weights, "total": jnp.float32(0), "gradient": -weights}
        x, memory = rule.move(problem, memory, Seen(**told, met=jnp.array(True), taken=jnp.int32(taken), best=best))
        gone.append(int(np.argmin(np.where(example != 0.5, x, 9))))
        assert int((x == 0.5).sum()) == 2  # the one that was never changed, and one more
    assert gone == [2, 1, 0]  # none of them led to a better example, so each is needed
    assert memory.needed.tolist() == [False, True, True, False]


def test_removal_undoes_a_whole_pixel_and_moves_all_channels_of_the_others():
    slope = -jnp.array([[3.0, 1.0], [2.0, 1.5], [9.0, 9.0]])  # of three pixels of two channels
    example = jnp.array([[1.0, 0.5], [1.0, 0.6], [0.5, 0.5]])  # what is worth least is the second pixel as a whole
    problem = problem_of(jnp.full((3, 2), 0.5), GOAL)
    rule = shrink.remove(channels=lambda shape: 1)
    best = untouched(problem).best._replace(x=example, distance=jnp.float32(2))
    x, memory = rule.init(KEYS[0], problem)
    told = {"w": x, "x": x, "delta": x - 0.5, "distance": jnp.float32(2), "outputs": jnp.zeros(2)}
    told |= {"loss": jnp.float32(0), "slope": slope, "total": jnp.float32(0), "gradient": slope}
    x, memory = rule.move(problem, memory, Seen(**told, met=jnp.array(True), taken=jnp.int32(0), best=best))
    np.testing.assert_array_equal(x, [[1.0, 1.0], [0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_array_equal(memory.tried, [[False], [True], [False]])
