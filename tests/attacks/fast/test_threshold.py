"""A descent that thresholds small changes away."""

import jax
import numpy as np

import cwjax as cw
from cwjax.attacks.fast.threshold import thresholded_descent
from cwjax.loop import iterated
from tests.attacks.fast.made import KEYS, X, affine, affine_model


def test_a_thresholded_descent_is_the_same_in_another_box():
    model = affine_model()
    goal = cw.untargeted(model.apply(model.params, X).argmax(-1))
    weights, bias = model.params

    def result(span, model):
        rule = thresholded_descent(60)
        parts = {"objective": cw.objectives.logit_margin(), "distance": cw.distances.l0(per_pixel=False)}
        attack = iterated(rule, **parts, steps=60)
        return jax.jit(cw.batched(attack))(model, KEYS, span * X, goal, high=span)

    share, wide = result(1.0, model), result(256.0, cw.bind(affine, (weights / 256, bias)))
    np.testing.assert_array_equal(wide.distance, share.distance)
    np.testing.assert_allclose(wide.x / 256, share.x, atol=1e-5)
