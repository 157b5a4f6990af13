"""A fixed radius made a least one, and the radius tau, which shrinks as in the released code."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.fgsm import fgsm
from cwjax.attacks.pgd import pgd
from cwjax.base import untouched
from cwjax.problems import problem
from cwjax.search.radius import minimised, search_scale, shrink_bounds, shrink_tau
from cwjax.search.rounds import searched
from tests.search.outcomes import a_problem, fake, outcome, told

DUAL = {"l2": 2, "linf": 1}


def affine():
    """Two classes, eight points in the middle of the box, the answers, and how far each leads."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=10).astype(np.float32)
    weights = np.stack([normal, np.zeros_like(normal)], axis=1)
    x = rng.uniform(0.4, 0.6, size=(8, 10)).astype(np.float32)
    lead = (x - 0.5).astype(np.float64) @ normal
    bias = np.array([-0.5 * normal.sum(), 0], np.float32)
    model = cw.bind(lambda params, x: x @ params[0] + params[1][None], (weights, bias))
    return model, x, (lead < 0).astype(np.int64), np.abs(lead), normal.astype(np.float64)


@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        ("fgsm", "l2"),
        ("pgd", "linf"),
        pytest.param("fgsm", "linf", marks=pytest.mark.long),
        pytest.param("pgd", "l2", marks=pytest.mark.long),
    ],
)
def test_it_is_the_closed_form_on_an_affine_model(norm, attack):
    model, x, labels, lead, normal = affine()
    inner = (
        fgsm(epsilon=0.3, norm=norm) if attack == "fgsm" else pgd(epsilon=0.01, norm=norm, relative_step=0.5, steps=24)
    )
    run = jax.jit(cw.batched(minimised(inner, steps=22)))
    result = run(model, jax.random.split(jax.random.key(0), 8), jnp.asarray(x), cw.untargeted(labels))
    assert result.success.all()
    np.testing.assert_allclose(result.distance, lead / np.linalg.norm(normal, DUAL[norm]), rtol=5e-3)


def scales(threshold, steps, **settings):
    """What is tried where every scale from the threshold up succeeds."""
    given = problem(jnp.zeros(2), cw.LabelGoal(jnp.asarray(0, jnp.int32), jnp.asarray(1.0)))
    search = search_scale(steps, **settings)
    knob, tried = search.init(given), []
    while not search.done(knob):
        scale = float(search.ask(given, knob).scale)
        tried.append(scale)
        clean = untouched(given)
        distance = jnp.asarray(0.0 if scale >= threshold else jnp.inf)
        knob = search.tell(given, knob, clean._replace(best=clean.best._replace(distance=distance)))
    return tried


def test_it_doubles_or_halves_until_it_has_both_and_then_bisects():
    assert scales(5.5, 7) == [1, 2, 4, 8, 6, 5, 5.5]
    assert scales(0.2, 6) == [1, 0.5, 0.25, 0.125, 0.1875, 0.21875]
    assert scales(2.0, 4, factor=10.0) == [1, 10, 5.5, 3.25]


def test_a_round_ends_at_its_first_success():
    model, x, labels, _, _ = affine()
    inner = pgd(epsilon=2.0, relative_step=1.0, steps=50, random_start=False)
    run = jax.jit(cw.batched(minimised(inner, steps=1)))
    result = run(model, jax.random.split(jax.random.key(0), 8), jnp.asarray(x), cw.untargeted(labels))
    assert (result.forwards == 2).all()
    assert result.finished.all()


def test_numbers_that_make_no_sense():
    cases: list[dict[str, Any]] = [{"steps": 0}, {"factor": 1.0}]
    for wrong in cases:
        with pytest.raises(ValueError, match="must be"):
            minimised(fgsm(epsilon=0.1), **wrong)


def met(is_met):
    """What came of a point that meets the goal, or does not."""
    fresh = untouched(a_problem())
    return fresh._replace(last=fresh.last._replace(met=jnp.array(is_met)))


def test_bounds_are_drawn_in_after_a_success_and_not_for_a_point_moved_within_the_old_ones():
    given = a_problem()._replace(x=jnp.array([0.5, 0.2, 0.0]), scale=jnp.float32(3.0))
    search, shares = shrink_bounds(factor=0.5), []
    knob = search.init(given)
    for is_met in (False, True, True, True, False, True):  # the third was moved before the bounds were drawn in
        asked = search.ask(given, knob)
        shares.append(float(asked.scale) / 3)
        np.testing.assert_allclose(asked.low, given.x * (1 - shares[-1]), rtol=1e-6)
        np.testing.assert_allclose(asked.high, given.x + shares[-1] * (1 - given.x), rtol=1e-6)
        assert np.isinf(asked.tau)
        assert not search.done(knob)
        knob = search.tell(given, knob, met(is_met))
    assert shares == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert float(knob.share) == 0.125


def test_bounds_that_do_not_shrink_are_refused():
    for factor in (0.0, 1.0, -0.5, np.nan):
        with pytest.raises(ValueError, match="must be"):
            shrink_bounds(factor=factor)


def test_tau_begins_free():
    knob = shrink_tau(initial_c=0.25).init(a_problem())
    assert (float(knob.tau), float(knob.c), bool(knob.over)) == (np.inf, 0.25, False)
    np.testing.assert_array_equal(knob.start, 0.5)


def test_after_a_success_tau_is_below_the_distance_reached_and_the_round_goes_on_from_there():
    search = shrink_tau(factor=0.8)
    knob = search.tell(a_problem(), search.init(a_problem()), outcome(0.5, c=3.0, x=[0.0, 0.1, 0.5]))
    assert float(knob.tau) == pytest.approx(0.4)
    assert float(knob.c) == 3
    np.testing.assert_array_equal(knob.start, jnp.array([0.0, 0.1, 0.5]))
    assert not search.done(knob)


@pytest.mark.parametrize(
    ("distance", "over"),
    [(0.19, False), (0.2, False), (0.21, True), (np.inf, True)],
    ids=["below tau", "at tau", "found, but beyond tau", "none found"],
)
def test_a_round_fails_unless_it_finds_an_example_within_tau(distance, over):
    search = shrink_tau()
    knob = search.init(a_problem())._replace(tau=jnp.float32(0.2))
    assert bool(search.done(search.tell(a_problem(), knob, outcome(distance)))) == over


@pytest.mark.parametrize(
    ("distance", "smallest", "over"),
    [
        (0.25, 0.125, True),  # tau 0.125
        (0.2500001, 0.125, False),
        (0.0, 0.125, True),  # the clean input is an example
        (0.0, 0.0, True),
        (1e-6, 0.0, False),
        (0.0087, 1 / 256, False),  # times one half: 0.00435
        (0.0078, 1 / 256, True),  # 0.0039
    ],
)
def test_no_round_is_run_at_the_smallest_tau(distance, smallest, over):
    search = shrink_tau(factor=0.5, smallest=smallest)
    assert bool(search.done(search.tell(a_problem(), search.init(a_problem()), outcome(distance)))) == over


def test_the_smallest_tau_is_a_step_of_8_bit_pixels_unless_told():
    search = shrink_tau(factor=0.5)
    ends = [
        bool(search.done(search.tell(a_problem(), search.init(a_problem()), outcome(2 * tau / 256))))
        for tau in (0.9, 1, 1.1)
    ]
    assert ends == [True, True, False]


@pytest.mark.parametrize("factor", [0.9, 0.5])
@pytest.mark.parametrize("smallest", [1 / 256, 0.2])
@pytest.mark.parametrize("limit", [0.0, 0.1, 0.37, 2.0])
def test_tau_shrinks_as_in_the_released_code(limit, smallest, factor):
    # Within a free tau the attack reaches 0.8, later it needs 97 % of tau; below the limit there is nothing.
    def reached(tau):
        return 0.8 if np.isinf(tau) else 0.97 * tau

    def distance(problem):
        near = jnp.where(jnp.isinf(problem.tau), 0.8, 0.97 * problem.tau)
        return jnp.where(near < limit, jnp.inf, near)

    search = shrink_tau(initial_c=0.5, factor=factor, smallest=smallest)
    knobs, progress = told(searched(fake(distance), search), a_problem())

    tau, expected, best = np.inf, [], np.inf  # li_attack.py
    while tau > smallest:
        expected.append(tau)
        if reached(tau) < limit:
            break
        best = reached(tau)
        tau = factor * min(best, tau)

    np.testing.assert_allclose([knob.tau for knob in knobs], np.repeat(expected, 2), rtol=1e-5)
    assert int(progress.forwards) == 2 * len(expected)
    np.testing.assert_allclose(progress.best.distance, best, rtol=1e-5)
    # Each round starts from the example and the weight of the one before.
    starts, weights = [knob.start for knob in knobs[::2]], [float(knob.c) for knob in knobs[::2]]
    np.testing.assert_allclose(weights, 0.5 * 3.0 ** np.arange(len(expected)), rtol=1e-5)
    for before, start, c in zip(starts, starts[1:], weights, strict=False):
        np.testing.assert_allclose(start, [before[1] + 1, before[0] + 1, c], rtol=1e-6)


@pytest.mark.parametrize(
    "numbers", [{"initial_c": 0.0}, {"factor": 1.0}, {"factor": 0.0}, {"factor": 1.5}, {"smallest": -0.1}]
)
def test_a_radius_that_cannot_shrink_is_refused(numbers):
    with pytest.raises(ValueError, match="must be"):
        shrink_tau(**numbers)
