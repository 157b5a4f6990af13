"""Sign-sign coverage: neurons of one layer that alone decide about the sign of one in the next."""

import itertools
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt32

from cwjax.arguments import check_number
from cwjax.coverage.convention import Activations, Convention
from cwjax.coverage.criterion import Coverage, Criterion, made, packed, unpacked
from cwjax.coverage.top_neurons import distinct

ROWS = 256  # patterns compared with all others at once: 10 MB for 10,000 patterns


class Signs(NamedTuple):
    rows: UInt32[np.ndarray, "P W"]  # in NumPy: the distinct sign patterns of all neurons, packed and sorted


def sign_sign_coverage(convention: Convention, *, threshold: float | int = 0.0) -> Criterion:
    """Sign-sign coverage, SSC (Sun et al. 2018, "Concolic testing for deep neural networks"; the SS of MC/DC).

    A pair of neurons, i of a layer and j of the next, is covered if two inputs differ in the sign of i, in the sign of
    j, and in no other sign of i's layer. Two layers are neighbours in the order of the convention.

    The state keeps every sign pattern seen, a bit for each neuron, and each pair of inputs is compared when the value
    is asked for. It runs in NumPy, since its state grows.

    Args:
      convention: of at least two layers. The paper reads signs before the activation function; after ReLU, "positive"
        and "0" are the same signs.
      threshold: a sign is positive strictly above it.

    Raises:
      ValueError: fewer than two layers.

    Example:
      >>> inner = cw.coverage.neurons(network, x, value="before")
      >>> ssc = cw.coverage.sign_sign_coverage(inner.convention)
      >>> cw.coverage.measure(inner, ssc, x).value  # here both neurons of a layer always turn together
      0.0

    References:
      Sun et al. 2018, "Concolic testing for deep neural networks", definition 7, https://arxiv.org/abs/1805.00089
    """
    check_number("threshold", threshold, least=-float("inf"))
    if len(convention.layers) < 2:
        raise ValueError(f"sign-sign coverage is of pairs of layers, and there is only one: {convention}")
    return made(
        "SSC",
        convention,
        init=lambda: Signs(np.empty((0, -(-convention.neurons // 32)), np.uint32)),
        update=_note,
        options={"threshold": threshold},
        value=partial(_value, convention=convention),
        merge=lambda first, second: Signs(distinct(first.rows, second.rows)),
        on_host=True,
    )


def _note(state: Signs, activations: Activations, *, threshold: float) -> Signs:
    return Signs(distinct(state.rows, packed(activations.values > threshold)))


def _value(state: Signs, *, convention: Convention) -> Coverage:
    signs = unpacked(state.rows, convention.neurons)
    covered, total = {}, {}
    for (first, here), (second, there) in itertools.pairwise(zip(convention.layers, convention.slices, strict=True)):
        name = f"{first.name} → {second.name}"
        covered[name] = int(_pairs(signs[:, here], signs[:, there]).sum())
        total[name] = first.neurons * second.neurons
    return Coverage("SSC", sum(covered.values()) / sum(total.values()), covered, total, convention)


def _pairs(here: Bool[np.ndarray, "P n"], there: Bool[np.ndarray, "P m"]) -> Bool[np.ndarray, "n m"]:
    """Which pairs of neurons are covered."""
    covered = np.zeros((here.shape[1], there.shape[1]), bool)
    signed = np.where(here, 1, -1).astype(np.float32)  # sums of up to 2^24 of them are exact
    for first in range(0, len(here), ROWS):
        apart = (here.shape[1] - signed[first : first + ROWS] @ signed.T) / 2
        rows, others = np.nonzero(apart == 1)
        rows, others = rows[others > rows + first] + first, others[others > rows + first]
        for row, other in zip(rows, others, strict=True):
            covered[np.argmax(here[row] != here[other])] |= there[row] != there[other]
    return covered
