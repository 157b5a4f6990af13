"""Brendel & Bethge's steps are the best there are, and the attack ends where foolbox's ends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from cwjax.attacks.brendel_bethge import brendel_bethge, trust_region_step
from tests import problems
from tests.attacks.plain_net import X, asked, goal, jacobian, logits, walk

NORMS = ["l1", "l2", "linf"]
SIZES = {"l1": 1, "l2": 2, "linf": np.inf}


def size(norm: str, change: np.ndarray) -> float:
    return float(np.linalg.norm(change.ravel(), SIZES[norm]))


@functools.cache
def steps_of(norm: str):
    return jax.jit(jax.vmap(functools.partial(trust_region_step, norm)))


COUNT, ELEMENTS = 98, 12  # of the steps in one program: those of the walk below


def drawn(reach: float):
    """Problems of a step: home, low, high, slope, change, radius."""
    rng = np.random.default_rng(0)
    clean, x = np.clip(rng.uniform(-0.2, 1.2, (2, COUNT, ELEMENTS)), 0, 1)
    slope, radius = rng.normal(size=(COUNT, ELEMENTS)), rng.uniform(0.05, 1.5, COUNT)
    change = reach * radius * np.linalg.norm(slope, axis=1) * rng.normal(size=COUNT)
    return [each.astype(np.float32) for each in (clean - x, -x, 1 - x, slope, change, radius)]


def by_scipy(norm, home, low, high, slope, change, radius):
    """The least norm by SLSQP, and None where it finds no such step. L1 and L-infinity: |delta - home| <= what is added
    to the variables, and these are summed.
    """
    elements = len(home)
    more = {"l1": elements, "l2": 0, "linf": 1}[norm]
    spread = {"l1": np.eye(elements), "l2": np.zeros((elements, 0)), "linf": np.ones((elements, 1))}[norm]
    constraints = [
        {"type": "eq", "fun": lambda z: z[:elements] @ slope - change},
        {"type": "ineq", "fun": lambda z: radius**2 - z[:elements] @ z[:elements]},
    ]
    if more:
        rows = np.block([[-np.eye(elements), spread], [np.eye(elements), spread]])
        constraints.append({"type": "ineq", "fun": lambda z: rows @ z + np.concatenate([home, -home])})

    def cost(z):
        return z[elements:].sum() if more else ((z - home) ** 2).sum()

    bounds = [*zip(low, high, strict=True), *[(0, 2)] * more]
    begin = np.concatenate([0.2 * home, np.ones(more)])
    found = minimize(cost, begin, bounds=bounds, constraints=constraints, options={"ftol": 1e-12, "maxiter": 300})
    return (found.fun if more else np.sqrt(max(found.fun, 0))) if found.success else None


@pytest.mark.parametrize("norm", ["l2", "linf", pytest.param("l1", marks=pytest.mark.long)])
def test_no_step_within_the_trust_region_ends_nearer(norm):
    given = drawn(0.4)
    steps, compared = np.asarray(steps_of(norm)(*given), np.float64), 0
    for i, (step, home, low, high, slope, change, radius) in enumerate(zip(steps, *given, strict=True)):
        assert np.linalg.norm(step) <= radius * (1 + 1e-5)
        assert (step >= low).all()
        assert (step <= high).all()
        least = by_scipy(norm, home, low, high, slope, change, radius) if i < 12 else None
        if least is not None:
            assert step @ slope == pytest.approx(change, abs=2e-5)
            assert size(norm, step - home) == pytest.approx(least, abs=1e-4)
            compared += 1
    assert compared >= 8


def test_with_room_it_is_the_linear_programs_step():
    home, low, high, slope, change, radius = drawn(0.4)
    steps = np.asarray(steps_of("linf")(home, low, high, slope, change, 0 * radius + 10), np.float64)
    compared = 0
    for i, step in enumerate(steps[:16]):
        one = np.ones((ELEMENTS, 1))
        sides = np.block([[np.eye(ELEMENTS), -one], [-np.eye(ELEMENTS), -one]])
        bounds = [*zip(low[i], high[i], strict=True), (0, 2)]
        plane = {"A_eq": np.append(slope[i], 0)[None], "b_eq": change[i : i + 1]}
        found = linprog(
            np.eye(ELEMENTS + 1)[ELEMENTS], sides, np.concatenate([home[i], -home[i]]), bounds=bounds, **plane
        )
        if found.success:
            assert size("linf", step - home[i]) == pytest.approx(found.fun, abs=2e-5)
            compared += 1
    assert compared >= 10


@pytest.mark.parametrize("norm", NORMS)
def test_out_of_reach_it_comes_as_near_to_the_plane_as_it_may(norm):
    given = drawn(8.0)
    steps, missed = np.asarray(steps_of(norm)(*given), np.float64), 0
    for step, _, low, high, slope, change, radius in zip(steps, *given, strict=True):
        if abs(step @ slope - change) < 1e-3:
            continue
        towards = np.sign(change) * slope
        # The most by halving: clip(nu·towards) as long as the radius lets it be.
        least, most = 0.0, 1e4
        for _ in range(80):
            middle = (least + most) / 2
            inside = np.linalg.norm(np.clip(middle * towards, low, high)) <= radius
            least, most = (middle, most) if inside else (least, middle)
        assert step @ towards == pytest.approx(np.clip(least * towards, low, high) @ towards, rel=1e-4)
        missed += 1
    assert missed >= 10


# foolbox 3.3.4, `…BrendelBethgeAttack(steps=100, lr=0.02)` by PyTorch 2.14.1, on the network and twelve inputs of
# `tests.problems`, one at a time, each from the first of them with another answer: the distance of what it returns.
# Untargeted, and towards the answer at the start.
FOOLBOX = {
    "l2": (
        [
            0.02267,
            0.07191,
            0.52042,
            0.63966,
            0.09144,
            0.00245,
            1.20723,
            0.63540,
            0.33011,
            0.73337,
            0.11701,
            0.04420,
        ],
        [
            1.09384,
            0.53497,
            0.88456,
            0.71434,
            0.09144,
            0.00245,
            1.49555,
            0.74531,
            1.09758,
            0.73337,
            0.29168,
            1.19691,
        ],
    ),
    "linf": (
        [0.55985, 0.02506, 0.18687, 0.18622, 0.03801, 0.00096, 0.48262, 0.43923, 0.56014, 0.22653, 0.03978, 0.01530],
        [0.51364, 0.22018, 0.39102, 0.29267, 0.05821, 0.00096, 0.65493, 0.44344, 0.48868, 0.45494, 0.19377, 0.51097],
    ),
}
# A look at the start and ten of the search come before foolbox's hundred steps.
ATTACKS = {norm: brendel_bethge(norm=norm, radius=0.02, steps=111) for norm in NORMS}
ATTACK = ATTACKS["l2"]


@pytest.mark.parametrize(("norm", "nearer"), [("l2", 0), pytest.param("linf", 3, marks=pytest.mark.long)])
def test_it_ends_where_foolboxs_ends_or_nearer(norm, nearer):
    x = problems.inputs(12)
    answers = [int(logits(each.astype(np.float64)).argmax()) for each in x]
    starts = [next(j for j, other in enumerate(answers) if other != answer) for answer in answers]
    ended = []
    for sign, distances in zip((-1.0, 1.0), FOOLBOX[norm], strict=True):
        for i in range(len(distances)):
            label = answers[starts[i] if sign > 0 else i]
            _, progress = walk(ATTACKS[norm], x[i], goal(label, sign), 111, start=jnp.asarray(x[starts[i]]))
            ended.append(float(progress.best.distance))
    expected = np.concatenate(FOOLBOX[norm])
    # Ours stops short of the boundary by what rounding may take.
    close = np.isclose(ended, expected, rtol=1e-3, atol=2e-5)
    assert (close | (ended < expected)).all()
    assert (~close).sum() == nearer


def margin(x: np.ndarray, label: int) -> tuple[float, np.ndarray]:
    """The label's lead over the class that comes next, with what rounding may take in float32, and its slope."""
    z, slopes = logits(x), jacobian(x)
    other = np.where(np.arange(len(z)) == label, -np.inf, z).argmax()
    return z[label] - z[other] + 64 * np.finfo(np.float32).eps * np.abs(z).max(), slopes[label] - slopes[other]


def test_it_follows_its_recipe():
    x, label = X[4].astype(np.float64), asked(4, -1.0)
    points, progress = walk(ATTACK, X[4], goal(label, -1.0), 111)
    assert int(progress.forwards) == int(progress.backwards) == len(points) == 111

    # The clean input, noise, and ten points of the way between the two.
    noise, low, high = points[1], 0.0, 1.0
    np.testing.assert_array_equal(points[0], x)
    assert margin(noise, label)[0] < 0
    for point in points[2:12]:
        middle = (low + high) / 2
        np.testing.assert_allclose(point, x + middle * (noise - x), atol=1e-6)
        low, high = (low, middle) if margin(point, label)[0] < 0 else (middle, high)
    np.testing.assert_allclose(points[12], x + high * (noise - x), atol=1e-6)

    # 99 points are left: the radius is halved with every fourth.
    normal, given = margin(points[12], label)[1], []
    for i, point in enumerate(points[12:-1]):
        lead, slope = margin(point, label)
        normal = 0.8 * normal + 0.2 * slope
        change, radius = -lead * (0.9 if lead < 0 else 1.1), 0.02 * 12 * 0.5 ** ((i + 2) // 4)
        given.append([(x - point).ravel(), -point.ravel(), 1 - point.ravel(), normal.ravel(), change, radius])
    steps = steps_of("l2")(*[np.float32(np.stack(each)) for each in zip(*given, strict=True)])
    np.testing.assert_allclose(points[13:], points[12:-1] + np.asarray(steps).reshape(-1, 3, 4), atol=1e-5)


def test_a_slope_of_zero_moves_nothing():
    home, low, high, slope, change, radius = drawn(0.4)
    np.testing.assert_array_equal(steps_of("l2")(home, low, high, 0 * slope, change, radius), 0 * home)


@pytest.mark.parametrize(("place", "sign", "looks"), [(1, -1.0, 2), (4, 1.0, 0)])
def test_where_noise_does_not_help_it_steps_across_the_boundary(place, sign, looks):
    # Away from class 1's label noise is looked at, and then the clean input again. Towards a target it is not.
    label = asked(place, sign)
    points, progress = walk(ATTACK, X[place], goal(label, sign), 111)
    np.testing.assert_array_equal(points[looks], X[place].astype(np.float64))
    z = logits(points[looks])
    other = np.where(np.arange(len(z)) == label, -np.inf, z).argmax()
    lead = -sign * (z[label] - z[other])
    slope = -sign * (jacobian(points[looks])[label] - jacobian(points[looks])[other])
    x = points[looks].ravel()
    given = 0 * x, -x, 1 - x, slope.ravel(), -1.1 * lead, 12.0
    step = steps_of("l2")(*[np.float32(np.stack([each] * COUNT)) for each in given])[0]
    np.testing.assert_allclose(points[looks + 1].ravel(), x + np.asarray(step), atol=1e-4)
    assert np.isfinite(progress.best.distance)


def test_held_elements_stay():
    mask = jnp.arange(12).reshape(3, 4) % 2 == 0
    points, _ = walk(ATTACK, X[1], goal(asked(1, -1.0), -1.0), 30, mask=mask)
    held = ~np.asarray(mask)
    np.testing.assert_array_equal(points[:, held], np.stack([X[1][held]] * len(points)).astype(np.float64))
    assert not np.array_equal(points[0], points[-1])


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"norm": "l0"}, "norm must be one of l1, l2, linf, got 'l0'"),
        ({"radius": 0}, "radius must be more than 0, got 0"),
        ({"decay": 1.5}, "decay must be at most 1, got 1.5"),
        ({"decays": 0}, "decays must be at least 1, got 0"),
        ({"momentum": -0.1}, "momentum must be at least 0, got -0.1"),
        ({"overshoot": 0.9}, "overshoot must be at least 1, got 0.9"),
        ({"draws": -1}, "draws must be at least 0, got -1"),
        ({"search_steps": -1}, "search_steps must be at least 0, got -1"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"objective": "f6"}, "objective must be of the type cwjax.Objective, got the text 'f6'"),
    ],
)
def test_what_it_refuses(told, message):
    with pytest.raises((ValueError, TypeError), match=message):
        brendel_bethge(**told)
