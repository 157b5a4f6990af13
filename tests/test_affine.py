"""On affine models the attack finds the smallest perturbation there is.

Between two classes of an affine model lies a hyperplane, at distance lead / |normal| where the box does not matter
(|normal| in the dual norm). Reaching a class means crossing K - 1 of them at once, leaving one means crossing any:
quadratic programmes in the L2 norm, linear ones in L1 and L-infinity, which SciPy solves here. The fewest pixels that
cross one hyperplane are those that gain most.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

import cwjax as cw

CLASSES, SIZE, COUNT = 5, 6, 24


def apply(params, x):
    weights, bias = params
    return x.reshape(x.shape[0], -1) @ weights + bias[None]


def bound(weights, bias) -> cw.Model:
    return cw.bind(apply, (jnp.asarray(weights, jnp.float32), jnp.asarray(bias, jnp.float32)))


def smallest_step(norm, x, normals, leads, lower, upper):
    """The norm of the smallest delta in the box with normals @ delta >= leads; inf if there is none."""
    box = list(zip(lower - x, upper - x, strict=True))
    if norm == "l2":
        solved = optimize.minimize(
            lambda delta: delta @ delta,
            np.linalg.lstsq(normals, leads)[0],
            jac=lambda delta: 2 * delta,
            method="SLSQP",
            bounds=box,
            constraints={"type": "ineq", "fun": lambda delta: normals @ delta - leads, "jac": lambda delta: normals},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return np.sqrt(solved.fun) if solved.success and (normals @ solved.x >= leads - 1e-6).all() else np.inf
    # Variables delta and sizes, with |delta| <= of @ sizes: a size for every element, or one for all of them.
    each = np.eye(len(x))
    of = {"l1": each, "linf": np.ones((len(x), 1))}[norm]
    sizes = of.shape[1]
    solved = optimize.linprog(
        np.concatenate([np.zeros(len(x)), np.ones(sizes)]),
        A_ub=np.block([[-normals, np.zeros((len(leads), sizes))], [each, -of], [-each, -of]]),
        b_ub=np.concatenate([-leads, np.zeros(2 * len(x))]),
        bounds=box + [(0, None)] * sizes,
    )
    return solved.fun if solved.success else np.inf


def minimum(norm, weights, bias, x, label, sign, lower, upper, confidence):
    """The smallest step towards `label` (sign 1) or away from it (sign -1), at a confidence."""
    logits = x @ weights + bias
    others = np.delete(np.arange(CLASSES), label)
    normals = sign * (weights[:, label, None] - weights[:, others]).T
    leads = sign * (logits[others] - logits[label]) + confidence
    if sign > 0:
        return smallest_step(norm, x, normals, leads, lower, upper)
    return min(smallest_step(norm, x, normals[k : k + 1], leads[k : k + 1], lower, upper) for k in range(len(others)))


@pytest.mark.parametrize(("norm", "dual"), [("l1", np.inf), ("l2", 2), ("linf", 1)])
def test_the_reference_is_the_closed_form_where_the_box_does_not_matter(norm, dual):
    rng = np.random.default_rng(0)
    weights, bias, x = rng.normal(size=(SIZE, CLASSES)), rng.normal(size=CLASSES), rng.uniform(size=SIZE)
    logits = x @ weights + bias
    label = int(logits.argmax())
    leads = logits[label] - np.delete(logits, label)
    norms = np.linalg.norm(weights[:, [label]] - np.delete(weights, label, axis=1), ord=dual, axis=0)
    closed = (leads / norms).min()
    assert minimum(norm, weights, bias, x, label, -1, -99.0, 99.0, 0.0) == pytest.approx(closed, rel=1e-6)


# Why each is not at its defaults. L1: a round at too small a c may still pass through an example, but not the nearest,
# and from there the search goes down; so it comes from above. L-infinity: a factor of 0.9 would be 10 % off.
ATTACKS: dict[str, Callable[..., cw.Attack]] = {
    "l2": functools.partial(
        cw.l2,
        optimizer=optax.adam(5e-3),
        search=cw.search.binary_search(16, initial_c=0.1),
        steps=3000,
        abort=cw.aborts.never(),
    ),
    "l1": functools.partial(
        cw.l1,
        optimizer=optax.adam(optax.cosine_decay_schedule(2e-2, 4000)),
        search=cw.search.binary_search(6, initial_c=10.0),
        steps=4000,
        abort=cw.aborts.never(),
    ),
    "linf": functools.partial(
        cw.linf,
        optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, 2000, alpha=1e-2)),
        search=cw.search.shrink_tau(initial_c=0.1, factor=0.995, smallest=1e-4),
        steps=1000,
        largest_c=2.0,
    ),
}


QUICK = [("l2", "change_of_variables"), ("l1", "projected"), ("linf", "change_of_variables")]


@functools.cache
def runner(norm: str, box: str) -> Callable[..., cw.Result]:
    """One program for either kind of goal and every confidence."""

    @jax.jit
    def run(model, x, goal, confidence):
        attack = ATTACKS[norm](objective=cw.objectives.logit_margin(confidence), box=getattr(cw.boxes, box)())
        return cw.batched(attack)(model, jax.random.split(jax.random.key(0), COUNT), x, goal)

    return run


@pytest.mark.parametrize(
    ("targeted", "confidence"),
    [(True, 0.3), *(pytest.param(*each, marks=pytest.mark.long) for each in [(False, 0.0), (False, 0.3), (True, 0.0)])],
)
@pytest.mark.parametrize(
    ("norm", "box"),
    [
        pytest.param(norm, box, marks=[pytest.mark.long] * ((norm, box) not in QUICK))
        for norm in ATTACKS
        for box in ("change_of_variables", "projected", "clipped")
    ],
)
def test_finds_the_smallest_perturbation(norm, box, targeted, confidence):
    rng = np.random.default_rng(3)
    weights = 2 * np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0][:, :CLASSES]
    bias = 0.3 * rng.normal(size=CLASSES)
    x = np.clip(rng.uniform(-0.1, 1.1, size=(COUNT, SIZE)), 0, 1)
    answers = (x @ weights + bias).argmax(1)
    label = (answers + rng.integers(1, CLASSES, COUNT)) % CLASSES if targeted else answers
    sign = 1 if targeted else -1

    def minima(lower, upper):
        return np.array(
            [minimum(norm, weights, bias, x[i], label[i], sign, lower, upper, confidence) for i in range(COUNT)]
        )

    def step(i, k):
        """Over the boundary between the label of example i and class k."""
        normal, logits = weights[:, k] - weights[:, label[i]], x[i] @ weights + bias
        lead = logits[label[i]] - logits[k] + confidence
        return smallest_step(norm, x[i], normal[None], lead[None], 0.0, 1.0)

    expected, free = minima(0.0, 1.0), minima(-9.0, 9.0)
    goal = (cw.targeted if targeted else cw.untargeted)(label.astype(np.int32))
    result = runner(norm, box)(bound(weights, bias), jnp.asarray(x, jnp.float32), goal, confidence)

    # Untargeted f6 follows whichever logit comes next, so where the box bends the way it may cross another boundary
    # than the nearest; so the paper's attack does, by its definition. Over the boundary that it crosses, the step is
    # the smallest.
    if not targeted:
        logits = np.asarray(result.x) @ weights + bias
        logits[np.arange(COUNT), label] = -np.inf
        crossed = np.array([step(i, logits[i].argmax()) for i in range(COUNT)])
        assert (crossed <= expected * 1.001).mean() > 0.6
        expected = np.where(np.isfinite(expected), crossed, np.inf)

    possible = np.isfinite(expected)
    assert possible.sum() > COUNT / 2
    np.testing.assert_array_equal(np.asarray(result.success), possible)
    np.testing.assert_allclose(np.asarray(result.distance)[possible], expected[possible], rtol=0.01, atol=1e-4)
    # The box is active in some cases, and the class fallen into is often not class 0 (foolbox on JAX always took class
    # 0).
    assert (expected[possible] > free[possible] * 1.001).any()
    reached = (np.asarray(result.x) @ weights + bias).argmax(1)[possible]
    assert (reached != 0).mean() > 0.5


def fewest_pixels(normal, x, lead):
    """How many pixels have to change for normal @ delta >= lead in the unit box: those that gain most at its edges."""
    gains = np.maximum(normal * (0 - x), normal * (1 - x))
    gains = gains.sum(-1) if x.ndim == 3 else gains
    enough = np.cumsum(np.sort(gains, axis=None)[::-1]) >= lead
    return enough.argmax() + 1 if enough.any() else np.inf


@functools.cache
def l0_runner(box: str) -> Callable[..., cw.Result]:
    pixels = cw.distances.l0(channel_axis=-1)
    search = cw.search.shrink_mask(removal=cw.search.one_pixel(), channel_axis=-1)
    attack = cw.l0(box=getattr(cw.boxes, box)(), search=search, steps=200, largest_c=100.0, distance=pixels)
    return jax.jit(cw.batched(attack))


def pixels(box, shape, x, share):
    """The attack's counts and the fewest there are, between two classes whose leads are about a share of what all
    pixels together gain.
    """
    normal = np.random.default_rng(0).normal(size=shape)
    if len(shape) == 3:
        normal = np.abs(normal) * np.sign(normal[..., :1])  # opposite channels cancel in the score of a pixel
    flat, scores = normal.ravel(), x.reshape(COUNT, -1) @ normal.ravel()
    bias = scores.max() + share * np.abs(flat).sum() / 2
    expected = np.array([fewest_pixels(normal, x[i], bias - scores[i] + 0.01) for i in range(COUNT)])
    model = bound(np.stack([-flat / 2, flat / 2], 1), np.array([bias / 2, -bias / 2]))
    goal = cw.untargeted(np.zeros(COUNT, np.int32))
    result = l0_runner(box)(model, jax.random.split(jax.random.key(0), COUNT), jnp.asarray(x, jnp.float32), goal)
    np.testing.assert_array_equal(result.success, np.isfinite(expected))
    return np.asarray(result.distance), expected


# The score of a pixel is about delta²·dx/dw at a success, where f has no slope. In the change of variables dx/dw falls
# to zero at the edge of the box: of all the way from the middle to the edge, a pixel scores most at 71 % of it, and one
# that goes on to the edge next to nothing. So where whole pixels are needed the most useful ones are frozen first.
SATURATED = pytest.mark.xfail(raises=AssertionError, reason="the released score freezes pixels at the edge of the box")


@pytest.mark.parametrize("shape", [(12,), pytest.param((4, 4, 3), marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("box", "shares"),
    [
        pytest.param("change_of_variables", [0.05, 0.1], marks=pytest.mark.long),
        pytest.param("change_of_variables", [0.45, 0.6], marks=SATURATED),
        ("projected", [0.05, 0.1, 0.3, 0.45, 0.6, 1.2]),
        pytest.param("clipped", [0.05, 0.1, 0.3, 0.45, 0.6, 1.2], marks=pytest.mark.long),
    ],
)
def test_l0_finds_the_fewest_pixels_where_all_have_the_same_room(box, shape, shares):
    x = np.random.default_rng(5).uniform(0.48, 0.52, size=(COUNT, *shape))
    counts, expected = zip(*[pixels(box, shape, x, share) for share in shares], strict=True)
    np.testing.assert_array_equal(counts, expected)
    assert len(np.unique(expected)) >= len(shares) - 1


@pytest.mark.parametrize("shape", [(12,), pytest.param((4, 4, 3), marks=pytest.mark.long)])
def test_l0_is_at_most_a_pixel_off_where_rooms_differ(shape):
    # A score of delta² is not what the pixel gains, normal·delta: one close to its bound moves little, whatever that
    # little is worth. So the greedy rule, as it is printed and released, may freeze the wrong pixel.
    x = np.clip(np.random.default_rng(5).uniform(-0.1, 1.1, size=(COUNT, *shape)), 0, 1)
    counts, expected = np.stack([pixels("projected", shape, x, share) for share in [0.05, 0.1, 0.2]], 1)
    extra = counts - expected
    assert np.isfinite(expected).all()
    assert (extra >= 0).all()
    assert (extra <= 1).all()
    assert (extra > 0).mean() < 0.2


# Features of unequal width: age, income, a rate


def spread_model(params, x):
    (weights, bias), width = params
    return (x / width[None]) @ weights + bias[None]


def spread_problem(spread, count=12, size=16):
    """Inputs between 0 and widths that span so large a range, and a model of the shares of those."""
    rng = np.random.default_rng(32)
    weights = rng.normal(size=(size, CLASSES)).astype(np.float32)
    width = np.geomspace(spread**-0.5, spread**0.5, size).astype(np.float32)
    x = (width * rng.uniform(size=(count, size))).astype(np.float32)
    bias = (-0.5 * weights.sum(0)).astype(np.float32)
    return (weights, bias), width, x


def least_l1(normal, lead, x, width):
    """By the greedy algorithm: the steepest element first, to its bound."""
    room = np.where(normal > 0, width - x, x)
    total = 0.0
    for i in np.argsort(-np.abs(normal)):
        gain = np.abs(normal[i]) * room[i]
        if gain >= lead:
            return total + lead / np.abs(normal[i])
        total, lead = total + room[i], lead - gain
    return np.inf


@jax.jit
def spread_l1(params, width, keys, x, goal):
    run = cw.batched(cw.fast("l1", steps=300))
    return run(cw.bind(spread_model, (params, width)), keys, x, goal, high=width)


@pytest.mark.long
@pytest.mark.optimized
@pytest.mark.parametrize(("spread", "above"), [(1.0, 0.01), (100.0, 0.02), (1e4, 0.1)])
def test_fast_l1_knows_the_width_of_each_feature(spread, above):
    (weights, bias), width, x = spread_problem(spread)
    slopes = weights.astype(np.float64) / width[:, None]
    logits = x.astype(np.float64) @ slopes + bias
    label = logits.argmax(1)
    least = np.full((len(x), CLASSES), np.inf)
    for i, k in np.ndindex(least.shape):
        if k != label[i]:
            lead = logits[i, label[i]] - logits[i, k]
            least[i, k] = least_l1(slopes[:, k] - slopes[:, label[i]], lead, x[i].astype(np.float64), width)

    def ratios(goal):
        keys = jax.random.split(jax.random.key(0), len(x))
        result = spread_l1((weights, bias), width, keys, x, goal)
        assert result.success.all()
        return np.abs(np.asarray(result.x, np.float64) - x).sum(1) / least.min(1)

    assert ratios(cw.targeted(least.argmin(1))).mean() <= 1 + above
    assert np.median(ratios(cw.untargeted(label))) <= 1 + above
