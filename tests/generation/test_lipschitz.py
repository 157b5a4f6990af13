"""Lipschitz requirements: on an affine model the largest ratio is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.generation import lipschitz
from tests.generation import two_layers

ATTACK = cw.attacks.pgd(
    epsilon=1.0,
    norm="l2",
    relative_step=0.01,
    steps=40,
    random_start=False,
    objective=cw.objectives.tolerance(hinged=False),
)
RUN = jax.jit(cw.batched(ATTACK))


def test_the_steepest_pair_of_an_affine_model_lies_along_its_weights():
    weights = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    model = cw.bind(lambda params, x: x @ params, weights)
    x = np.full((2, 6), 0.5, np.float32)
    class_of = (x @ weights).argmax(-1)
    largest = np.linalg.norm(weights[:, class_of], axis=0)
    constants = np.linspace(0.05, 2.0, 40) * largest.max()
    suite = lipschitz.lipschitz_cover(RUN, model, x, constants.tolist(), radius=0.1)
    assert (suite.ratio <= largest * (1 + 1e-4)).all()
    assert (suite.ratio >= 0.9 * largest).all()
    assert (np.abs(suite.pairs - x[:, None]) <= 0.1 + 1e-6).all()
    np.testing.assert_array_equal(suite.met, suite.ratio[:, None] > suite.constants)
    assert 0 < suite.met.mean() < 1


@pytest.mark.long
def test_a_search_beats_as_many_random_pairs_and_its_pairs_are_what_it_says():
    model, x = two_layers.MODEL, two_layers.X[:3]
    suite = lipschitz.lipschitz_cover(RUN, model, x, np.geomspace(0.1, 50, 30).tolist(), pause=2)
    apart = np.diff(np.asarray(model.of_batch(jnp.asarray(suite.pairs).reshape(-1, 9))).reshape(3, 2, -1), axis=1)[:, 0]
    chosen = np.abs(apart[np.arange(3), np.asarray(model.of_batch(jnp.asarray(x))).argmax(-1)])
    far = np.linalg.norm(suite.pairs[:, 0] - suite.pairs[:, 1], axis=1)
    np.testing.assert_allclose(suite.ratio, chosen / far, rtol=1e-4)
    for ratio, each in zip(suite.ratio, x, strict=True):
        assert ratio > lipschitz.random_steepness(model, each, pairs=500)


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    with pytest.raises(ValueError, match="at least one number more than 0"):
        lipschitz.lipschitz_cover(RUN, two_layers.MODEL, two_layers.X, [])
    with pytest.raises(ValueError, match="radius must be more than 0"):
        lipschitz.lipschitz_cover(RUN, two_layers.MODEL, two_layers.X, [1.0], radius=0)
