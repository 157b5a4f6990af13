"""A small dense ReLU network in float64, and what is known of the nearest adversarial example of an input."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

Array = np.ndarray
Norm = Literal["linf", "l1", "l2"]
ORDERS = {"linf": np.inf, "l1": 1, "l2": 2}

ROUNDING = 1e-6  # by how much a label may lead at an example: solvers of linear programs are as exact as that


class Layer(NamedTuple):
    kernel: Float[Array, "I O"]  # float64
    bias: Float[Array, "O"]  # float64


class Minimum(NamedTuple):
    """The nearest example that was found, and what is proved of all others."""

    x: Float[Array, "I"]  # in [0, 1]
    distance: float  # of it from the clean input
    bound: float  # no example is nearer than this; the distance itself to within the gap, unless time was up
    target: int  # the class whose logit is there the highest but for the label's
    seconds: float


def logits(layers: Sequence[Layer], x: Float[Array, "*B I"]) -> Float[Array, "*B K"]:
    """What the network answers, in float64. ReLU stands between the layers."""
    for layer in layers[:-1]:
        x = np.maximum(x @ layer.kernel + layer.bias, 0)
    return x @ layers[-1].kernel + layers[-1].bias


def lead(layers: Sequence[Layer], x: Float[Array, "*B I"], label: int) -> Float[Array, "*B"]:
    """By how much the label's logit is above every other; at most 0 at an adversarial example."""
    answers = logits(layers, x)
    return answers[..., label] - np.delete(answers, label, axis=-1).max(-1)


def check_example(layers: Sequence[Layer], label: int, example: Float[Array, "I"]) -> None:
    """Raises ValueError unless the label loses there, or is level with another to within ROUNDING."""
    if lead(layers, example, label) > ROUNDING:
        raise ValueError(f"the label still leads by {lead(layers, example, label):g}: give an adversarial example")


def of_example(layers: Sequence[Layer], x: Array, label: int, example: Array, norm: Norm) -> Minimum:
    """An example as the nearest that is known, with nothing proved."""
    answers = logits(layers, example)
    answers[label] = -np.inf
    return Minimum(example, float(np.linalg.norm(example - x, ORDERS[norm])), 0.0, int(answers.argmax()), 0.0)
