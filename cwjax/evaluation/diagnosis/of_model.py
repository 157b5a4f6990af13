"""Checks of the model: is it one function of one input, with gradients that tell where it goes?"""

import jax
import numpy as np

from cwjax.evaluation.diagnosis.case import DRAWS, Case
from cwjax.evaluation.diagnosis.checks import Measured, Skipped, of_examples
from cwjax.parts.objectives import in_play

_WIDTH = 8 / 255  # of a box around an input, in units of the whole
_NO_CLASSES = Skipped("not a classifier: the model returns something else than logits of classes")


def randomised(case: Case) -> Measured:
    """Whether the model answers the same several times. Nothing that it draws is frozen in a program: see
    `Case.outputs`.
    """
    return _worst(case, np.ptp(_of_length_one(case, case.answers), axis=0))


def batch_dependent(case: Case) -> Measured:
    """Whether an input is answered alike alone and in a batch of the others and of the negatives of them all."""
    together, alone = case.together_and_alone
    return _worst(case, np.abs(_of_length_one(case, together) - _of_length_one(case, alone)))


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
    few, (low, high) = case.few, map(np.asarray, case.bounds)
    x = np.asarray(case.rows(few)[1])
    moved = np.clip(x + (high - low) * _WIDTH * (case.noise[:, : len(few)] - np.float32(0.5)), low, high)
    lead = case.leads(moved.reshape(-1, *x.shape[1:]), np.tile(few, DRAWS)).reshape(DRAWS, -1)
    change = (moved - x[None]).reshape(DRAWS, len(few), -1)
    foreseen = np.einsum("drn,rn->dr", change, case.slopes.slope[few].reshape(len(few), -1))
    surprise = np.abs(lead - case.slopes.margin[few] - foreseen).mean(0)
    finite = np.isfinite(surprise)  # another check tells where it is not
    typical = np.abs(case.slopes.margin[few])[finite].mean() if finite.any() else 1.0
    each = np.where(finite, surprise, 0) / max(float(typical), np.finfo(np.float32).tiny)
    return of_examples(each, few)


def not_finite(case: Case) -> Measured:
    """Examples that were given up for a NaN, and inputs of the box at which the model gives one."""
    low, high = map(np.asarray, case.bounds)
    greys = np.linspace(0, 1, 11, dtype=low.dtype).reshape(-1, *[1] * low.ndim)
    shares = np.concatenate([case.noise[:, 0], np.broadcast_to(greys, (11, *low.shape))])
    places = np.resize(case.everyone, len(shares))
    finite = np.all(case.outputs(case.model, low + shares * (high - low), places) < np.inf, axis=1)
    lost = ~case.result.finite
    note = f"{lost.sum()} of {len(lost)} examples, {(~finite).sum()} of {len(finite)} points of noise and of grey"
    anywhere = float((~finite).mean())
    return of_examples(lost, case.everyone, note=note, of=lambda some: max(float(lost[some].mean()), anywhere))


def _of_length_one(case: Case, outputs) -> np.ndarray:
    """Outputs [..., N] at length one, so that their scale does not matter."""
    if case.classifier:
        return _normalised(outputs)
    values = np.asarray(outputs, np.float64)
    return values / (np.linalg.norm(values, axis=-1, keepdims=True) + 1e-10)


_in_play = jax.jit(jax.vmap(in_play))


def _normalised(logits) -> np.ndarray:
    """Logits [..., K] at length one, and 0 for classes that are switched off."""
    played = np.asarray(_in_play(np.asarray(logits).reshape(-1, np.shape(logits)[-1]))).reshape(np.shape(logits))
    unclear = np.isnan(logits).any(-1, keepdims=True)  # stays so: another check tells
    logits = np.where(played | unclear, np.asarray(logits, np.float64), 0)
    return logits / (np.linalg.norm(logits, axis=-1, keepdims=True) + 1e-10)


def _worst(case: Case, difference: np.ndarray) -> Measured:
    """Of differences [R, K]; where they are not finite, another check tells."""
    each = np.nan_to_num(difference).max(1)
    return of_examples(each, case.few, of=lambda some: float(each[some].max()))


def _share(case: Case, bad: np.ndarray, evidence: np.ndarray) -> Measured:
    return of_examples(bad, case.everyone, evidence, f"{bad.sum()} of {len(bad)}")
