"""Where elements have costs, attacks in L0 and L1 keep those small: on an affine model the best element is the one of
the largest slope over its cost.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw

SLOPES = np.array([3.0, 2.0, 1.0, 0.5], np.float32)
COST = np.array([9.0, 4.0, 1.0, 1.0])
MODEL = cw.bind(lambda params, x: jnp.stack([x @ params, jnp.full(len(x), 0.8)], 1), SLOPES)
X = np.zeros((1, 4), np.float32)
GOAL = cw.targeted(np.zeros(1, np.int32))
DISTANCES = {"l1": cw.distances.l1(cost=COST), "l0": cw.distances.l0(cost=COST, per_pixel=False)}


@pytest.mark.parametrize(("norm", "least"), [("l1", 0.8), pytest.param("l0", 1.0, marks=pytest.mark.long)])
def test_the_element_of_the_best_slope_for_its_cost_moves(norm, least):
    attack = cw.fast(norm, steps=60, distance=DISTANCES[norm])
    result = jax.jit(cw.batched(attack))(MODEL, jax.random.split(jax.random.key(0), 1), X, GOAL)
    assert result.x[0].argmax() == 2
    assert least <= result.distance[0] <= 1.05 * least
