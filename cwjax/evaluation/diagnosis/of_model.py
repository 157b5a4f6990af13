"""Checks of the model: is it one function of one input, with gradients that tell where it goes?"""

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.base import answered
from cwjax.evaluation.diagnosis.case import Case
from cwjax.evaluation.diagnosis.checks import Measured, Skipped, of_examples
from cwjax.parts.objectives import in_play, margin

_DRAWS, _WIDTH = 100, 8 / 255
_NO_CLASSES = Skipped("not a classifier: the model returns something else than logits of classes")


def randomised(case: Case) -> Measured:
    """Whether the model answers the same several times, not compiled, so that nothing it draws is frozen in a
    program.
    """
    return _worst(case, np.ptp(_of_length_one(case, case.answers), axis=0))


def batch_dependent(case: Case) -> Measured:
    """Whether an input is answered alike alone and in a batch of the others and of the negatives of them all."""
    low, high = case.bounds
    x, places = case.rows(case.few, case.size_of_few)[1], np.resize(case.few, case.size_of_few)
    together = case.outputs(jnp.concatenate([x, (low + high)[None] - x]), np.tile(places, 2))
    alone = jnp.concatenate([case.outputs(x[i : i + 1], places[i : i + 1]) for i in range(len(case.few))])
    case.spend(2 * len(x) + len(alone))
    return _worst(case, np.abs(_of_length_one(case, together)[: len(alone)] - _of_length_one(case, alone)))


def probabilities(case: Case) -> Measured | Skipped:
    """Whether all outputs are distributions already. Logits that happen to be one at a single input do not count."""
    if not case.classifier:
        return _NO_CLASSES
    outputs = case.answers[0].astype(np.float64)
    like = (outputs >= -1e-4).all(1) & (np.abs(outputs.sum(1) - 1) < 1e-3)
    return of_examples(like, case.few, of=lambda some: float(like[some].all()))


def zero_gradient(case: Case) -> Measured:
    """Where the logits' margin has no slope, or none that is finite, at the clean input."""
    return _share(case, ~(np.isfinite(case.steepest) & (case.steepest > 0)), case.steepest)


def saturated_softmax(case: Case) -> Measured | Skipped:
    """Where the cross-entropy has no slope though the margin of the logits has one."""
    if not case.classifier:
        return _NO_CLASSES
    return _share(case, (case.steepest > 0) & (case.slopes.entropy == 0), np.asarray(case.slopes.entropy))


def unstable_loss(case: Case) -> Measured:
    """By how much the margin changes in a small box other than its slope says, over the size of the margin."""
    _, x, goal, allowed = case.viewed(case.few, case.size_of_few)
    noise = _WIDTH * jax.random.uniform(case.key, (_DRAWS, *x.shape), x.dtype, -0.5, 0.5)
    moved, lead = (np.asarray(each) for each in _around(case.view.model, x, goal, allowed.context, noise, case.bounds))
    case.spend(_DRAWS * len(x))
    few = case.few
    change = (moved - np.asarray(x)[None])[:, : len(few)].reshape(_DRAWS, len(few), -1)
    foreseen = np.einsum("drn,rn->dr", change, case.slopes.slope[few].reshape(len(few), -1))
    surprise = np.abs(lead[:, : len(few)] - case.slopes.margin[few] - foreseen).mean(0)
    finite = np.isfinite(surprise)  # another check tells where it is not
    typical = np.abs(case.slopes.margin[few])[finite].mean() if finite.any() else 1.0
    each = np.where(finite, surprise, 0) / max(float(typical), np.finfo(np.float32).tiny)
    return of_examples(each, few)


def not_finite(case: Case) -> Measured:
    """Examples that were given up for a NaN, and inputs of the box at which the model gives one."""
    low, high = case.bounds
    noise = jax.random.uniform(case.key, (_DRAWS, *low.shape), low.dtype)
    greys = jnp.linspace(0, 1, 11, dtype=low.dtype).reshape(-1, *[1] * low.ndim)
    shares = jnp.concatenate([noise, jnp.broadcast_to(greys, (11, *low.shape))])
    images, places = jax.vmap(lambda share: low + share * (high - low))(shares), np.resize(case.everyone, len(shares))
    context = jax.tree.map(lambda leaf: leaf[jnp.asarray(places)], case.allowed.context)
    finite = np.asarray(_finite(case.model, images, context))
    case.spend(len(finite))
    lost = ~case.result.finite
    note = f"{lost.sum()} of {len(lost)} examples, {(~finite).sum()} of {len(finite)} images of noise and of grey"
    anywhere = float((~finite).mean())
    return of_examples(lost, case.everyone, note=note, of=lambda some: max(float(lost[some].mean()), anywhere))


@jax.jit
def _around(model, x, goal, context, noise, bounds):
    """Images with noise in units of the box, [draws, R, *S], and their margins [draws, R]."""
    low, high = bounds

    def one(x, goal, context, noise):
        moved = jnp.clip(x + (high - low) * noise, low, high)
        return moved, margin(model(moved, context), goal)

    return jax.lax.map(lambda noise: jax.vmap(one)(x, goal, context, noise), noise)


@jax.jit
def _finite(model, x, context):
    return jax.vmap(answered)(model.of_batch(x, context))


def _of_length_one(case: Case, outputs) -> np.ndarray:
    """Outputs [..., N] at length one, so that their scale does not matter."""
    if case.classifier:
        return _normalised(outputs)
    values = np.asarray(outputs, np.float64)
    return values / (np.linalg.norm(values, axis=-1, keepdims=True) + 1e-10)


def _normalised(logits) -> np.ndarray:
    """Logits [..., K] at length one, and 0 for classes that are switched off."""
    played = jax.vmap(in_play)(jnp.asarray(logits).reshape(-1, np.shape(logits)[-1])).reshape(np.shape(logits))
    unclear = np.isnan(logits).any(-1, keepdims=True)  # stays so: another check tells
    logits = np.where(played | unclear, np.asarray(logits, np.float64), 0)
    return logits / (np.linalg.norm(logits, axis=-1, keepdims=True) + 1e-10)


def _worst(case: Case, difference: np.ndarray) -> Measured:
    """Of differences [R, K]; where they are not finite, another check tells."""
    each = np.nan_to_num(difference).max(1)
    return of_examples(each, case.few, of=lambda some: float(each[some].max()))


def _share(case: Case, bad: np.ndarray, evidence: np.ndarray) -> Measured:
    return of_examples(bad, case.everyone, evidence, f"{bad.sum()} of {len(bad)}")
