"""Layout, normalisation, dtype and outputs of another framework's model are arguments, or found."""

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.adapters import NotConvertible, adapted, inputs_of
from cwjax.adapters.inputs import logits_of

WEIGHTS = np.random.default_rng(1).normal(size=(3 * 5 * 6, 7)).astype(np.float32)
MEAN, STD = np.array([0.1, 0.2, 0.3]), np.array([0.5, 1.0, 2.0])


def module(weights, x):
    return x.reshape(len(x), -1) @ weights


@pytest.mark.parametrize(
    ("shape", "layout", "found", "ours"),
    [
        ((3, 5, 6), None, "NCHW", (5, 6, 3)),
        ((5, 6, 3), None, "NHWC", (5, 6, 3)),
        ((3, 4, 3), "NHWC", "NHWC", (3, 4, 3)),
        ((3, 4, 3), "NCHW", "NCHW", (4, 3, 3)),
        ((12, 5, 6), "NCHW", "NCHW", (5, 6, 12)),
        ((6,), None, None, (6,)),
        (np.array([2, 6]), None, None, (2, 6)),
    ],
)
def test_the_layout_is_found_or_given(shape, layout, found, ours):
    inputs = inputs_of(shape, layout=layout)
    assert (inputs.layout, inputs.ours) == (found, ours)
    assert inputs.drawn(2).shape == (2, *ours)


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (r'shape \[3, 32, 3\] does not tell where the channels are: say layout="NCHW"', {"shape": (3, 32, 3)}),
        (r"shape \[12, 5, 6\] does not tell", {"shape": (12, 5, 6)}),
        (r'layout must be "NHWC" or "NCHW", got \'HWC\'', {"layout": "HWC"}),
        (r"layout='NHWC' is for images .* shape is \[6\]: leave it out", {"shape": (6,), "layout": "NHWC"}),
        (r"shape must be the sizes of one input, without the batch", {"shape": (-1, 3, 5, 6)}),
        (r"mean must be one number or one a channel, 3 of them, got shape \[4\]", {"mean": [0.0] * 4}),
        (r"mean must be one number or one an element, 6 of them", {"shape": (6,), "mean": [0.0] * 4}),
        (r"std must be finite and above 0, got \[1, 0, 1\]", {"std": [1, 0, 1]}),
        (r"mean must be finite, got nan", {"mean": np.nan}),
        (r"a finite low below high, got low=1.0 and high=1.0", {"low": 1.0}),
    ],
)
def test_what_does_not_fit_is_refused(as_users_have_it, words, wrong):
    arguments: dict[str, Any] = {"shape": (3, 5, 6)} | wrong
    with pytest.raises(ValueError, match=words):
        inputs_of(**arguments)


@pytest.mark.parametrize(("words", "wrong"), [("shape must be the sizes", {"shape": 3}), ("std must be", {"std": "x"})])
def test_what_is_no_number_is_refused(as_users_have_it, words, wrong):
    arguments: dict[str, Any] = {"shape": (3, 5, 6)} | wrong
    with pytest.raises(TypeError, match=words):
        inputs_of(**arguments)


@pytest.mark.parametrize(("shape", "layout"), [((3, 5, 6), "NCHW"), ((5, 6, 3), "NHWC")])
def test_our_images_reach_the_module_normalised_in_its_layout(shape, layout):
    inputs = inputs_of(shape, mean=MEAN, std=STD, low=-1.0, high=2.0)
    x = inputs.drawn(4)
    assert inputs.layout == layout
    assert x.min() < -0.9
    assert x.max() > 1.9
    by_hand = ((x - MEAN) / STD).astype(np.float32)
    by_hand = by_hand.transpose(0, 3, 1, 2) if layout == "NCHW" else by_hand
    model = adapted(module, WEIGHTS, inputs)
    np.testing.assert_allclose(model.of_batch(jnp.asarray(x)), by_hand.reshape(4, -1) @ WEIGHTS, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(inputs.to_module(x), by_hand, rtol=1e-5, atol=1e-6)
    slope = jax.grad(lambda x: model.of_batch(x)[:, 0].sum())(jnp.asarray(x))
    theirs = np.broadcast_to(WEIGHTS[:, 0].reshape(shape), (4, *shape))
    np.testing.assert_allclose(slope, inputs.from_module(theirs), rtol=1e-5)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(model.params)]
    assert any(np.array_equal(leaf, np.float32(MEAN)) for leaf in leaves), "a sweep's digest must see the mean"


def test_the_module_computes_in_its_own_dtype():
    seen = []

    def half(weights, x):
        seen.append(x.dtype)
        return module(weights, x)

    model = adapted(half, WEIGHTS.astype(jnp.bfloat16), inputs_of((3, 5, 6)), dtype=jnp.bfloat16)
    assert jax.eval_shape(model, jnp.zeros((5, 6, 3))).dtype == jnp.float32
    assert seen == [jnp.bfloat16]


def test_the_same_function_adapted_twice_is_one_program():
    first, second = (adapted(module, WEIGHTS * scale, inputs_of((3, 5, 6), mean=0.5, std=scale)) for scale in (1, 2))
    assert jax.tree.structure(first) == jax.tree.structure(second)


Z = np.zeros((2, 5))


@pytest.mark.parametrize(
    "outputs",
    [Z, (Z, None), [Z], {"logits": Z, "loss": 0}, {"any": Z}, types.SimpleNamespace(logits=Z), ({"output": Z}, 1)],
)
def test_the_logits_are_found_among_the_outputs(outputs):
    assert logits_of(outputs) is Z


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"a": Z, "b": Z}, "net returns a dictionary of a, b, none of them logits: wrap it"),
        (None, "net returns NoneType, which has no logits"),
        ((), "net returns tuple, which has no logits"),
    ],
)
def test_outputs_without_logits_are_refused(outputs, words):
    with pytest.raises(NotConvertible, match=words):
        logits_of(outputs, "net")
