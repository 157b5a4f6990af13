"""What an attack asks of a model about one image, and what it makes of the answer, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.answers import Answer, Evaluated, advanced, ask, evaluated, moving
from cwjax.base import LabelGoal, Objective, untouched
from cwjax.parts import distances
from cwjax.problems import problem
from tests.test_descent import LOGITS, WEIGHTS, X, lead, linear

GOAL = LabelGoal(label=jnp.int32(1), sign=jnp.float32(1.0))
IMAGE = jnp.array([0.5, 1.0, 0.25], jnp.float32)
LEAD = lead()
SEVERAL = Objective(loss=lambda logits, goal: logits[:2] - logits[2], met=LEAD.met)


def answer(objective: Objective = LEAD, aim: LabelGoal = GOAL, **changes) -> Answer:
    return ask(linear, problem(X, GOAL)._replace(**changes), IMAGE, objective=objective, aim=aim)


def made_of(given: Answer, *, slope=None, moved=(True, True, True), live=(True, True, True)) -> Evaluated:
    """What is made of an answer whose slope, and whose elements that have shown one, are these."""
    given = given._replace(live=jnp.array(live))
    parts = {"objective": LEAD, "distance": distances.l2()}
    gradient = given.slope if slope is None else slope
    at = {"loss": given.loss, "gradient": gradient, "away": jnp.array(moved)}
    return evaluated(problem(X, GOAL), IMAGE, given, **at, **parts)


def test_one_loss_has_one_slope_and_several_have_one_each():
    one, several = answer(), answer(SEVERAL)
    np.testing.assert_allclose(one.loss, LOGITS[0] - LOGITS[1], rtol=1e-6)
    np.testing.assert_allclose(one.slope, WEIGHTS[:, 0] - WEIGHTS[:, 1], rtol=1e-6)
    np.testing.assert_allclose(several.loss, LOGITS[:2] - LOGITS[2], rtol=1e-6)
    np.testing.assert_allclose(several.slope, (WEIGHTS[:, :2] - WEIGHTS[:, 2:]).T, rtol=1e-6)
    for found in (one, several):
        np.testing.assert_allclose(found.outputs, LOGITS, rtol=1e-6)


def test_the_loss_is_that_of_the_aim():
    aimed = answer(aim=LabelGoal(label=jnp.int32(2), sign=jnp.float32(1.0)))
    np.testing.assert_allclose(aimed.slope, WEIGHTS[:, 0] - WEIGHTS[:, 2], rtol=1e-6)


def test_an_element_that_may_not_move_shows_no_slope():
    found = answer(mask=jnp.array([True, False, True]))
    np.testing.assert_array_equal(found.slope != 0, [True, False, True])
    np.testing.assert_array_equal(found.live, [True, False, True])
    once = answer(mask=jnp.array([True, False, True]), live=jnp.array([False, True, False]))
    np.testing.assert_array_equal(once.live, [True, True, True])  # what was shown before is not forgotten


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_slope_that_is_no_number_is_no_example_at_any_distance(bad):
    found = made_of(answer(), slope=jnp.array([0.0, bad, 0.0]))
    assert found.evaluation.met
    assert not found.finite
    assert np.isinf(found.candidate.distance)


@pytest.mark.parametrize(
    ("moved", "live", "met"),
    [
        ([False, True, False], [True, False, True], False),  # it is not where the clean input is, and shows no slope
        ([True, False, True], [True, False, True], True),
        ([True, True, True], [False, False, False], True),  # none has shown a slope: nothing tells them apart
    ],
)
def test_where_an_element_without_a_slope_has_moved_there_is_no_example(moved, live, met):
    found = made_of(answer(), moved=moved, live=live)
    assert found.evaluation.met == met
    assert np.isfinite(found.candidate.distance) == met
    assert found.finite
    np.testing.assert_allclose(found.evaluation.distance, np.linalg.norm(IMAGE - X), rtol=1e-6)


def test_all_move_until_some_have_shown_a_slope():
    given = problem(X, GOAL)
    assert moving(given).all()
    np.testing.assert_array_equal(moving(given._replace(live=jnp.array([True, False, True]))), [True, False, True])


def test_the_nearest_is_kept_and_an_example_at_distance_0_is_the_last():
    before, found = untouched(problem(X, GOAL)), made_of(answer())
    first = advanced(before, found, over=jnp.array(False))
    assert (first.forwards, first.backwards, first.done) == (1, 1, False)
    farther = found._replace(candidate=found.candidate._replace(distance=found.candidate.distance + 1))
    assert advanced(first, farther, over=jnp.array(False)).best.distance == first.best.distance
    nothing = found._replace(candidate=found.candidate._replace(distance=jnp.float32(0)))
    assert advanced(first, nothing, over=jnp.array(False)).done
    assert advanced(first, found._replace(finite=jnp.array(False)), over=jnp.array(False)).done
