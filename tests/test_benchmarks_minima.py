"""The exact minima against closed forms, random search and another method; and the fast attacks against them."""

import functools
import itertools
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from benchmarks.dense import ORDERS, Layer, Minimum, Norm, lead, logits
from benchmarks.minima import excluded, nearest_example
from benchmarks.regions import nearest_by_regions
from tests import problems

COUNT = 4  # inputs of a network
LONG = bool(os.environ.get("CWJAX_LONG"))


class Asked(NamedTuple):
    layers: list[Layer]
    x: np.ndarray
    label: int
    drawn: np.ndarray  # examples, from anywhere in the box and from around x


@functools.cache
def asked(seed: int, sizes: tuple[int, ...]) -> list[Asked]:
    """A network with random weights, whose boundaries pass near the middle of the box, and inputs with examples."""
    rng = np.random.default_rng(seed)
    layers = []
    for ins, outs in itertools.pairwise(sizes):
        kernel, bias = 1.5 * rng.normal(size=(ins, outs)) / np.sqrt(ins), 0.3 * rng.normal(size=outs)
        bias -= 0 if layers else 0.5 * kernel.sum(0)
        layers.append(Layer(kernel.astype(np.float32).astype(float), bias.astype(np.float32).astype(float)))
    found = []
    while len(found) < COUNT:
        x = rng.uniform(size=sizes[0]).astype(np.float32).astype(float)
        label = int(logits(layers, x).argmax())
        near = x + rng.uniform(size=(20_000, 1)) * rng.uniform(-1, 1, size=(20_000, sizes[0]))
        drawn = np.clip(np.concatenate([near, rng.uniform(size=(20_000, sizes[0]))]), 0, 1)
        drawn = drawn[lead(layers, drawn, label) <= 0]
        if len(drawn):
            found.append(Asked(layers, x, label, drawn))
    return found


def distances(question: Asked, norm: Norm) -> np.ndarray:
    return np.linalg.norm(question.drawn - question.x, ORDERS[norm], axis=1)


_SOLVED: dict[tuple[int, Norm], Minimum] = {}  # of questions that `asked` keeps


def nearest(question: Asked, norm: Norm) -> Minimum:
    """The minimum, from the nearest of the examples, which several tests ask for: solved once."""
    key = id(question), norm
    if key not in _SOLVED:
        _SOLVED[key] = solved(question, norm)
    return _SOLVED[key]


def solved(question: Asked, norm: Norm, example: np.ndarray | None = None) -> Minimum:
    """The minimum, by the program that has the norm."""
    layers, x, label, drawn = question
    known = drawn[distances(question, norm).argmin()] if example is None else example
    solver = nearest_by_regions if norm == "l2" else nearest_example
    found = solver(layers, x, label, known, norm=norm)
    assert lead(layers, found.x, label) <= 1e-6
    assert 0 <= found.x.min() <= found.x.max() <= 1
    assert found.distance == np.linalg.norm(found.x - x, ORDERS[norm])
    assert found.distance * (1 - 1e-5) <= found.bound <= found.distance
    return found


TINY = {"one hidden layer": (0, (5, 10, 4)), "two hidden layers": (1, (6, 8, 4, 3))}


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2), ("l1", np.inf)])
def test_the_minimum_of_an_affine_network_is_its_closed_form(norm, dual):
    """What a class is behind by, over the dual norm of the difference of its weights and the label's."""
    for question in asked(2, (5, 4)):
        [layer] = question.layers
        x = np.full(5, 0.5)
        answers = 0.1 * logits([layer], x)  # behind by so little that the box does not matter
        layer = layer._replace(bias=layer.bias - 0.9 * logits([layer], x))
        label = int(answers.argmax())
        normals = np.delete(layer.kernel - layer.kernel[:, [label]], label, axis=1)
        behind = answers[label] - np.delete(answers, label)
        example = question.drawn[lead([layer], question.drawn, label) <= 0][0]
        found = solved(Asked([layer], x, label, question.drawn), norm, example)
        assert found.distance == pytest.approx((behind / np.linalg.norm(normals, dual, axis=0)).min(), rel=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
@pytest.mark.parametrize("size", TINY)
def test_random_search_finds_nothing_nearer(size, norm):
    """Nor does it around the minimum, where it finds examples that are nearly as near."""
    for question in asked(*TINY[size]):
        found = nearest(question, norm)
        assert found.distance <= distances(question, norm).min()
        around = found.x + 0.02 * np.random.default_rng(3).normal(size=(20_000, len(found.x)))
        around = np.clip(around, 0, 1)
        around = around[lead(question.layers, around, question.label) <= 0]
        other = distances(question._replace(drawn=around), norm).min()
        assert found.distance <= other <= found.distance + 0.1


@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.parametrize("size", TINY)
def test_two_methods_agree(size, norm):
    """Mixed-integer programs, and a search of the regions where the network is affine."""
    for question in asked(*TINY[size]):
        example = question.drawn[distances(question, norm).argmin()]
        other = nearest_by_regions(*question[:3], example, norm=norm)
        assert nearest(question, norm).distance == pytest.approx(other.distance, rel=1e-6)


@pytest.mark.parametrize("norm", ["linf", pytest.param("l1", marks=pytest.mark.long)])
def test_the_minimum_does_not_depend_on_the_example_that_is_known(norm):
    for question in asked(*TINY["two hidden layers"]):
        found = nearest(question, norm)
        farthest = question.drawn[distances(question, norm).argmax()]
        assert solved(question, norm, farthest).distance == pytest.approx(found.distance, rel=1e-6)
        assert solved(question, norm, found.x).distance == pytest.approx(found.distance, rel=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_no_example_is_in_a_smaller_ball_and_one_is_in_a_larger(norm):
    for question in asked(*TINY["two hidden layers"]):
        found = nearest(question, norm)
        assert excluded(*question[:3], norm=norm, radius=0.99 * found.distance)
        assert not excluded(*question[:3], norm=norm, radius=1.01 * found.distance)


def test_without_time_the_known_example_is_returned_and_less_is_proved():
    question = asked(4, (10, 20, 10, 4))[0]
    example = question.drawn[distances(question, "l1").argmax()]
    found = nearest_example(*question[:3], example, norm="l1", seconds=0.0)
    assert found.bound < 0.9 * found.distance <= distances(question, "l1").max()
    assert found.bound <= solved(question, "l1").distance <= found.distance


def test_a_norm_without_a_linear_program_is_refused():
    question = asked(*TINY["one hidden layer"])[0]
    with pytest.raises(ValueError, match="got 'l2'"):
        nearest_example(*question[:3], question.drawn[0], norm="l2")


@pytest.mark.parametrize("solver", [nearest_example, nearest_by_regions])
def test_an_example_that_is_none_is_refused(solver):
    question = asked(*TINY["one hidden layer"])[0]
    with pytest.raises(ValueError, match="give an adversarial example"):
        solver(*question[:3], question.x, norm="linf")


def dense(params, x):
    for kernel, bias in params[:-1]:
        x = jax.nn.relu(x @ kernel + bias[None])
    return x @ params[-1][0] + params[-1][1][None]


# How far the median and the worst may be, as ratios to the minimum.
FAST = {
    "linf": (1.01, 1.06),
    "l1": (1.03, 5.0),
    "l2": (1.01, 1.05),
}


@pytest.mark.parametrize("norm", FAST)
def test_a_fast_attack_is_never_nearer_than_the_minimum_and_seldom_much_farther(norm):
    median, worst = FAST[norm]
    ratios, run = [], jax.jit(cw.batched(cw.fast(norm, steps=100)))
    for seed in (4, 5) if LONG else (4,):
        questions = asked(seed, (10, 20, 10, 4))
        params = [(jnp.asarray(kernel), jnp.asarray(bias)) for kernel, bias in questions[0].layers]
        x, label = (np.stack([getattr(question, field) for question in questions]) for field in ("x", "label"))
        result = run(cw.bind(dense, params), problems.keys(COUNT), jnp.asarray(x), cw.untargeted(label))
        assert result.success.all()
        ratios += [d / solved(q, norm).distance for d, q in zip(np.asarray(result.distance), questions, strict=True)]
    assert min(ratios) >= 1 - 1e-4
    assert np.median(ratios) <= median
    assert max(ratios) <= worst
