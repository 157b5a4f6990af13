"""Checks of the model: is it one function of one input, with gradients that tell where it goes?"""

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.objectives import margin
from cwjax.validity.case import Case
from cwjax.validity.checking import Measured

_RUNS, _DRAWS, _WIDTH = 5, 100, 8 / 255


def randomised(case: Case) -> Measured:
    """Whether the model answers the same twice, not compiled, so that nothing it draws is frozen in a program."""
    _, x, _ = case.rows(case.few)
    answers = [_normalised(case.model.apply(case.model.params, x)) for _ in range(_RUNS)]
    case.spend(_RUNS * len(x))
    return _worst(case, np.ptp(answers, axis=0).max(1))


def batch_dependent(case: Case) -> Measured:
    """Whether an input is answered alike alone and in a batch, of the other inputs and the negatives of them all."""
    _, x, _ = case.rows(case.few)
    lower, upper = case.bounds
    negatives = (lower + upper)[None] - x
    together = _normalised(case.model.apply(case.model.params, jnp.concatenate([x, negatives])))[: len(x)]
    alone = _normalised(np.stack([np.asarray(case.model(each)) for each in x]))
    case.spend(3 * len(x))
    return _worst(case, np.abs(together - alone).max(1))


def probabilities(case: Case) -> Measured:
    """Whether the outputs are a distribution already. Logits that happen to be one at a single input do not count."""
    _, x, _ = case.rows(case.few)
    outputs = np.asarray(case.model.apply(case.model.params, x), np.float64)
    case.spend(len(x))
    like = (outputs >= -1e-4).all(1) & (np.abs(outputs.sum(1) - 1) < 1e-3)
    return Measured(float(like.all()), case.few, like.astype(float))


def zero_gradient(case: Case) -> Measured:
    """Where the logits' margin has no slope, or none that is finite, at the clean input."""
    steepest = np.abs(case.slopes.slope.reshape(len(case.x), -1)).max(1)
    return _share(case.everyone, ~(np.isfinite(steepest) & (steepest > 0)), steepest)


def saturated_softmax(case: Case) -> Measured:
    """Where the cross-entropy has no slope though the margin of the logits has one."""
    steepest = np.abs(case.slopes.slope.reshape(len(case.x), -1)).max(1)
    return _share(case.everyone, (steepest > 0) & (case.slopes.entropy == 0), case.slopes.entropy)


def unstable_loss(case: Case) -> Measured:
    """By how much the margin changes in a small box other than the slope says."""
    _, x, goal = case.rows(case.few)
    lower, upper = case.bounds
    noise = _WIDTH * jax.random.uniform(case.key, (_DRAWS, *x.shape), x.dtype, -0.5, 0.5)
    within = jax.vmap(lambda x, noise: jnp.clip(x + (upper - lower) * noise, lower, upper))
    moved = jax.vmap(within, (None, 0))(x, noise)
    repeated = jax.tree.map(lambda leaf: jnp.tile(leaf, _DRAWS), goal)
    lead = _margins(case.model, moved.reshape(-1, *x.shape[1:]), repeated).reshape(_DRAWS, -1)
    case.spend(_DRAWS * len(x))
    lead, change = np.asarray(lead), np.asarray(moved - x[None]).reshape(_DRAWS, len(x), -1)
    foreseen = np.einsum("drn,rn->dr", change, case.slopes.slope[case.few].reshape(len(x), -1))
    typical = max(float(np.abs(case.slopes.margin[case.few]).mean()), np.finfo(np.float32).tiny)
    each = np.abs(lead - case.slopes.margin[case.few] - foreseen).mean(0) / typical
    return Measured(float(each.mean()), case.few, each)


def not_finite(case: Case) -> Measured:
    """Examples that were given up for a NaN, and inputs of the box at which the model gives one."""
    lower, upper = case.bounds
    noise = jax.random.uniform(case.key, (_DRAWS, *lower.shape), lower.dtype)
    greys = jnp.broadcast_to(
        jnp.linspace(0, 1, 11, dtype=lower.dtype).reshape(-1, *[1] * lower.ndim), (11, *lower.shape)
    )
    images = jax.vmap(lambda share: lower + share * (upper - lower))(jnp.concatenate([noise, greys]))
    case.spend(len(images))
    bad = ~np.isfinite(np.asarray(_answers(case.model, images))).all(1)
    lost = ~case.result.finite
    note = f"{lost.sum()} of {len(lost)} examples, {bad.sum()} of {len(bad)} images of noise and of grey"
    return Measured(float(max(lost.mean(), bad.mean())), case.everyone, lost.astype(float), note)


@jax.jit
def _answers(model, x):
    return model.apply(model.params, x)


@jax.jit
def _margins(model, x, goal):
    return jax.vmap(margin)(model.apply(model.params, x), goal)


def _normalised(logits) -> np.ndarray:
    """Logits at length one, so that their scale does not matter."""
    logits = np.asarray(logits, np.float64)
    return logits / (np.linalg.norm(logits, axis=1, keepdims=True) + 1e-10)


def _worst(case: Case, difference: np.ndarray) -> Measured:
    return Measured(float(difference.max()), case.few, difference)


def _share(rows: np.ndarray, bad: np.ndarray, evidence: np.ndarray) -> Measured:
    return Measured(float(bad.mean()), rows, evidence, f"{bad.sum()} of {len(bad)}")
