"""What holds of every criterion, in one table."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.coverage import Criterion, Profile
from tests.coverage import made

OF = made.convention(7, 40, 5)
RNG = np.random.default_rng(0)
VALUES = np.maximum(RNG.normal(size=(48, OF.neurons)).round(2), 0).astype(np.float32)
VALUES[:, 3] = 0.25  # a neuron that is constant, in the profile and elsewhere
PROFILE = VALUES[:20].copy()


class Row(NamedTuple):
    make: Callable[[Profile], Criterion]
    exact: bool = True  # the same bits in any order; else the same but for rounding
    grows: bool = True  # more inputs never lower it


CRITERIA = {
    "NC": Row(lambda profile: cw.coverage.neuron_coverage(OF, threshold=0.5)),
    "NC raw": Row(lambda profile: cw.coverage.neuron_coverage(OF, threshold=1.0, scaled=False)),
    "KMNC": Row(lambda profile: cw.coverage.section_coverage(profile, sections=10)),
    "KMNC of 1,000": Row(lambda profile: cw.coverage.section_coverage(profile, sections=1000)),
    "NBC": Row(lambda profile: cw.coverage.boundary_coverage(profile)),
    "NBC of 0.5": Row(lambda profile: cw.coverage.boundary_coverage(profile, offset=0.5)),
    "SNAC": Row(lambda profile: cw.coverage.strong_activation_coverage(profile)),
    "TKNC": Row(lambda profile: cw.coverage.top_neuron_coverage(OF, k=2)),
    "TKNP": Row(lambda profile: cw.coverage.top_pattern_count(OF, k=2)),
    "2-way dense": Row(lambda profile: cw.coverage.combination_coverage(OF)),
    "2-way sparse": Row(lambda profile: cw.coverage.combination_coverage(OF, share=1)),
    "3-way complete": Row(lambda profile: cw.coverage.combination_coverage(OF, strength=3, share=0.75)),
    "SSC": Row(lambda profile: cw.coverage.sign_sign_coverage(OF)),
    "covariance spread": Row(lambda profile: cw.coverage.covariance_spread(OF), exact=False, grows=False),
    "profile": Row(lambda profile: cw.coverage.profiling(OF), exact=False, grows=False),
}


@functools.cache
def criterion(name: str) -> Criterion:
    return CRITERIA[name].make(made.profile_of(PROFILE, OF))


def state_of(name: str, values, batch: int = 8):
    """The state after these inputs, in batches: each size of them is a program."""
    it = criterion(name)
    state = it.init()
    for first in range(0, len(values), batch):
        state = made.updated(it, made.activations(values[first : first + batch], OF), state)
    return state


def assert_same(name: str, one, other) -> None:
    for mine, its in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if CRITERIA[name].exact or np.asarray(mine).dtype.kind != "f":
            np.testing.assert_array_equal(mine, its)
        else:
            np.testing.assert_allclose(mine, its, rtol=2e-5, atol=2e-5)


every = pytest.mark.parametrize("name", CRITERIA)


@every
def test_order_and_batches_change_nothing(name):
    whole = state_of(name, VALUES, batch=48)
    assert_same(name, whole, state_of(name, VALUES, batch=1))
    assert_same(name, whole, state_of(name, VALUES[np.random.default_rng(1).permutation(len(VALUES))]))


@every
def test_merge_is_associative_and_commutative(name):
    merge = criterion(name).merge
    first, second, third = (state_of(name, part) for part in (VALUES[:8], VALUES[8:32], VALUES[32:]))
    assert_same(name, merge(first, second), merge(second, first))
    assert_same(name, merge(merge(first, second), third), merge(first, merge(second, third)))
    assert_same(name, merge(merge(first, second), third), state_of(name, VALUES))


@every
def test_a_state_of_nothing_changes_nothing(name):
    it = criterion(name)
    some = state_of(name, VALUES[:8])
    assert_same(name, it.merge(it.init(), some), some)
    assert_same(name, it.merge(some, it.init()), some)


@every
def test_inputs_that_were_seen_before_add_nothing_to_a_coverage(name):
    if CRITERIA[name].grows:
        some = state_of(name, VALUES[:8])
        assert_same(name, criterion(name).merge(some, some), some)


@every
def test_more_inputs_never_lower_a_coverage(name):
    if not CRITERIA[name].grows:
        return
    it, values = criterion(name), []
    state = it.init()
    for row in VALUES:
        values.append(it.value(state).value)
        state = made.updated(it, made.activations(row[None], OF), state)
    assert values == sorted(values)
    assert values[0] == 0 < values[-1], "nothing is covered by no inputs, and something by many"


@every
def test_jitted_and_un_jitted_agree(name):
    it, some = criterion(name), VALUES[:9]
    assert_same(name, it.update(it.init(), made.activations(some, OF)), state_of(name, some))


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(name, bad):
    values = VALUES.copy()
    values[4, 8] = bad
    with pytest.raises(ValueError, match="input 4 has an activation that is NaN or infinite in layer relu_1"):
        criterion(name).update(criterion(name).init(), made.activations(values, OF))


@every
def test_activations_of_other_neurons_are_refused(name):
    other = made.convention(7, 40)
    with pytest.raises(ValueError, match="52"):
        criterion(name).update(criterion(name).init(), made.activations(VALUES[:, :47], other))


@every
def test_what_is_said_has_its_convention_and_adds_up(name):
    said = criterion(name).value(state_of(name, VALUES))
    assert said.convention == OF
    if name == "profile":
        return
    assert OF.layers[1].name in str(said)
    assert said.criterion == criterion(name).name
    whole = sum(said.covered.values())
    assert said.value == pytest.approx(whole / sum(said.total.values()) if said.total else whole)


@pytest.mark.parametrize("name", ["NBC", "NBC of 0.5", "SNAC"])
def test_the_profile_itself_crosses_no_boundary(name):
    assert criterion(name).value(state_of(name, PROFILE)).value == 0


def test_a_constant_neuron_has_no_sections_and_two_boundaries():
    only = np.full((1, OF.neurons), 0.25, np.float32)
    sections = {"KMNC": 10, "KMNC of 1,000": 1000}
    for name, k in sections.items():
        bits = np.asarray(state_of(name, VALUES).bits)
        assert not bits[3].any(), "and it counts among all"
        assert sum(criterion(name).value(state_of(name, VALUES)).total.values()) == k * OF.neurons
    for change, expected in ((0.0, (0, 0)), (0.01, (0, 1)), (-0.01, (1, 0))):
        only[:, 3] = 0.25 + change
        state = state_of("NBC", only)
        assert (int(state.lower[0]) >> 3 & 1, int(state.upper[0]) >> 3 & 1) == expected


def test_a_constant_layer_covers_nothing_once_it_is_scaled():
    same = np.full((2, OF.neurons), 5.0, np.float32)
    assert criterion("NC").value(state_of("NC", same)).value == 0
    assert criterion("NC raw").value(state_of("NC raw", same)).value == 1


def test_new_profiles_and_thresholds_do_not_compile_again():
    update = jax.jit(lambda update, state, activations: update(state, activations))
    seen = made.activations(VALUES, OF)
    for name in ("KMNC", "NC"):
        it, again = criterion(name), CRITERIA[name].make(made.profile_of(VALUES[:11], OF))
        update(it.update, it.init(), seen)
        before = update._cache_size()  # pyright: ignore[reportAttributeAccessIssue]
        update(jax.tree.map(lambda leaf: leaf + 0.125, it.update), it.init(), seen)
        update(again.update, again.init(), seen)
        assert update._cache_size() == before  # pyright: ignore[reportAttributeAccessIssue]
