"""A classifier of tiny pictures, the pictures, and every defence of it."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.defences import DEFENCES, Defended

ATTACK = cw.attacks.ddn(steps=20)  # quicker to compile than the usual one
SIDE, CLASSES, COUNT, HIDDEN = 8, 3, 120, 24
SMALL = {  # what makes each learn in a moment
    "distilled": {"updates": 300},
    "kernel_density": {"centres": 10},
    "dropout_uncertainty": {"draws": 5},
    "extra_class": {"count": 20, "updates": 30, "attack": ATTACK},
    "second_network": {"count": 20, "updates": 30, "attack": ATTACK},
    "inner_layer": {"count": 20, "updates": 30, "attack": ATTACK},
    "first_components": {"components": 20, "updates": 30},
    "last_components": {"components": 20},
    "bounded_relu": {"updates": 40},
}


SLOW = ("magnet", "extra_class", "second_network")  # to compile; inner_layer learns as the last two do


def few(names: Iterable[str]) -> list[Any]:
    """The names as parameters of a test, with those that are slow left to `make test-all`."""
    return [pytest.param(name, marks=pytest.mark.long) if name in SLOW else name for name in names]


def pictures(seed: int, count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [N, 8, 8, 1] of a bright square in one of three corners, in noise; and which corner."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    x = rng.uniform(0, 0.25, (count, SIDE, SIDE, 1)).astype(np.float32)
    for image, label in zip(x, labels, strict=True):
        row, column = ((0, 0), (0, 5), (5, 0))[label]
        image[row : row + 3, column : column + 3] += 0.5
    return x, labels.astype(np.int32)


def _apply(params, x):
    return jax.nn.relu(x.reshape(len(x), -1) @ params["first"] + params["bias"][None]) @ params["second"]


@functools.cache
def classifier() -> cw.Model:
    """Of a few hidden units: a least-squares answer, ten times as large."""
    x, labels = pictures(0)
    first = np.random.default_rng(1).normal(size=(SIDE * SIDE, HIDDEN)).astype(np.float32) / 3
    bias = np.full(HIDDEN, 0.2, np.float32)
    hidden = np.maximum(x.reshape(len(x), -1) @ first + bias, 0)
    second = np.linalg.lstsq(hidden, np.eye(CLASSES)[labels] - 1 / 3, rcond=None)[0].astype(np.float32)
    return cw.bind(_apply, {"first": jnp.asarray(first), "bias": jnp.asarray(bias), "second": jnp.asarray(10 * second)})


@functools.cache
def defended(name: str) -> Defended:
    """The classifier with that defence."""
    return DEFENCES[name](classifier(), *pictures(0), jax.random.key(0), **SMALL.get(name, {}))


def detector(name: str) -> cw.Model:
    """The detector of that defence, which has one."""
    found = defended(name).detector
    assert found is not None
    return found
