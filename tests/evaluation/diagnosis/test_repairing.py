"""A result as an 8-bit image, against the runner that rounds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.evaluation.diagnosis import repairing
from tests import problems
from tests.evaluation.diagnosis.known import between

COUNT = 6
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
GOAL = problems.goals(MODEL, np.asarray(X))
KEYS = problems.keys(COUNT)
BOX = between(0.0, 1.0, X)


def test_rounding_is_to_bytes_within_the_bounds_and_in_the_norm():
    def attack(confidence):
        return problems.small("l1", steps=20, objective=cw.objectives.logit_margin(confidence))

    result = jax.jit(cw.batched(attack(0.0)))(MODEL, KEYS, X, GOAL)
    after, cost, asked = repairing.rounded(MODEL, attack, {"confidence": 0.0}, X, GOAL, BOX, (0.0, 1.0), result)
    whole = repairing.rounded_outputs(MODEL, attack, {"confidence": 0.0}, KEYS, X, GOAL, BOX, (0.0, 1.0), result)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), (after, cost), whole)
    assert asked == 2 * (after.forwards - result.forwards).max()
    hit = np.asarray(after.success)
    assert hit.any()
    moved = np.asarray(after.x)[hit] != np.asarray(X)[hit]
    steps = np.asarray(after.x)[hit][moved] * 255
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    length = np.abs(np.asarray(after.x - X)).reshape(COUNT, -1).sum(1)
    np.testing.assert_allclose(after.distance[hit], length[hit], rtol=1e-4)
    np.testing.assert_array_equal(cost.success, result.success)
    strict = repairing.rounded(MODEL, attack, {"confidence": 100.0}, X, GOAL, BOX, (0.0, 1.0), result)[0]
    assert not strict.success.any()
