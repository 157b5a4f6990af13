"""Models, goals and searches that several tests of the fast attacks need."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.arguments import sorted_out
from cwjax.attacks.fast.legs import Leg
from cwjax.loop import Rule, iterated
from tests import problems

SIZE, CLASSES = 12, 4
MARGIN = cw.losses.softened_margin()


NORMS = ("l2", "linf", "l1", "l0")


def affine(params, x):
    weights, bias = params
    return x.reshape(x.shape[0], -1) @ weights + bias[None]


def affine_model(scale: float = 1.0) -> cw.Model:
    rng = np.random.default_rng(3)
    weights = jnp.asarray(rng.normal(size=(SIZE, CLASSES)), jnp.float32)
    return cw.bind(affine, (scale * weights, scale * jnp.asarray(rng.normal(size=CLASSES), jnp.float32)))


X = jnp.asarray(np.random.default_rng(4).uniform(0.4, 0.6, size=(8, SIZE)), jnp.float32)
KEYS = problems.keys(len(X))


def towards(model: cw.Model) -> cw.LabelGoal:
    return cw.targeted((model.apply(model.params, X).argmax(-1) + 1) % CLASSES)


def attacked(norm: str, model: cw.Model, goal: cw.LabelGoal | None = None, **numbers) -> cw.Result:
    """The result of the fast attack with these numbers, within `low` and `high` if they are among them. They are
    traced: all of them share a program.
    """
    return program(norm)(numbers, model, KEYS, X, goal or towards(model))


@functools.cache
def program(norm):
    @jax.jit
    def run(numbers, *given):
        allowed, own = sorted_out(numbers)
        return cw.batched(cw.fast(norm, **own))(*given, **allowed._asdict())

    return run


def leg_of(steps: int, *, number: int = 0, lost: bool = False, farther: float = 1.0, rival: int = -1) -> Leg:
    """The first leg of a run, which begins at X[0]."""
    count = jnp.asarray(number, jnp.int32), jnp.zeros((), jnp.int32), jnp.asarray(steps, jnp.int32)
    return Leg(
        *count,
        start=X[0],
        farther=jnp.float32(farther),
        lost=jnp.array(lost),
        spread=jnp.float32(3 if lost else 1),
        rival=jnp.asarray(rival, jnp.int32),
        within=jnp.float32(jnp.inf),
    )


def followed(rule: Rule, norm: str, steps: int) -> cw.Attack:
    """The attack that follows a rule down the margin."""
    return iterated(rule, objective=MARGIN, distance=getattr(cw.distances, norm)(), steps=steps)


def two_classes() -> tuple[cw.Model, np.ndarray, np.ndarray]:
    """An affine model of two classes, the margin of each input and the normal of the boundary."""
    weights, bias = affine_model().params
    model = cw.bind(affine, (weights[:, :2], bias[:2]))
    logits = np.asarray(model.apply(model.params, X), np.float64)
    return model, np.abs(logits[:, 0] - logits[:, 1]), np.asarray(weights[:, 0] - weights[:, 1], np.float64)


def bent(slope, x):
    """Two logits, whose margin is 1 at X[0] and falls with the sum of the elements: by 1 a unit at first, and from 0.9
    on by `slope`. The sum at the boundary is 1 more, by the first slope.
    """
    added = x.sum(-1) - X[0].sum()
    margin = 1 - jnp.minimum(added, 0.1) - slope * jnp.maximum(added - 0.1, 0)
    return jnp.stack([margin, jnp.zeros_like(margin)], -1)
