"""Fuzzing: what joins the queue, what is valid, and the settings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.generation import fuzzing
from cwjax.generation.transforms import TRANSFORMS
from tests.generation import made

UNITS, X = made.units(), made.inputs(5)
LABELS = made.logits(0, X).argmax(-1)


@functools.cache
def criterion():
    return cw.coverage.section_coverage(cw.coverage.profiled(UNITS, made.inputs(40)), sections=20)


def test_what_joins_the_queue_is_new_and_valid():
    options = {"mutate": fuzzing.noisy(0.15), "novelty": fuzzing.new_coverage(criterion())}
    found = fuzzing.fuzzed(UNITS, X, LABELS, **options, valid=fuzzing.close(largest=0.4), rounds=12, mutants=5)
    assert len(found.x) > 5
    assert found.tried == 60
    assert len(found.x) - 5 <= found.valid <= 60
    np.testing.assert_array_equal(found.x[:5], X)
    assert np.abs(found.x - X[found.origin]).max() < 0.4
    counts = range(5, len(found.x) + 1)
    values = [said.value for said in cw.coverage.curve(UNITS, criterion(), found.x, counts, batch=1)]
    assert np.all(np.diff(values) > 0)
    np.testing.assert_array_equal(found.labels, made.logits(0, found.x).argmax(-1))
    np.testing.assert_array_equal(found.wrong, found.labels != LABELS[found.origin])
    assert len(found.failures) == len(found.failed_from) > 0
    assert (made.logits(0, found.failures).argmax(-1) != LABELS[found.failed_from]).all()


def test_tensorfuzz_keeps_logits_apart():
    found = fuzzing.fuzzed(UNITS, X, LABELS, **fuzzing.tensorfuzz(threshold=0.5), rounds=10, mutants=5)
    logits = made.logits(0, found.x)[5:]
    gaps = ((logits[:, None] - logits[None]) ** 2).sum(-1) + 10 * np.eye(len(logits))
    assert len(logits)
    assert gaps.min() > 0.5 - 1e-3
    assert np.abs(found.x - X[found.origin]).max() <= 0.4 + 1e-6
    assert found.valid == found.tried == 50  # noise is clipped to the ball, not thrown away


def test_a_mutant_comes_back_to_its_ball():
    near = fuzzing.within(0.25)
    np.testing.assert_allclose(near(jnp.full(3, 0.5), jnp.array([0.9, 0.1, 0.6])), [0.75, 0.25, 0.6])
    with pytest.raises(ValueError, match="radius must be more than 0"):
        fuzzing.within(0)


@pytest.mark.long
def test_deephunter_moves_pixels_once():
    settings = fuzzing.deephunter(cw.coverage.neuron_coverage(UNITS.convention, threshold=0.5))
    found = fuzzing.fuzzed(UNITS, X, LABELS, **settings, rounds=30, mutants=5)
    assert 0 < found.valid <= found.tried == 150


def test_each_mutant_is_of_one_transform():
    mutate = fuzzing.transformed([TRANSFORMS["brightness"], TRANSFORMS["rotation"]])
    x = np.full((30, 4, 5, 1), 0.5, np.float32)
    mutants = jax.jit(mutate)(jax.random.split(jax.random.key(0), 30), x)
    flat = np.asarray(mutants.x).reshape(30, -1).std(1) < 1e-6
    assert 0 < flat.sum() < 30
    assert not flat[np.asarray(mutants.affine)].any()  # a rotation brings in zeros
    with pytest.raises(ValueError, match="at least one transform"):
        fuzzing.transformed([])


def test_validity_is_deephunters():
    valid = fuzzing.close(changed=0.1, largest=0.2)
    x = jnp.zeros(20)
    assert valid(x, x.at[0].set(1.0))
    assert valid(x, x + 0.19)
    assert not valid(x, x + 0.21)


def test_parents_that_were_taken_seldom_come_first():
    rng, choose = np.random.default_rng(0), fuzzing.seldom_taken()
    drawn = [choose(rng, np.array([0, 100])) for _ in range(400)]
    assert 0.2 < np.mean(drawn) < 0.35  # 0.3 of 1.1
