"""An attack's walk on a small network, point by point, and that network in NumPy float64 with its slopes by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.problems import ANYWHERE, Allowed, problem
from tests import problems

MODEL = cw.bind(problems.mlp, problems.mlp_params())
PARAMS = problems.mlp_params(dtype=np.float64)
X = problems.inputs(6)
CONSTANT = cw.bind(lambda params, x: jnp.tile(params[None], (x.shape[0], 1)), jnp.array([2.0, 1, 0, 0, 0]))


def logits(x: np.ndarray) -> np.ndarray:
    """Of one input, [K]."""
    return np.tanh(x.reshape(-1) @ PARAMS["w1"] + PARAMS["b1"]) @ PARAMS["w2"] + PARAMS["b2"]


def jacobian(x: np.ndarray) -> np.ndarray:
    """Of the logits, [K, *S]."""
    hidden = np.tanh(x.reshape(-1) @ PARAMS["w1"] + PARAMS["b1"])
    return ((PARAMS["w1"] * (1 - hidden**2)) @ PARAMS["w2"]).T.reshape(-1, *problems.SHAPE)


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


def cross_entropy_slope(x: np.ndarray, label: int, sign: float) -> np.ndarray:
    """Of the loss that PGD and its kin lower."""
    weights = softmax(logits(x)) - np.eye(problems.CLASSES)[label]
    return sign * np.tensordot(weights, jacobian(x), 1)


def goal(label: int, sign: float) -> cw.LabelGoal:
    return cw.LabelGoal(label=jnp.asarray(label, jnp.int32), sign=jnp.asarray(sign, jnp.float32))


def asked(place: int, sign: float) -> int:
    """The label to leave (sign -1) or to reach: the answer on that input, or the class after it."""
    return (int(logits(X[place]).argmax()) + (sign > 0)) % problems.CLASSES


@functools.cache
def compiled(attack: cw.Attack):
    """Its step, compiled once whatever it is asked about."""
    return jax.jit(attack.step)


def walk(
    attack: cw.Attack,
    x: np.ndarray,
    goal: cw.LabelGoal,
    steps: int,
    *,
    model: cw.Model = MODEL,
    allowed: Allowed = ANYWHERE,
    **knobs,
):
    """The points asked about, float64 [steps or fewer, *S], and the progress after the last."""
    given = problem(jnp.asarray(x), goal, allowed)._replace(**knobs)
    step, state, points = compiled(attack), attack.init(jax.random.key(0), given), []
    while len(points) < steps and not state.progress.done:
        points.append(np.asarray(state.inner.w if hasattr(state, "inner") else state.w, np.float64))
        state = step(model, given, state)
    return np.stack(points), state.progress


def close(points: np.ndarray, expected: list[np.ndarray]) -> None:
    np.testing.assert_allclose(points, np.stack(expected)[: len(points)], atol=2e-5)
