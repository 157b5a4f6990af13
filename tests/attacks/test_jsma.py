"""JSMA changes the pair of elements that a search through all pairs finds, and stops when none is left."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.attacks import jsma
from cwjax.attacks.jsma import jsma_f, jsma_z
from tests.attacks.plain_net import CONSTANT, X, asked, close, goal, jacobian, logits, softmax, walk

best = jax.jit(jsma._best_pair, static_argnums=3)


def best_pair(own, others, movable):
    """The equations as they are printed; None if no pair has the signs."""
    best, pair = -np.inf, None
    for p, q in itertools.combinations(np.flatnonzero(movable), 2):
        alpha, beta = own[p] + own[q], others[p] + others[q]
        if alpha > 0 and beta < 0 and -alpha * beta > best:
            best, pair = -alpha * beta, (p, q)
    return pair


def recipe(x, label, sign, *, probabilities, theta, moves, gamma=1.0, mask: Any = True):
    points = [x.astype(np.float64)]
    for _ in range(moves):
        z, slopes = logits(points[-1]), jacobian(points[-1]).reshape(5, -1)
        if probabilities:
            share = softmax(z)
            slopes = share[:, None] * (slopes - share @ slopes)
        own, others = slopes[label], np.delete(slopes, label, axis=0).sum(0)
        further = np.clip(points[-1] + theta, 0, 1)
        turn = sign * np.sign(theta)
        pair = best_pair(turn * own, turn * others, ((np.abs(further - points[-1]) > 0.01 * abs(theta)) & mask).ravel())
        met = sign * (z[label] - np.delete(z, label).max()) > 0
        if pair is None or met:
            break
        moved = points[-1].ravel().copy()
        moved[list(pair)] = further.ravel()[list(pair)]
        moved = moved.reshape(x.shape)
        if (moved != x).sum() > gamma * x.size:
            break
        points.append(moved)
    return points


@pytest.mark.parametrize("attack", [jsma_f, jsma_z])
@pytest.mark.parametrize("theta", [1.0, -0.3])
def test_it_follows_its_recipe(attack, theta):
    small = attack(theta=theta, steps=9)
    for place, sign in ((0, -1.0), (1, 1.0), (3, -1.0), (4, 1.0)):
        label = asked(place, sign)
        points, progress = walk(small, X[place], goal(label, sign), 9)
        expected = recipe(X[place], label, sign, probabilities=attack is jsma_f, theta=theta, moves=8)
        assert len(points) == len(expected)
        close(points, expected)
        assert int(progress.backwards) == (1 if attack is jsma_f else 2) * int(progress.forwards)
        if np.isfinite(progress.best.distance):
            assert float(progress.best.distance) == (points[-1] != points[0]).sum()


def test_it_changes_no_larger_share_than_it_is_told():
    gamma = 0.4
    label = asked(4, 1.0)
    points, progress = walk(jsma_z(theta=-0.3, gamma=gamma), X[4], goal(label, 1.0), 20)
    expected = recipe(X[4], label, 1.0, probabilities=False, theta=-0.3, moves=20, gamma=gamma)
    assert len(points) == len(expected)
    close(points, expected)
    assert progress.done
    assert (points[-1] != points[0]).sum() <= gamma * 12


def test_held_elements_stay():
    label, mask = asked(1, 1.0), np.arange(12).reshape(3, 4) % 3 > 0
    points, _ = walk(jsma_z(), X[1], goal(label, 1.0), 9, mask=jnp.asarray(mask))
    expected = recipe(X[1], label, 1.0, probabilities=False, theta=1.0, moves=8, mask=mask)
    assert len(points) == len(expected)
    close(points, expected)


@pytest.mark.parametrize("size", [2, 12, 40])
def test_the_pair_is_that_of_a_search_through_all(size):
    rng = np.random.default_rng(size)
    for _ in range(5):
        own, others = rng.normal(size=(2, size)).astype(np.float32)
        movable = rng.uniform(size=size) < 0.9
        found = best(jnp.asarray(own), jnp.asarray(others), jnp.asarray(movable), 4096)
        expected = best_pair(own, others, movable)
        assert bool(found.exists) == (expected is not None)
        if expected is not None:
            assert sorted((int(found.first), int(found.second))) == sorted(expected)


def test_of_a_large_input_some_elements_are_paired_and_mostly_the_pair_is_the_same():
    rng = np.random.default_rng(0)
    same = 0
    for _ in range(20):
        own, others = rng.normal(size=(2, 60)).astype(np.float32)
        everything = np.ones(60, bool)
        found = best(jnp.asarray(own), jnp.asarray(others), jnp.asarray(everything), 10)
        assert bool(found.exists)
        p, q = int(found.first), int(found.second)
        assert own[p] + own[q] > 0
        assert others[p] + others[q] < 0
        same += {p, q} == set(best_pair(own, others, everything) or ())
    assert same >= 19


@pytest.mark.parametrize("attack", [jsma_f, jsma_z])
def test_without_slopes_it_gives_up_at_once(attack):
    attack = attack()
    points, progress = walk(attack, X[0], goal(1, 1.0), 9, model=CONSTANT)
    assert len(points) == 1
    assert np.isinf(progress.best.distance)
    _, progress = walk(attack, X[0], goal(0, 1.0), 9, model=CONSTANT)
    assert float(progress.best.distance) == 0


def test_numbers_that_make_no_sense():
    cases: list[dict[str, Any]] = [{"theta": 0.0}, {"gamma": 0.0}, {"gamma": 1.5}, {"candidates": 1}]
    for wrong in cases:
        with pytest.raises(ValueError, match="must be"):
            jsma_z(**wrong)
