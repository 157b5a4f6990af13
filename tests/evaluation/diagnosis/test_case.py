"""What several checks share: which examples it takes, and that every pass of the model is counted."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.base import Terms
from cwjax.evaluation.diagnosis import of_attack, weaker
from cwjax.evaluation.diagnosis.case import RADII, Case
from cwjax.evaluation.diagnosis.checks import ENOUGH, Measured, Skipped
from cwjax.evaluation.diagnosis.diagnose import CHECKS
from tests import problems
from tests.evaluation.diagnosis.known import between, found, known

COUNT = 10
MODEL = cw.bind(problems.mlp, problems.mlp_params())


def case(model: cw.Model, **changes) -> Case:
    """Untargeted, of a result that found nothing; two of ten examples have met their goal beforehand."""
    x = jnp.asarray(problems.inputs(COUNT))
    allowed = between(0.0, 1.0, changes.get("x", x))
    answers = np.asarray(MODEL.apply(MODEL.params, x)).argmax(1)
    labels = np.where(np.arange(COUNT) < 2, (answers + 1) % problems.CLASSES, answers)
    none, zero, yes = jnp.full(COUNT, jnp.inf), jnp.zeros(COUNT, jnp.int32), jnp.ones(COUNT, bool)
    result = cw.Result(
        x=x, success=~yes, distance=none, c=none, forwards=zero, backwards=zero, finite=yes, finished=yes
    )
    given = Case(
        model=model,
        attack=cw.attacks.fmn(steps=4),
        numbers={},
        longer={},
        x=x,
        goal=cw.untargeted(labels),
        allowed=allowed,
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
        lambda given: given.drawn(given.few[:3], np.ones(3, np.float32), 20),
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


def test_every_check_says_what_each_example_adds_and_what_is_left_without_the_loudest():
    given = case(MODEL)
    found = {name: rule.measure(given) for name, rule in CHECKS.items()}
    for name, each in found.items():
        if isinstance(each, Measured):
            assert len(each.each) == len(each.rows) < ENOUGH, name
            assert np.isnan(each.without) if not len(each.rows) else each.without <= each.number, name
    skipped = {name for name, each in found.items() if isinstance(each, Skipped)}
    assert skipped == {"saturated_c", "saturated_tanh", "too_short", "not_monotone", "lost_by_rounding", "second_look"}


def test_an_example_is_called_by_its_place_in_its_source_and_its_target():
    given = case(MODEL, index=np.arange(COUNT) + 4280)
    assert given.names[:2] == ["4280", "4281"]
    assert case(MODEL, goal=cw.targeted(np.arange(COUNT) % 3)).names[:2] == ["0 (target 0)", "1 (target 1)"]


def test_the_subset_is_drawn_from_what_there_is_to_attack():
    given = case(MODEL)
    assert given.open.tolist() == [False] * 2 + [True] * 8
    assert sorted(given.few) == list(range(2, 10))
    other = case(MODEL, key=jax.random.key(1))
    assert given.few.tolist() != other.few.tolist()
    keys, x, *_ = given.rows(given.few, 10)
    assert len(keys) == 10
    np.testing.assert_array_equal(x[8:], x[:2])


@pytest.mark.parametrize("norm", ["l0", "l1", "l2", "linf"])
def test_noise_stays_within_the_radius_and_the_box(norm):
    radius = np.array([3.0 if norm == "l0" else 0.25] * 4, np.float32)
    given = case(MODEL, attack=cw.attacks.fmn(norm=norm))
    lead, distance = given.drawn(given.few[:4], radius, 50)
    assert lead.shape == distance.shape == (4, 50)
    assert (distance <= radius[0] * 1.0001).all()
    assert distance.max() > 0.5 * radius[0]
    assert len(np.unique(lead)) > 40


@pytest.mark.parametrize(
    ("shape", "counted"),
    [
        ((6, 5, 3), {}),
        ((3, 6, 5), {"channel_axis": 0}),
        ((6, 5, 3), {"per_pixel": False}),
        pytest.param((6, 5, 3), {"channel_axis": -1}, marks=pytest.mark.long),
        pytest.param((3, 6, 5), {"per_pixel": False}, marks=pytest.mark.long),
        pytest.param((90,), {}, marks=pytest.mark.long),
        pytest.param((6, 15), {}, marks=pytest.mark.long),
    ],
)
def test_noise_in_l0_counts_as_it_is_told(shape, counted):
    x = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.8, (2, *shape)), jnp.float32)
    model = cw.bind(lambda params, x: x.reshape(len(x), -1)[:, :4])
    two = jax.tree.map(lambda leaf: leaf[:2], case(MODEL).result)
    attack = cw.attacks.fmn(norm="l0", distance=cw.distances.l0(**counted))
    given = case(model, attack=attack, x=x, goal=cw.untargeted(np.zeros(2, int)), result=two)
    _, distance = given.drawn(np.arange(2), np.full(2, 7, np.float32), 5)
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


@pytest.mark.parametrize(
    ("count", "few", "some"),
    [(1, 1, 1), (2, 2, 2), (7, 7, 2), (8, 8, 2), (24, 8, 3), (63, 8, 7), (64, 8, 8), (200, 8, 10), (5200, 8, 256)],
)
def test_how_many_examples_are_looked_at_again(count, few, some):
    x = jnp.zeros((count, 1))
    given = known(1, x=x, shuffled=np.arange(count))
    assert (given.size_of_few, given.size_of_some) == (few, some)
    assert (len(given.few), len(given.some), len(given.watched)) == (few, some, min(few, some))


def test_a_margin_meets_its_goal_with_the_confidence_or_more_than_nothing():
    lead = np.array([-1.0, 0.0, 1e-6, 2.0, 2.5, np.nan])
    assert known(1).meets(lead).tolist() == [False, False, True, True, True, False]
    assert known(1, confidence=2.0).meets(lead).tolist() == [False, False, False, True, True, False]


def test_all_examples_are_drawn_from_where_none_is_left():
    given = known(10, open=np.zeros(10, bool))
    del given.__dict__["shuffled"]
    assert sorted(given.shuffled) == list(range(10))
    given = known(10, open=np.arange(10) == 3)
    del given.__dict__["shuffled"]
    assert given.shuffled.tolist() == [3]
    keys, x, goal, allowed = given.rows(given.few, given.size_of_few)
    assert len(keys) == len(x) == len(goal.label) == len(np.asarray(allowed.low)) == 8
    np.testing.assert_array_equal(x, jnp.broadcast_to(given.x[3], x.shape))


def test_rows_are_those_of_their_places_whatever_the_subset():
    given = known(10, goal=cw.untargeted(np.arange(10) % 3), high=1.0 + np.arange(10).reshape(10, 1, 1))
    keys, x, goal, allowed = given.rows(np.array([4, 1]))
    np.testing.assert_array_equal(x, given.x[jnp.array([4, 1])])
    np.testing.assert_array_equal(allowed.low, np.zeros(x.shape))
    np.testing.assert_array_equal(allowed.high, np.broadcast_to([[[5.0]], [[2.0]]], x.shape))
    assert goal.label.tolist() == [1, 1]
    assert (jax.random.key_data(keys) == jax.random.key_data(given.rows(np.array([4, 1, 7]), 3)[0][:2])).all()


def test_passes_are_added_up():
    given = known(1)
    given.spend(3)
    given.spend(np.int32(4), jnp.int32(5))
    assert given.spent == {"forwards": 7, "backwards": 5}


def test_bounds_are_of_every_element():
    low, high = known(2, low=-1.0, high=np.array([1.0, 2.0, 3.0, 4.0])).bounds
    np.testing.assert_array_equal(low, np.full(problems.SHAPE, -1.0))
    np.testing.assert_array_equal(high, np.tile(np.arange(1.0, 5.0), (3, 1)))


def test_bounds_hold_those_of_every_example():
    low, high = known(3, low=np.array([0.5, -1, 0]).reshape(3, 1, 1), high=np.array([1, 2, 4]).reshape(3, 1, 1)).bounds
    np.testing.assert_array_equal(low, np.full(problems.SHAPE, -1.0))
    np.testing.assert_array_equal(high, np.full(problems.SHAPE, 4.0))


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({}, True),
        ({"mask": np.ones((3, *problems.SHAPE), bool)}, True),
        ({"mask": np.arange(36).reshape(3, *problems.SHAPE) < 35}, False),
        ({"high": np.where(np.arange(36).reshape(3, *problems.SHAPE) < 35, 1.0, 0.0)}, False),
    ],
)
def test_every_element_may_change_where_neither_a_mask_nor_bounds_hold_one(changes, free):
    given = known(3)
    assert dataclasses.replace(given, allowed=given.allowed._replace(**changes)).free == free


@pytest.mark.parametrize(("norm", "extent"), [("l1", 36.0), ("l2", 3 * np.sqrt(12)), ("linf", 3.0), ("l0", 12.0)])
def test_what_was_not_fooled_reaches_half_of_the_box(norm, extent):
    case = found(known(3, norm=norm, low=-1.0, high=2.0), success=[True, False, True], distance=[0.5, np.inf, 0.25])
    np.testing.assert_allclose(case.reach, [0.5, extent / 2, 0.25], rtol=1e-6)


def test_pgd_climbs_within_shares_of_what_each_example_reaches():
    asked = []

    def within(name, places, radius, norm):
        asked.append((name, places.tolist(), norm))
        return radius

    reach = np.array([1.0, 2.0, 4.0], np.float32)
    climbs = known(3, within=within, reach=reach, norm="l1").climbs
    assert asked == [("pgd", [0, 1, 2] * 4, "l1")]
    np.testing.assert_allclose(climbs, np.outer([0.9, 1.5, 3.0, 6.0], reach), rtol=1e-6)


def test_the_steepest_slope_is_the_largest_of_either_sign():
    slope = np.zeros((2, *problems.SHAPE), np.float32)
    slope[0, 1, 1], slope[0, 2, 2], slope[1, 0, 0] = -3.0, 2.0, 1.0
    assert known(2, slopes=SimpleNamespace(slope=slope)).steepest.tolist() == [3.0, 1.0]


def test_answers_are_of_five_runs_of_the_few():
    times = []

    def apply(params, x):
        times.append(len(x))
        return x.reshape(len(x), -1)[:, :2] + len(times)

    given = known(10, model=cw.bind(apply, ()))
    assert given.answers.shape == (5, 8, 2)
    assert times == [32] * 5 + [8] * 5  # its code says something else each time, so it is not compiled
    np.testing.assert_allclose(given.answers[4], np.asarray(given.x[:8]).reshape(8, -1)[:, :2] + 10, rtol=1e-6)


def test_a_weaker_attack_is_measured_as_the_attack_is_where_elements_have_costs(monkeypatch):
    cost = np.linspace(1, 3, problems.inputs(1).size).reshape(problems.inputs(1).shape[1:])
    terms = Terms(cw.objectives.logit_margin(), cw.distances.l1(cost=cost), cw.boxes.projected())
    given, asked = known(10, terms=terms), []

    def within(model, keys, x, goal, allowed, radius, confidence, **options):
        asked.append(radius.tolist())
        moved = jax.tree.map(lambda leaf: leaf[:2], given.result)._replace(x=x + 1, success=np.array([True, False]))
        return moved, 1

    monkeypatch.setattr(weaker, "within", within)
    distance = given.within("pgd", np.array([4, 1]), np.array([6.0, 2.0]), "l1")
    np.testing.assert_allclose(asked, [[3, 1]])  # an element costs two in the mean
    np.testing.assert_allclose(distance, [cost.sum(), np.inf], rtol=1e-5)


def test_a_weaker_attack_is_asked_about_each_example_within_its_own_radius():
    answers = problems.mlp(MODEL.params, jnp.asarray(problems.inputs(10))).argmax(1)
    given = known(10, norm="l2", goal=cw.untargeted(answers))
    radius = np.array([1e-3, 8.0, 8.0])
    distance = given.within("pgd", np.array([4, 1, 7]), radius, "l2")
    assert distance.shape == (3,)
    assert np.isinf(distance[0])
    assert (distance[1:][np.isfinite(distance[1:])] <= 8.0).all()
    assert np.isfinite(distance[1:]).any()


def test_the_longer_path_is_of_the_longer_numbers_on_some_and_the_path_on_those_that_are_watched():
    def attack(steps):
        return cw.attacks.fmn(steps=steps, objective=cw.losses.negative_margin(1e4))  # which nothing meets

    answers = problems.mlp(MODEL.params, jnp.asarray(problems.inputs(24))).argmax(1)
    given = known(24, goal=cw.untargeted(answers), attack=attack, numbers={"steps": 3}, longer={"steps": 60})
    assert (given.path.last() + 1).tolist() == [3] * 3
    assert (given.longer_path.last() + 1).tolist() == [60] * 3
    assert given.longer_path.loss.shape == (100, 3)  # fifty steps at once
    assert given.spent == {"forwards": 3 * 3 + 3 * 60, "backwards": 3 * 3 + 3 * 60}
