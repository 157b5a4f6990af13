"""The fast family beyond the laws: its price, what it does not depend on, and how near it comes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from tests import golden_net, problems
from tests.attacks.fast.made import CLASSES, FAST, X, affine_model, attacked, program, two_classes

pytestmark = pytest.mark.xdist_group("the fast family")  # they share programs


@pytest.mark.parametrize("norm", FAST)
def test_a_hundred_gradients_find_the_closed_form_minimum_of_two_classes(norm):
    model, margin, normal = two_classes()
    duals = {"l2": np.linalg.norm(normal), "linf": np.abs(normal).sum(), "l1": np.abs(normal).max()}
    goal = cw.untargeted(model.apply(model.params, X).argmax(-1))
    result = attacked(FAST[norm], model, goal, steps=100, low=-9.0, high=9.0)
    # In L1 the smallest change is that of a single element, and the last of the others fade slowly.
    np.testing.assert_allclose(result.distance, margin / duals[norm.split(",")[0]], rtol=4e-2 if norm == "l1" else 1e-2)


@pytest.mark.parametrize("norm", ["l2", "l2, alternating"])
@pytest.mark.parametrize("steps", [1, 7, 100, 170, 300, 1000])
def test_no_more_gradients_are_spent_than_were_asked_for(steps, norm):
    result = attacked(FAST[norm], affine_model(), steps=steps)
    assert (result.forwards <= steps).all()
    assert (result.forwards > 0.99 * steps - 1).all()
    np.testing.assert_array_equal(result.forwards, result.backwards)


@pytest.mark.parametrize("norm", FAST)
@pytest.mark.parametrize("scale", [1e-2, 100.0])
def test_the_scale_of_the_logits_does_not_matter(norm, scale):
    plain, scaled = (attacked(FAST[norm], affine_model(factor), steps=40) for factor in (1.0, scale))
    np.testing.assert_array_equal(plain.success, scaled.success)
    hit = np.asarray(plain.success)
    assert hit.any()
    np.testing.assert_allclose(scaled.distance[hit], plain.distance[hit], rtol=2e-2)


@pytest.mark.parametrize("norm", FAST)
def test_the_number_of_steps_may_be_traced(norm):
    model = affine_model()
    for steps in (20, 300):
        result = attacked(FAST[norm], model, steps=steps)
        assert (result.forwards <= steps).all()
        assert result.finished.all()
    assert program(FAST[norm])._cache_size() <= 4  # of steps alone, and with bounds; of two classes, and of four


def test_an_input_that_meets_the_goal_already_is_returned_after_one_look_at_distance_zero():
    model = affine_model()
    reached = cw.targeted(model.apply(model.params, X).argmax(-1))
    result = attacked(FAST["l2"], model, reached, steps=300)
    np.testing.assert_array_equal(result.x, X)
    np.testing.assert_array_equal(result.distance, 0)
    assert (result.forwards == 1).all()


@pytest.mark.long
def test_a_model_without_slope_is_a_failure_and_no_nan():
    flat = cw.bind(lambda params, x: jnp.zeros((x.shape[0], CLASSES)) + jnp.arange(CLASSES)[None])
    goal = cw.untargeted(np.full(len(X), CLASSES - 1))
    for make in (*FAST.values(), cw.fast_l0):
        result = attacked(make, flat, goal, steps=20)
        assert not result.success.any()
        assert result.finite.all()
        np.testing.assert_array_equal(result.x, X)


@pytest.mark.long
@pytest.mark.optimized
def test_130_gradients_reach_the_original_codes_distances():
    # The released code took 6,600 gradients an image for a mean of 2.6253 on these.
    model, arrays = golden_net.load()
    x = jnp.asarray(arrays["images"][:20], jnp.float32) / 255
    goal = cw.targeted(arrays["targets"][:20])
    result = jax.jit(cw.batched(cw.fast_l2(steps=130)))(model, problems.keys(20), x, goal)
    assert result.success.all()
    assert (result.forwards <= 130).all()
    assert result.distance.mean() < 2.6253
