"""The points that an attack asks about, and the network of `tests.problems` in NumPy, to recompute them with."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.problems import ANYWHERE, Allowed, problem
from tests import problems

PARAMS = problems.mlp_params(dtype=np.float64)
COUNT = 8
X = problems.inputs(COUNT).astype(np.float64)
GOAL = problems.goals(cw.bind(problems.mlp, problems.mlp_params()), X)
LABELS, SIGNS = np.asarray(GOAL.label), np.asarray(GOAL.sign)


@functools.cache
def program(attack: cw.Attack, steps: int, apply: Callable[..., Any]) -> Callable[..., Any]:
    """The attack's last state and the points that it asks about, compiled once for all weights and masks."""

    @jax.jit
    def run(params, keys, x, goal, allowed, mask):
        model = cw.bind(apply, params)

        def one(key, x, goal):
            given = problem(x, goal, allowed)
            given = given._replace(mask=given.mask & mask)
            return jax.lax.scan(
                lambda state, _: (attack.step(model, given, state), state.w), attack.init(key, given), length=steps
            )

        return jax.vmap(one)(keys, x, goal)

    return run


def walked(
    attack: cw.Attack,
    steps: int,
    *,
    apply: Callable[..., Any] = problems.mlp,
    params: Any = PARAMS,
    mask: Any = True,
    x: Any = X,
    allowed: Allowed = ANYWHERE,
) -> tuple[np.ndarray, Any]:
    """The points [COUNT, steps, *S] that the attack asks about on X, in float64, and its progress after them."""
    with jax.enable_x64(True):
        goal = cw.LabelGoal(label=jnp.asarray(LABELS), sign=jnp.asarray(SIGNS, jnp.float64))
        given = jax.tree.map(jnp.asarray, params), problems.keys(len(x)), jnp.asarray(x), goal, allowed
        state, points = program(attack, steps, apply)(*given, np.broadcast_to(mask, x.shape[1:]))
        return np.asarray(points), jax.tree.map(np.asarray, state.progress)


def assert_follows(
    attack: cw.Attack, recipe: Callable[..., list[np.ndarray]], steps: int, looks: int = 0, **settings
) -> None:
    """The attack asks about the points that `recipe(x, label, sign, steps, first=…)` gives, on every example, after so
    many looks at the clean input.
    """
    points, _ = walked(attack, steps + looks)
    np.testing.assert_array_equal(points[:, :looks], np.broadcast_to(X[:, None], points[:, :looks].shape))
    points = points[:, looks:]
    for i in range(COUNT):
        expected = recipe(X[i], LABELS[i], SIGNS[i], steps, first=points[i, 0], **settings)
        np.testing.assert_allclose(points[i], np.array(expected), atol=1e-7, err_msg=f"example {i}")


def mlp_or_constant(params: Any, x: Any) -> Any:
    """The network, or logits that are the same everywhere."""
    weights, constant = params
    return jnp.where(constant, jnp.arange(problems.CLASSES)[None] * 1.0, problems.mlp(weights, x))


def assert_behaves(attack: cw.Attack, steps: int) -> None:
    """What holds for any attack: still elements stay, a met goal is at distance 0, no slope is no NaN."""
    mask = np.arange(12).reshape(3, 4) % 3 > 0
    points, progress = walked(attack, steps, apply=mlp_or_constant, params=(PARAMS, False), mask=mask)
    np.testing.assert_array_equal(points[:, :, ~mask], np.broadcast_to(X[:, None, ~mask], points[:, :, ~mask].shape))
    assert (points[:, :, mask] != X[:, None, mask]).any()
    assert progress.finite.all()

    points, progress = walked(attack, steps, apply=mlp_or_constant, params=(PARAMS, True))
    assert np.isfinite(points).all()
    assert progress.finite.all()
    met = np.where(SIGNS > 0, LABELS == problems.CLASSES - 1, LABELS != problems.CLASSES - 1)
    assert met.any()
    assert not met.all()
    np.testing.assert_array_equal(np.isfinite(progress.best.distance), met)


def logits(x):
    return np.tanh(x.ravel() @ PARAMS["w1"] + PARAMS["b1"]) @ PARAMS["w2"] + PARAMS["b2"]


def pulled(x, weights):
    """The slope in x of `weights @ logits(x)`."""
    hidden = np.tanh(x.ravel() @ PARAMS["w1"] + PARAMS["b1"])
    return (PARAMS["w1"] @ ((1 - hidden**2) * (PARAMS["w2"] @ weights))).reshape(x.shape)


def margin(x, label, sign):
    """By how much the goal is met, less what rounding may take, and its slope."""
    z, own = logits(x), np.eye(problems.CLASSES)[label]
    other = np.eye(problems.CLASSES)[np.where(own > 0, -np.inf, z).argmax()]
    lead = sign * (own - other)
    return lead @ z - 64 * np.finfo(np.float64).eps * np.abs(z).max(), pulled(x, lead)


def cross_entropy(x, label, sign):
    """Of the label, to be lowered towards it and raised away from it: the loss, and its slope."""
    z, own = logits(x), np.eye(problems.CLASSES)[label]
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    return -sign * np.log(p[label]), pulled(x, -sign * (own - p))


def ratio(x, label, sign):
    """The difference-of-logits ratio, to be lowered, and its slope."""
    z = logits(x)
    order = np.eye(problems.CLASSES)[np.argsort(-z)]
    spread = order[0] - ((order[2] + order[3]) / 2 if sign > 0 else order[2])
    m, slope = margin(x, label, sign)
    size = spread @ z
    return -m / size, -slope / size + m / size**2 * pulled(x, spread)


def cosine(first, last, i, steps):
    return last + (first - last) * (1 + np.cos(np.pi * i / steps)) / 2


def norm(v):
    return np.sqrt((v**2).sum())


def adam(gradients):
    """The direction (after bias correction) of Adam's last step, and what it was divided by."""
    mean = square = 0.0
    for g in gradients:
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
    denominator = np.sqrt(square / (1 - 0.999 ** len(gradients))) + 1e-8
    return mean / (1 - 0.9 ** len(gradients)) / denominator, denominator
