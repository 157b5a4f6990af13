"""What several checks share: which examples it takes, and that every pass of the model is counted."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.validity import of_attack
from cwjax.validity.case import RADII, Case
from cwjax.validity.checking import Measured, Skipped
from tests import problems

COUNT = 10
MODEL = cw.bind(problems.mlp, problems.mlp_params())


def case(model: cw.Model, **changes) -> Case:
    """Untargeted, of a result that found nothing; two of ten examples have met their goal beforehand."""
    x = jnp.asarray(problems.inputs(COUNT))
    answers = np.asarray(MODEL.apply(MODEL.params, x)).argmax(1)
    labels = np.where(np.arange(COUNT) < 2, (answers + 1) % problems.CLASSES, answers)
    none, zero, yes = jnp.full(COUNT, jnp.inf), jnp.zeros(COUNT, jnp.int32), jnp.ones(COUNT, bool)
    result = cw.Result(
        x=x, success=~yes, distance=none, c=none, forwards=zero, backwards=zero, finite=yes, finished=yes
    )
    given = Case(
        model=model,
        attack=cw.fmn(steps=4),
        numbers={},
        longer={},
        x=x,
        goal=cw.untargeted(labels),
        result=jax.tree.map(np.asarray, result),
        key=jax.random.key(0),
        largest_c=None,
    )
    return dataclasses.replace(given, **changes)


def counted() -> tuple[cw.Model, dict[str, int]]:
    """The network, and how many inputs went through it forward and backward since."""
    calls = {"forwards": 0, "backwards": 0}

    def count(kind, value):
        jax.debug.callback(lambda value: calls.update({kind: calls[kind] + len(value)}), value)

    @jax.custom_vjp
    def watched(logits):
        return logits

    def backward(_, slope):
        count("backwards", slope)
        return (slope,)

    watched.defvjp(lambda logits: (logits, None), backward)

    def apply(params, x):
        count("forwards", x)
        return watched(problems.mlp(params, x))

    return cw.bind(apply, problems.mlp_params()), calls


@pytest.mark.parametrize(
    "work",
    [
        lambda given: given.slopes,
        lambda given: given.answers,
        lambda given: given.path,
        lambda given: given.first_slopes,
        lambda given: given.climbs,
        lambda given: given.drawn(given.few[:3], np.ones(3, np.float32), 20, 4),
    ],
    ids=["slopes", "answers", "path", "first slopes", "climbs", "noise"],
)
def test_every_pass_is_counted(work):
    model, calls = counted()
    given = case(model)
    work(given)
    jax.effects_barrier()
    assert calls == given.spent
    assert calls["forwards"] > 0


def test_the_subset_is_drawn_from_what_there_is_to_attack():
    given = case(MODEL)
    assert given.open.tolist() == [False] * 2 + [True] * 8
    assert sorted(given.few) == list(range(2, 10))
    other = case(MODEL, key=jax.random.key(1))
    assert given.few.tolist() != other.few.tolist()
    keys, x, _ = given.rows(given.few, 10)
    assert len(keys) == 10
    np.testing.assert_array_equal(x[8:], x[:2])


@pytest.mark.parametrize("norm", ["l0", "l1", "l2", "linf"])
def test_noise_stays_within_the_radius_and_the_box(norm):
    radius = np.array([3.0 if norm == "l0" else 0.25] * 4, np.float32)
    given = case(MODEL, attack=cw.fmn(norm=norm))
    lead, distance = given.drawn(given.few[:4], radius, 50, 4)
    assert lead.shape == distance.shape == (4, 50)
    assert (distance <= radius[0] * 1.0001).all()
    assert distance.max() > 0.5 * radius[0]
    assert len(np.unique(lead)) > 40


@pytest.mark.parametrize(
    ("shape", "counted"),
    [
        ((6, 5, 3), {}),
        ((6, 5, 3), {"channel_axis": -1}),
        ((3, 6, 5), {"channel_axis": 0}),
        ((6, 5, 3), {"per_pixel": False}),
        ((3, 6, 5), {"per_pixel": False}),
        ((90,), {}),
        ((6, 15), {}),
    ],
)
def test_noise_in_l0_counts_as_it_is_told(shape, counted):
    x = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.8, (2, *shape)), jnp.float32)
    model = cw.bind(lambda params, x: x.reshape(len(x), -1)[:, :4])
    two = jax.tree.map(lambda leaf: leaf[:2], case(MODEL).result)
    attack = cw.fmn(norm="l0", distance=cw.distances.l0(**counted))
    given = case(model, attack=attack, x=x, goal=cw.untargeted(np.zeros(2, int)), result=two)
    _, distance = given.drawn(np.arange(2), np.full(2, 7, np.float32), 5, 2)
    assert distance.tolist() == [[7] * 5] * 2
    by_element = not counted.get("per_pixel", True) or len(shape) != 3
    assert given.reach.tolist() == [90 / 2 if by_element else 30 / 2] * 2


def test_a_larger_radius_lets_pgd_find_more():
    found = np.isfinite(case(MODEL).climbs)  # of an attack that found nothing: shares of half the box
    assert found.shape == (len(RADII), 8)
    assert found[-1].all()


def test_a_c_that_is_doubled_up_to_its_ceiling_is_seen_in_the_result():
    found = np.arange(COUNT) < 9  # the last was not fooled; the first two had nothing to be fooled for
    result = case(MODEL).result._replace(success=found, c=np.where(found, 9, np.inf).astype(np.float32))

    def saturated(largest_c):
        given = case(MODEL, result=result, largest_c=largest_c)
        given.__dict__["path"] = SimpleNamespace(lower=np.full((1, 8), np.nan))  # no bracket anywhere
        return of_attack.saturated_c(given)

    low, high = saturated(20.0), saturated(16.0)
    assert isinstance(low, Measured)
    assert isinstance(high, Measured)
    assert low.number == 1 / 8  # 9 could have been doubled once more
    assert high.number == 1
    assert isinstance(saturated(None), Skipped)
