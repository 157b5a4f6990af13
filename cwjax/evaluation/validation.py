"""What only values tell of a model and its clean inputs: asked for before an attack, outside jit."""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree

from cwjax.arguments import allowed_of, check_allowed, check_examples, check_logits, reason_of
from cwjax.base import Goal, LabelGoal, Objective, answered, wide
from cwjax.frameworks import as_array
from cwjax.models import Model
from cwjax.parts.objectives import logit_margin, margin
from cwjax.values import check_finite

_ROWS_AT_ONCE = 256


class Validation(NamedTuple):
    """What `validate` found of clean inputs that it accepts."""

    examples: int  # that were looked at
    met: int  # that meet their goal before any attack: their distance is 0
    flat: int  # where the margin of the logits has slope 0 in every element: gradients do not say where to go
    undefined: int  # where a slope is NaN or infinite: attacks give these up

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={value}" for name, value in self._asdict().items())
        some = f"{self.met} of {self.examples} meet their goal before any attack, so their distance is 0"
        said = [some if self.met else f"none of {self.examples} meets its goal before any attack"]
        said += [f"{self.flat} have no slope"] if self.flat else []
        said += [f"{self.undefined} have a slope that is NaN or infinite"] if self.undefined else []
        return f"Validation({numbers}): {', '.join(said)}"


def validate(
    model: Model, x: ArrayLike, goal: Goal, *, objective: Objective | None = None, **bounds: Any
) -> Validation:
    """Checks what only values tell, before an attack.

    Costs one forward and one backward pass of the model for each example.

    A class that is switched off by a logit of -inf is accepted, if it is not the one that an attack has to reach.

    Args:
      model: from `bind`.
      x: clean inputs [B, *S], also a torch.Tensor, within their bounds, or beyond by no more than rounding: one unit in
        the last place of the larger bound.
      goal: from `targeted` or `untargeted`, or what the objective reads.
      objective: of an attack on a model that is no classifier; the slopes looked at are those of its loss, where its
        goal is not met. None: the model returns the logits of classes, and slopes are those of their margin.
      **bounds: `low`, `high`, `mask`, `start` and `context`, as the runner takes them (`cwjax.batched`).

    Returns:
      How many examples there are, how many meet their goal already (away from a label: are misclassified), and how
      many have no slope, or none that is finite.

    Raises:
      TypeError, ValueError: NaN or infinite pixels; pixels outside the box; labels out of range; a model that returns
        probabilities or percentages, NaN or +inf, or that has no gradient; a goal whose class is switched off; slopes
        so large or small that float32 does not hold their squares; and all that the runners check.

    Warns:
      UserWarning: no example has a slope (which a network may have, where all its units are saturated or dead); some
        slopes are NaN or infinite; slopes so large or small that the numbers of published attacks do not fit them;
        so few right answers that the images or labels are probably not those that the model was made for.

    Example:
      >>> cw.validate(model, 10 * x, goal, high=10.0)
      Validation(examples=2, met=0, flat=0, undefined=0): none of 2 meets its goal before any attack
    """
    x = as_array(x)
    if jnp.issubdtype(np.asarray(x).dtype, jnp.floating):
        check_finite("x", x)  # before the model is asked about it
    x = jnp.asarray(x)
    allowed = allowed_of(bounds)
    check_examples(model, x, goal, allowed.context, objective or logit_margin())
    check_allowed(np.asarray(x), allowed)
    ask = _of_classes if objective is None else functools.partial(_of_task, objective)
    met, steepest = ask(model, x, goal, allowed.context)
    undefined, flat = ~np.isfinite(steepest), steepest == 0
    _check_scale(steepest[~undefined & ~flat], wide(x))
    if undefined.all():
        raise ValueError(
            "the model's slopes are NaN or infinite at every clean example: attacks would give them all up"
        )
    if flat.all():
        warnings.warn(
            f"the model has no slope at any of the {len(flat)} examples: is its input rounded, compared, or kept from "
            "the gradient (stop_gradient)? Attacks will not know where to go",
            stacklevel=2,
        )
    if undefined.any():
        warnings.warn(
            f"the model's slope is NaN or infinite at {undefined.sum()} of {len(flat)} examples, first "
            f"{np.flatnonzero(undefined)[0]}: attacks give these up",
            stacklevel=2,
        )
    return Validation(len(met), int(met.sum()), int(flat.sum()), int(undefined.sum()))


def _of_classes(model: Model, x: jax.Array, goal: LabelGoal, context: PyTree) -> tuple[np.ndarray, np.ndarray]:
    """Which examples meet their goal, and the largest element of the margin's slope: both [B]."""
    classes, labels = check_logits(model, x, context), np.asarray(goal.label)
    logits, steepest = _by_parts(_logits_and_slopes, model, x, goal, context)
    digits, logits = float(jnp.finfo(logits.dtype).eps), np.asarray(logits, np.float64)
    bad = np.flatnonzero((np.isnan(logits) | np.isposinf(logits)).any(1))
    if bad.size:
        raise ValueError(f"the model gives NaN or infinite logits for {bad.size} clean examples, first {bad[0]}")
    met = _met(logits, labels, np.asarray(goal.sign))
    _check_accuracy(met[np.asarray(goal.sign) < 0], classes)
    if total := _simplex(logits, digits):
        raise ValueError(
            f"the model returns {'percentages' if total == 100 else 'probabilities'} (each row is >= 0 and sums to "
            f"{total}): return logits, without the softmax (leave out the last layer, as net[:-1] of PyTorch; "
            'Keras: cwjax.adapters.from_keras(net, softmax="cut"))'
        )
    return met, np.asarray(steepest, np.float64)


def _of_task(
    objective: Objective, model: Model, x: jax.Array, goal: Goal, context: PyTree
) -> tuple[np.ndarray, np.ndarray]:
    """The same, by an objective: the slope is that of its loss. Where the goal is met none is asked for: it is 1."""

    @jax.jit
    def asked(model, x, goal, context):
        def one(x, goal, context):
            def loss(x):
                outputs = model(x, context)
                return jnp.sum(objective.loss(outputs, goal)), outputs

            slope, outputs = jax.grad(loss, has_aux=True)(x)
            met = objective.met(outputs, goal)
            return met, jnp.where(met, 1, jnp.max(jnp.abs(slope.astype(wide(x))))), answered(outputs)

        return jax.vmap(one)(x, goal, context)

    met, steepest, defined = map(np.asarray, _by_parts(asked, model, x, goal, context))
    if not defined.all():
        bad = np.flatnonzero(~defined)
        raise ValueError(f"the model gives NaN or infinite outputs for {bad.size} clean examples, first {bad[0]}")
    return met, steepest.astype(np.float64)


def _by_parts(ask: Callable[..., Any], model: Model, x: jax.Array, goal: Goal, context: PyTree) -> Any:
    """What is asked of all examples, some hundreds at a time, so that memory stays bounded.

    Raises ValueError for a model that has no gradient.
    """
    size, parts = min(len(x), _ROWS_AT_ONCE), []
    for first in range(0, len(x), size):
        places = np.arange(first, first + size) % len(x)  # a last part is filled up, so that one program serves all
        some = jax.tree.map(lambda leaf, places=places: jnp.asarray(leaf)[places], (x, goal, context))
        try:
            parts.append(jax.block_until_ready(ask(model, *some)))
        except (Exception, SystemExit) as error:
            raise ValueError(
                f"the model does not give the gradient in its input, which attacks go by: {reason_of(error)} (write it "
                "in JAX, or give it a jax.custom_vjp)"
            ) from error
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[: len(x)], *parts)


@jax.jit
def _logits_and_slopes(model: Model, x: jax.Array, goal: Goal, context: PyTree) -> tuple[jax.Array, jax.Array]:
    """Logits [B, K], and the largest element of the margin's slope [B]."""

    def one(x, goal, context):
        def lead(x):
            logits = model(x, context)
            return margin(logits, goal), logits

        slope, logits = jax.grad(lead, has_aux=True)(x)
        return logits, jnp.max(jnp.abs(slope.astype(wide(x))))

    return jax.vmap(one)(x, goal, context)


def _met(logits: np.ndarray, labels: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """Which examples meet their goal already. Raises ValueError where no attack can: the class to reach is off."""
    rows = np.arange(len(logits))
    own, others = logits[rows, labels], logits.copy()
    others[rows, labels] = -np.inf
    other = others.max(1)
    off = np.flatnonzero(np.isneginf(np.where(sign > 0, own, other)))
    if off.size:
        raise ValueError(
            f"the logit that an attack has to raise is -inf in {off.size} examples, first {off[0]}: no input reaches a "
            "class that is switched off; choose another target"
        )
    return np.where(sign > 0, own > other, other > own)


def _check_accuracy(wrong: np.ndarray, classes: int) -> None:
    """Warns where at most 2 of K answers are right, which is what guessing comes to, and chance does not explain it: a
    network that is right every other time would be this bad less than once in a hundred times.

    Args:
      wrong: bool [B], of the examples whose goal is to leave their label.
      classes: K.
    """
    count, right = len(wrong), len(wrong) - int(wrong.sum())
    if not count or right > count * min(2 / classes, 0.5):
        return
    ways = sum(math.comb(count, i) for i in range(right + 1))
    if 100 * ways < 2**count:
        warnings.warn(
            f"the model answers {right} of {count} clean examples as their labels say, which guessing among {classes} "
            "classes comes near: are the images in another scale, layout or order of colours than the model was made "
            "for (mean and std of cwjax.normalised), or the classes in another order?",
            stacklevel=4,
        )


def _simplex(logits: np.ndarray, digits: float) -> int | None:
    """1 or 100, if all rows are distributions that sum to it."""
    for total in (1, 100):
        near = np.abs(logits.sum(1) - total) <= total * max(1e-3, 4 * digits)
        if near.all() and (logits >= -1e-4 * total).all():
            return total
    return None


def _check_scale(steepest: np.ndarray, dtype: np.dtype) -> None:
    """Raises ValueError where the squares of slopes, of which attacks take the root, are no numbers of their dtype;
    warns where the slopes themselves, against 1, are beyond its precision.

    Args:
      steepest: the largest element of some slopes, positive and finite.
      dtype: that attacks compute in.
    """
    if not steepest.size:
        return
    info, largest = jnp.finfo(dtype), float(steepest.max())
    advice = (
        f"Multiply the logits by 1e{-round(np.log10(largest)):+d}: no answer changes, and a confidence is then counted "
        "in that unit"
    )
    if not float(info.tiny) <= largest**2 <= float(info.max):
        raise ValueError(
            f"the slopes of the model's logits come to {largest:.1g} at most, and the squares of such numbers are 0 or "
            f"infinite in {info.dtype}. {advice}"
        )
    if not float(info.eps) <= largest <= 1 / float(info.eps):
        warnings.warn(
            f"the slopes of the model's logits come to {largest:.1g} at most: the published attacks, whose weights c "
            f"and steps are made for slopes near 1, may fail or end far off. {advice}",
            stacklevel=3,
        )
