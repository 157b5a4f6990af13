"""A defended classifier: what answers, what refuses, and what an adaptive attack is to reach.

A defence is a function `(model, x, labels, key) -> Defended`. An attack that knows of it is any attack at all, on
`whole(defended)` and with the objective `undetected(defended)`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from cwjax.arguments import (
    check_examples,
    check_logits,
    check_model,
    check_number,
    check_outputs,
    check_part,
)
from cwjax.base import AnyArray, Number, Objective, shapes
from cwjax.goals import untargeted
from cwjax.models import Model, joined
from cwjax.parts.losses import negative_margin
from cwjax.parts.objectives import all_of, below, logit_margin
from cwjax.values import check_finite, check_goals, check_inside

_HELD_OUT = 0.2  # the share of the training inputs, the last ones, that thresholds are set on
_AT_ONCE = 250  # inputs in one pass

Keep: TypeAlias = Callable[[str, Callable[[], PyTree]], PyTree]
"""`(name, make) -> make()`, or what an earlier call kept under that name: training is what a defence costs."""


class Defended(NamedTuple):
    """A classifier, and what refuses inputs. Its fields are arrays and models: a pytree."""

    model: Model  # x -> logits [K]: what the people who use it are given
    detector: Model | None = None  # x -> a score, one number; an input above the threshold is refused. None: nothing is
    threshold: Float[Array, ""] | float = math.inf
    spread: Float[Array, ""] | float = 1.0  # how far below the threshold the score of a clean input usually is


def fresh(name: str, make: Callable[[], PyTree]) -> PyTree:
    """The `Keep` that keeps nothing."""
    del name
    return make()


def parted(x: Float[AnyArray, "N *S"], labels: Int[AnyArray, "N"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The inputs and labels to learn from, and the inputs that a threshold is set on: the last fifth.

    Args:
      x: inputs.
      labels: of each.

    Returns:
      Inputs, their labels, and the inputs that are held out.

    Raises:
      ValueError: fewer than ten inputs, or another number of labels.

    Example:
      >>> fit, known, held_out = cw.defences.parted(x, labels)
      >>> len(fit), len(known), len(held_out)
      (32, 32, 8)
    """
    x, labels = np.asarray(x), np.asarray(labels)
    if len(x) < 10 or labels.shape != (len(x),):
        raise ValueError(
            f"a defence learns from at least 10 inputs with a label each, got {len(x)} inputs and labels of shape "
            f"{list(labels.shape)}"
        )
    count = len(x) - max(1, int(_HELD_OUT * len(x)))
    return x[:count], labels[:count], x[count:]


def lessons_of(
    model: Model, x: Float[AnyArray, "N *S"], labels: Int[AnyArray, "N"], *, bounded: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The inputs in two parts (`parted`), after a look at what came.

    Args:
      model: to defend.
      x: inputs that it takes.
      labels: of each.
      bounded: whether the defence is for inputs in [0, 1] alone.

    Raises:
      TypeError, ValueError: a model that `bind` did not make, or that returns no logits for such an input; inputs that
        are not floating-point, not finite, or not in [0, 1] where they have to be; labels that are no classes of the
        model; too few inputs.
    """
    x, goal = np.asarray(x), untargeted(labels)
    parts = parted(x, labels)
    check_examples(model, x, goal)
    check_logits(model, x)  # says more than the objective would of a model without logits
    check_goals(logit_margin(), check_outputs(model, x), goal)
    check_finite("x", x)
    if bounded:
        check_inside(x, 0.0, 1.0, advice="this defence is for inputs in [0, 1]: rescale x")
    return parts


def answers(model: Model, x: Float[AnyArray, "B *S"]) -> Float[np.ndarray, "B ..."]:
    """What a model returns of many inputs, in passes of 250."""
    apply = jax.jit(model.apply)
    return np.concatenate([np.asarray(apply(model.params, x[i : i + _AT_ONCE])) for i in range(0, len(x), _AT_ONCE)])


def calibrated(
    model: Model, detector: Model, held_out: Float[AnyArray, "N *S"], false_positives: float = 0.05
) -> Defended:
    """The classifier with a detector whose threshold refuses a given share of the clean inputs.

    Args:
      model: x -> logits.
      detector: x -> a score; larger is more suspicious.
      held_out: clean inputs that nothing was trained on.
      false_positives: the share of them above the threshold: at most this, and less than this by at most one input.

    Raises:
      TypeError, ValueError: a model that `bind` did not make; a share that is not in (0, 1); scores that are not
        finite, or not one number.

    Example:
      >>> import jax.numpy as jnp, cwjax as cw
      >>> model = cw.bind(lambda params, x: jnp.stack([x.sum(1), -x.sum(1)], 1))
      >>> detector = cw.bind(lambda params, x: x.sum(1))
      >>> held_out = jnp.linspace(0, 1, 20)[:, None]
      >>> defended = cw.defences.calibrated(model, detector, held_out, 0.1)
      >>> int(cw.defences.refused(defended, held_out).sum())
      2

    References:
      Xu et al. 2018, "Feature squeezing: detecting adversarial examples in deep neural networks", whose threshold
        refuses at most 5 % of clean inputs, https://arxiv.org/abs/1704.01155
    """
    check_model(model)
    check_model(detector)
    check_share(false_positives)
    held_out = _several(held_out)
    if not len(held_out):
        raise ValueError("a threshold is set on clean inputs, got none of them")
    check_logits(model, held_out)
    found = _scores(detector, held_out)
    if found.shape != (len(held_out),) or not np.isfinite(found).all():
        raise ValueError(
            f"a detector returns a finite score for each input, got shape {list(found.shape)} of {len(held_out)} "
            f"inputs, {np.isfinite(found).mean():.0%} of it finite"
        )
    if not np.isfinite(answers(model, held_out)).all():
        raise ValueError("the model returns NaN or infinite logits for clean inputs: mend it before it is defended")
    ordered = np.sort(found)
    threshold = ordered[len(found) - 1 - int(false_positives * len(found))]
    spread = max(float(threshold - ordered[len(found) // 2]), float(ordered.std()) / 10, 1e-6)
    return Defended(model, detector, jnp.asarray(threshold), jnp.asarray(spread, ordered.dtype))


def check_share(false_positives: float) -> None:
    """Raises TypeError or ValueError unless it is a share of clean inputs that may be refused."""
    check_number("false_positives", false_positives, least=0, above=True, most=0.999)


def refused(defended: Defended, x: Float[AnyArray, "B *S"]) -> Bool[np.ndarray, "B"]:
    """Which inputs the detector refuses; none where there is no detector.

    Args:
      defended: from any defence.
      x: inputs.

    Example:
      >>> bright = cw.bind(lambda params, x: x.mean((1, 2, 3)))  # a detector
      >>> defended = cw.defences.Defended(model, bright, threshold=0.5)
      >>> cw.defences.refused(defended, np.stack([x[0], x[0] + 0.5])).tolist()
      [False, True]
    """
    check_part("defended", defended, Defended)
    if defended.detector is None:
        return np.zeros(len(x), bool)
    x = _several(x)
    return (_scores(defended.detector, x) if len(x) else np.zeros(0)) > np.asarray(defended.threshold)


def _several(x: AnyArray) -> AnyArray:
    """The inputs as an array. Raises ValueError unless they have the axis of a batch."""
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    if not x.ndim:
        raise ValueError(f"inputs have shape [B, *S], got the number {x}")
    return x


def _scores(detector: Model, x: AnyArray) -> np.ndarray:
    """The detector's scores. Raises ValueError where it cannot read the inputs, or returns more than one array."""
    outputs = check_outputs(detector, x)
    if not hasattr(outputs, "shape"):
        raise ValueError(f"a detector returns one number for each input, got {shapes(outputs)} from one input")
    return answers(detector, x)


def whole(defended: Defended) -> Model:
    """All of a defence as one model: x -> logits [K], or (logits [K], score []) where there is a detector.

    Args:
      defended: from any defence.

    Example:
      >>> bright = cw.bind(lambda params, x: x.mean((1, 2, 3)))
      >>> logits, score = cw.defences.whole(cw.defences.Defended(model, bright, threshold=0.5)).of_batch(x[:2])
      >>> logits.shape, score.shape
      ((2, 2), (2,))
    """
    check_part("defended", defended, Defended)
    if defended.detector is None:
        return defended.model
    return joined([defended.model, defended.detector])


def undetected(
    defended: Defended, confidence: Number = 0.0, *, hinged: bool = False, weight: Number = 5.0
) -> Objective:
    """What an adaptive attack on `whole(defended)` is to reach: the goal, by an input that is not refused.

        f = max(f_goal, 0) + weight/spread · max(score - threshold, 0)

    Goals are of labels, from `targeted` or `untargeted`. Carlini and Wagner (2017, arXiv 1705.07263) attack detectors
    by such a sum.

    Args:
      defended: from any defence.
      confidence: of the goal, in logits.
      hinged: whether the loss stays at 0 where all is reached; the fast family comes nearer without.
      weight: of the detector: how many logits the usual distance of clean inputs below the threshold counts as.

    Example:
      >>> import jax, jax.numpy as jnp, cwjax as cw
      >>> model = cw.bind(lambda params, x: jnp.stack([x[:, 0] - x[:, 1], x[:, 1] - x[:, 0]], 1))
      >>> detector = cw.bind(lambda params, x: x[:, 1])  # refuses what is bright in its second element
      >>> defended = cw.defences.Defended(model, detector, threshold=0.6, spread=0.3)
      >>> attack = cw.fast("l2", steps=60, objective=cw.defences.undetected(defended))
      >>> keys, x = jax.random.split(jax.random.key(0), 1), jnp.array([[0.9, 0.5]])
      >>> result = jax.jit(cw.batched(attack))(cw.defences.whole(defended), keys, x, cw.untargeted([0]))
      >>> bool(result.success[0] & (result.x[0, 1] <= 0.6))
      True

    References:
      Carlini & Wagner 2017, "Adversarial examples are not easily detected: bypassing ten detection methods",
        https://arxiv.org/abs/1705.07263
    """
    check_part("defended", defended, Defended)
    goal = logit_margin(confidence) if hinged else negative_margin(confidence)
    if defended.detector is None:
        return goal
    check_number("weight", weight, least=0, above=True)
    under, scale = below(defended.threshold, hinged=hinged), weight / defended.spread
    hidden = under._replace(loss=lambda score, aim: scale * under.loss(score, aim))
    # Attacks that first choose a class to aim at, as the fast family does, go by the logits, and come nearer for it.
    return all_of([goal, hidden])._replace(logits=_first)


def _first(outputs: tuple[Array, Array]) -> Array:
    return outputs[0]
