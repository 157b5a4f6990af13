"""Small problems that several test modules share."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jaxtyping import Array

import cwjax as cw

SHAPE, CLASSES, HIDDEN = (3, 4), 5, 16
DTYPE = np.dtype(os.environ.get("CWJAX_LAWS_DTYPE", "float32"))  # of weights and inputs: see sixty_four_bits.py


def mlp_params(seed: int = 0, dtype: npt.DTypeLike = DTYPE) -> dict[str, np.ndarray]:
    """Weights of a two-layer network on inputs of shape SHAPE."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(SHAPE))
    return {
        "w1": rng.normal(size=(size, HIDDEN)).astype(dtype),
        "b1": rng.normal(size=HIDDEN).astype(dtype),
        "w2": rng.normal(size=(HIDDEN, CLASSES)).astype(dtype),
        "b2": rng.normal(size=CLASSES).astype(dtype),
    }


def mlp(params: dict[str, Array], x: Array) -> Array:
    """Logits [B, CLASSES] of x [B, *SHAPE]."""
    hidden = jnp.tanh(x.reshape(x.shape[0], -1) @ params["w1"] + params["b1"][None])
    return hidden @ params["w2"] + params["b2"][None]


def counted() -> tuple[cw.Model, dict[str, int]]:
    """The network of `mlp_params()`, and how often it was called "forward" and "backward" since."""
    calls = {"forward": 0, "backward": 0}

    def count(kind, value):  # given the value, so that of several at once each is a call
        jax.debug.callback(lambda _: calls.update({kind: calls[kind] + 1}), value)

    @jax.custom_vjp
    def watched(logits):
        return logits

    def backward(_, slope):
        count("backward", slope)
        return (slope,)

    watched.defvjp(lambda logits: (logits, None), backward)

    def apply(params, x):
        count("forward", x)
        return watched(mlp(params, x))

    return cw.bind(apply, mlp_params()), calls


def inputs(count: int, seed: int = 1) -> np.ndarray:
    """Inputs in [0, 1], some of their elements exactly on a bound."""
    x = np.random.default_rng(seed).uniform(-0.2, 1.2, size=(count, *SHAPE))
    return np.clip(x, 0, 1).astype(DTYPE)


def goals(model: cw.Model, x: np.ndarray, classes: int = CLASSES) -> cw.LabelGoal:
    """Leave the class the model answers, for even examples; reach another, for odd ones."""
    answers = np.asarray(model.apply(model.params, jnp.asarray(x))).argmax(1)
    odd = np.arange(len(x)) % 2 == 1
    label = np.where(odd, (answers + 1 + np.arange(len(x)) % (classes - 1)) % classes, answers)
    return cw.LabelGoal(label=jnp.asarray(label, jnp.int32), sign=jnp.where(odd, jnp.float32(1), jnp.float32(-1)))


def keys(count: int) -> Array:
    return jax.random.split(jax.random.key(7), count)


def small_l2(**changes) -> cw.Attack:
    """The L2 attack at a size for tests."""
    settings = {
        "optimizer": optax.adam(5e-2),
        "steps": 40,
        "search": cw.search.binary_search(4, initial_c=0.3),
    } | changes
    return cw.l2(**settings)


def small(attack: str, **numbers) -> cw.Attack:
    """An attack of the paper at a size for tests: `cw.l2` and so on, whose searches take their numbers from here."""
    numbers = SMALL[attack] | numbers
    if attack != "lbfgs":
        numbers = {"optimizer": optax.adam(5e-2)} | numbers
    search = {name: numbers.pop(name) for name in _SEARCHES[attack][1] if name in numbers}
    return getattr(cw, attack)(search=_SEARCHES[attack][0](**search), **numbers)


_BINARY = (lambda rounds, **numbers: cw.search.binary_search(rounds, **numbers), ("rounds", "initial_c"))
_SEARCHES = {
    "l1": _BINARY,
    "l2": _BINARY,
    "lbfgs": _BINARY,
    "linf": (cw.search.shrink_tau, ("initial_c", "factor")),
    "l0": (cw.search.shrink_mask, ("initial_c", "removal", "per_pixel")),
}
SMALL = {
    "l1": {"steps": 40, "rounds": 4, "initial_c": 0.3},
    "l2": {"steps": 40, "rounds": 4, "initial_c": 0.3},
    "lbfgs": {"steps": 40, "rounds": 4, "initial_c": 0.3},
    "linf": {"steps": 15, "initial_c": 0.1, "largest_c": 5.0, "factor": 0.8},
    "l0": {"steps": 20, "initial_c": 0.3, "largest_c": 20.0},
}
