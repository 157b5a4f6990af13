"""Models that trick attacks, attacks that trick themselves, and a clean pair.

All models are one function, and all attacks but one another function of numbers, so that a table of them compiles once.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import cwjax as cw
from tests import problems

Apply = Callable[[jax.Array], jax.Array]
Make = Callable[..., cw.Attack]

COUNT = 64  # of which eight are watched
CLASSES = 2  # with more, f6 may follow the wrong one, and a weaker attack wins even here
X = np.round(255 * problems.inputs(COUNT)).astype(np.float32) / 255
_MLP = {name: np.float32(0.3) * value for name, value in problems.mlp_params().items()}
WEIGHTS: dict[str, Any] = _MLP | {"w2": _MLP["w2"][:, :CLASSES], "b2": _MLP["b2"][:CLASSES]}
LABELS = np.asarray(problems.mlp(WEIGHTS, jnp.asarray(X))).argmax(1)
_WIDTHS = (12, 200, 200, 200, CLASSES)
MANY = [np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in itertools.pairwise(_WIDTHS)]
LEVELS = 2 * np.pi * 255
_NOISE = np.random.default_rng(0)


def clean(x):
    return problems.mlp(WEIGHTS, x)


def hidden(x):
    return x.reshape(len(x), -1) @ WEIGHTS["w1"] + WEIGHTS["b1"][None]


def out(activations):
    return activations @ WEIGHTS["w2"] + WEIGHTS["b2"][None]


def quantised_inputs(x):
    return clean(jnp.round(4 * x) / 4)


def huge_logits(x):
    return 1e4 * clean(x)


def step_activations(x):
    return out(jnp.sign(hidden(x)))


def stochastic_inference(x):
    """Noise from outside of JAX, as a model with dropout left on would have it."""
    shape = jax.ShapeDtypeStruct((len(x), CLASSES), jnp.float32)
    noise = jax.pure_callback(lambda: _NOISE.normal(0, 0.05, shape.shape).astype(np.float32), shape)
    return clean(x) + noise


def batch_norm_in_training(x):
    h = hidden(x)
    return out(jnp.tanh((h - h.mean(0, keepdims=True)) / jnp.sqrt(h.var(0, keepdims=True) + 1e-5)))


def softmax_outputs(x):
    return jax.nn.softmax(clean(x))


def k_winners(x):
    """Of 200 activations only the 10 largest stay (Xiao et al. 2020): it jumps wherever their order changes."""
    activations = x.reshape(len(x), -1)
    for weights in MANY[:-1]:
        activations = activations @ weights
        activations = jnp.where(activations >= jax.lax.top_k(activations, 10)[0][:, -1:], activations, 0)
    return activations @ MANY[-1]


def nan_on_part_of_the_box(x):
    return jnp.where(x.mean((1, 2), keepdims=True)[:, 0] > X.mean((1, 2)).max() + 0.02, jnp.nan, clean(x))


def detector(x):
    """What is far from every known input gets the label of the nearest: larger radii find less."""
    gaps = jnp.sqrt(jnp.sum((x[:, None] - X[None]) ** 2, (2, 3)) + 1e-12)
    known = 10 * jax.nn.one_hot(jnp.asarray(LABELS)[gaps.argmin(1)], CLASSES)
    return jnp.where(gaps.min(1, keepdims=True) < 0.5, clean(x), known)


def comb(x):
    """A bonus for the right answer at every 8-bit image, and a penalty between them."""
    logits = clean(x)
    teeth = jnp.cos(LEVELS * x).mean((1, 2))
    return logits + 20 * teeth[:, None] * jax.nn.one_hot(logits.argmax(1), CLASSES)


MODELS = (clean, quantised_inputs, huge_logits, step_activations, stochastic_inference, batch_norm_in_training)
MODELS += (softmax_outputs, k_winners, nan_on_part_of_the_box, detector, comb)


def _apply(which, x):
    return jax.lax.switch(which, MODELS, x)


def model(apply) -> cw.Model:
    return cw.bind(_apply, jnp.int32(MODELS.index(apply)))


BOX = cw.boxes.change_of_variables()
WELL = {"steps": 400, "initial_c": 0.1, "learning_rate": 0.02, "saturating": 0.0}


def attack(*, steps, initial_c, learning_rate, saturating) -> cw.Attack:
    """The L2 attack, with f2, of the probabilities, for its objective where `saturating` is one."""
    margin, probabilities = cw.objectives.logit_margin(), cw.objectives.probability_margin()

    def loss(logits, goal):
        return jnp.where(saturating > 0, probabilities.loss(logits, goal), margin.loss(logits, goal))

    objective, search = cw.Objective(loss=loss, met=margin.met), cw.search.binary_search(7, initial_c=initial_c)
    return cw.l2(objective=objective, box=BOX, optimizer=optax.adam(learning_rate), search=search, steps=steps)


def forgetful(**numbers) -> cw.Attack:
    """The attack, but what it returns is what it saw last: a failure, if that is none."""
    inner = attack(**numbers)

    def step(model, problem, state):
        state = inner.step(model, problem, state)
        lost = jnp.where(state.progress.last.met, state.progress.best.distance, jnp.inf)
        best = state.progress.best._replace(distance=lost)
        return state._replace(progress=state.progress._replace(best=best))

    return inner._replace(step=step)
