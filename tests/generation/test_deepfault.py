"""DeepFault: whom it suspects, and the step that it takes."""

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.generation import deepfault, requirements
from tests.generation import made

X = made.inputs(40)
LABELS = np.where(np.arange(40) % 4, made.logits(0, X).argmax(-1), 2)  # some are declared wrong


def test_suspects_are_those_of_the_spectrum_by_hand():
    found = deepfault.suspects_of(made.units(), X, LABELS, k=2, batch=7)
    active = made.hidden(0, X) > 0
    failed = made.logits(0, X).argmax(-1) != LABELS
    own = LABELS == 2
    af, ap = (active & (failed & own)[:, None]).sum(0), (active & (~failed & own)[:, None]).sum(0)
    score = np.nan_to_num(af / np.sqrt((failed & own).sum() * (af + ap)))
    np.testing.assert_array_equal(found[2], np.argsort(-score, kind="stable")[:2])
    assert not len(found[0])  # nothing of that class is wrong


def test_the_step_is_the_papers():
    units, x = made.units(), X[:5]
    labels = made.logits(0, x).argmax(-1)
    goal = requirements.suspects(cw.untargeted(labels), units.convention, [1, 4])
    begin, advance, _ = cw.lanes(deepfault.synthesis(epsilon=0.1, step=0.5))
    model = requirements.observed(units)
    states = jax.jit(advance, static_argnums=4)(model, x, goal, begin(made.keys(5), x, goal), 1)
    slope = (made.model(0).params["first"] * (made.hidden(0, x) > 0)[:, None])[..., [1, 4]].mean(-1)
    wanted = np.clip(x + np.clip(0.5 * slope, -0.1, 0.1).reshape(x.shape), 0, 1)
    np.testing.assert_allclose(states.w, wanted, atol=1e-6)
    result = jax.jit(cw.batched(deepfault.synthesis(epsilon=0.1, step=0.5)))(model, made.keys(5), x, goal)
    np.testing.assert_array_equal(made.logits(0, wanted).argmax(-1) != labels, result.success)


def test_random_neurons_are_of_the_same_layers_and_not_suspected():
    rng = np.random.default_rng(0)
    for _ in range(10):
        drawn = deepfault.random_neurons(rng, made.units(), np.array([1, 4]), excluded=np.array([0]))
        assert len(set(drawn)) == 2
        assert not {0, 1, 4} & set(drawn)
    with pytest.raises(ValueError, match="has 2 neurons beside the suspects, and 4 are wanted"):
        deepfault.random_neurons(rng, made.units(), np.arange(4))
