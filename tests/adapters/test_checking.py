"""A model that is not its original is refused, with the number that differs."""

import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.adapters import NotConvertible, confirmed

WEIGHTS = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
X = np.random.default_rng(0).uniform(size=(3, 6)).astype(np.float32)


def network(weights, x):
    return jnp.tanh(x @ weights)


MODEL = cw.bind(network, WEIGHTS)


def original(x):
    return np.tanh(x @ WEIGHTS)


def gradient(x, cotangent):
    return (cotangent * (1 - original(x) ** 2)) @ WEIGHTS.T


def test_the_model_comes_back_where_logits_and_gradients_agree():
    assert confirmed(MODEL, original, X, name="the net", gradient=gradient) is MODEL
    assert confirmed(MODEL, original, X, name="the net") is MODEL


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (r"logits of the model made of the net differ from .* by \d\.\de-02 of the largest, more than tolerance=0.001",
         {"original": lambda x: original(x) + 0.02}),
        (r"input gradients of the model made of the net differ", {"gradient": lambda x, up: 1.01 * gradient(x, up)}),
        (r"input gradients of the net are NaN", {"gradient": lambda x, up: gradient(x, up) * np.nan}),
        (r"logits of the net are NaN or infinite", {"original": lambda x: original(x) * np.nan}),
        (r"logits of the model made of the net are NaN", {"model": cw.bind(network, WEIGHTS * np.nan)}),
        (r"gives \[3\] for 3 inputs of shape \[6\], and not logits \[3, K\]", {"original": lambda x: x[:, 0]}),
        (r"gives \[3, 1\] for 3 inputs", {"original": lambda x: original(x)[:, :1]}),
        (r"logits of the net have the shape \[3, 2\], those .* \[3, 3\]", {"original": lambda x: original(x)[:, :2]}),
        (r"input gradients of the net have the shape \[3, 5\]", {"gradient": lambda x, up: gradient(x, up)[:, :5]}),
        (r"other logits alone than in a batch .* evaluation mode", {"original": lambda x: original(x - x.mean(0))}),
    ],
)  # fmt: skip
def test_what_differs_is_refused_with_the_number(words, wrong):
    arguments = {"model": MODEL, "original": original, "gradient": gradient} | wrong
    with pytest.raises(NotConvertible, match=words):
        confirmed(arguments["model"], arguments["original"], X, name="the net", gradient=arguments["gradient"])


def test_the_tolerance_decides():
    near = cw.bind(network, WEIGHTS * 1.002)
    with pytest.raises(NotConvertible, match="differ"):
        confirmed(near, original, X, name="the net")
    assert confirmed(near, original, X, name="the net", tolerance=0.1) is near
