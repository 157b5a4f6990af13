"""Input checks at the public boundary: one error that says what came and what to do.

What shapes and dtypes tell is checked by the runners, also under jit. What only values tell (`validate`) has to be
asked for outside jit, where there are values.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from cwjax.base import Attack, Goal
from cwjax.models import Model


def check_number(
    name: str, value: Any, *, least: int | float, above: bool = False, most: int | float = float("inf")
) -> None:
    """Raises TypeError unless it is one number, and ValueError unless that is finite, at least `least` (or above it),
    and at most `most`. Traced numbers pass.
    """
    if isinstance(value, jax.core.Tracer):
        return
    if not isinstance(value, int | float | np.generic | np.ndarray | jax.Array) or np.ndim(value):
        raise TypeError(f"{name} must be one number, got {_came(value)}")
    number = float(value)
    if not np.isfinite(number) or number < least or (above and number == least):
        raise ValueError(f"{name} must be {'more than' if above else 'at least'} {least:g}, got {value}")
    if number > most:
        raise ValueError(f"{name} must be at most {most}, got {value}")


def check_count(name: str, value: Any, *, least: int = 1, most: int | float = float("inf")) -> None:
    """As `check_number`, and raises ValueError unless the number is whole."""
    check_number(name, value, least=least, most=most)
    if not isinstance(value, jax.core.Tracer) and float(value) % 1:
        raise ValueError(f"{name} must be a whole number, got {value}")


def check_part(name: str, value: Any, kind: type) -> None:
    """Raises TypeError unless a part of an attack is what it has to be."""
    if not isinstance(value, kind):
        wanted = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise TypeError(f"{name} must be of the type {wanted}, got {_came(value)}")


def check_model(model: Any) -> None:
    """Raises TypeError for anything that `bind` did not make."""
    if not isinstance(model, Model):
        raise TypeError(f"the model must come from cwjax.bind(apply, params), got {type(model).__name__}")


def check_maker(attack: Any) -> None:
    """Raises TypeError unless it is an attack, or may be a function that makes one."""
    if not isinstance(attack, Attack) and not callable(attack):
        raise TypeError(f"the attack must be a cwjax.Attack or a function that makes one, got {attack!r}")


def check_runner(runner: Any) -> None:
    """Raises TypeError for an attack where a runner has to be."""
    if not callable(runner):
        raise TypeError(f"the runner must be a function such as cwjax.batched(attack), got {_came(runner)}")


def _came(value: Any) -> str:
    """What came, for an error: "the text 'adam'", "the function l2, and not what it returns"."""
    if isinstance(value, str):
        return f"the text {value!r}"
    if np.ndim(value) and isinstance(value, np.ndarray | jax.Array):
        return f"an array of shape {list(value.shape)}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}, and not what it returns"
    return repr(value) if isinstance(value, int | float | None) else type(value).__name__


def check_labels(name: str, labels: ArrayLike | Sequence[int]) -> jax.Array | np.ndarray:
    """Raises ValueError unless `labels` are integers of shape [B]; returns them as an array."""
    labels = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"{name} must be integers, got {labels.dtype}: pass class numbers 0…K-1")
    if labels.ndim != 1:
        hint = ", not one-hot rows: labels.argmax(-1)" if labels.ndim == 2 else ""
        raise ValueError(f"{name} must have shape [B], got {list(labels.shape)}: pass class numbers{hint}")
    return labels


def check_targets(labels: jax.Array | np.ndarray, targets: jax.Array | np.ndarray) -> None:
    """Raises ValueError if a target equals its label. Traced values pass."""
    if np.shape(labels) != np.shape(targets):
        raise ValueError(f"labels {list(np.shape(labels))} and targets {list(np.shape(targets))} differ in shape")
    if isinstance(labels, jax.core.Tracer) or isinstance(targets, jax.core.Tracer):
        return
    same = np.flatnonzero(np.asarray(labels) == np.asarray(targets))
    if same.size:
        raise ValueError(
            f"the target equals the label in {same.size} of {np.size(labels)} examples, first in example {same[0]}: "
            "target another class, or use untargeted(labels)"
        )


def check_batch(model: Model, keys: jax.Array, x: jax.Array | np.ndarray, goal: Goal) -> None:
    """Raises TypeError or ValueError unless model, keys [B], x [B, *S] and goal [B] fit together. Needs no values:
    runners call it.
    """
    check_examples(model, x, goal)
    if not isinstance(keys, np.ndarray | jax.Array):
        raise TypeError(f"keys must be an array, got {type(keys).__name__}")
    typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    _check_count("keys", keys.shape if typed else keys.shape[:-1], x)


def check_examples(model: Model, x: jax.Array | np.ndarray, goal: Goal) -> None:
    """Raises TypeError or ValueError unless model, x [B, *S] and goal [B] fit together."""
    check_model(model)
    if not isinstance(goal, Goal):
        raise TypeError(f"the goal must come from cwjax.targeted or cwjax.untargeted, got {type(goal).__name__}")
    for name, value in (("x", x), ("goal.label", goal.label), ("goal.sign", goal.sign)):
        if not isinstance(value, np.ndarray | jax.Array):
            raise TypeError(f"{name} must be an array, got {type(value).__name__}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be floating-point, got {x.dtype}: for 8-bit images pass x / 255")
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"x must hold at least one example along its first axis, got shape {list(x.shape)}")
    _check_count("goal.label", goal.label.shape, x)
    _check_count("goal.sign", goal.sign.shape, x)
    check_logits(model, x)


def _check_count(name: str, shape: tuple[int, ...], x: jax.Array | np.ndarray) -> None:
    if shape != x.shape[:1]:
        raise ValueError(f"{name} must have one entry an example, {x.shape[0]} of them, got shape {list(shape)}")


def check_logits(model: Model, x: jax.Array | np.ndarray) -> int:
    """Raises ValueError unless the model gives at least two logits for an input of x's shape; returns how many."""
    try:
        logits = jax.eval_shape(model, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"the model refused an input of shape {list(x.shape[1:])} and dtype {x.dtype}: {reason}"
        ) from error
    if logits.ndim != 1 or logits.shape[0] < 2 or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(
            f"the model must map [B, *S] to floating-point logits [B, K] with K >= 2, got {logits.dtype} of shape "
            f"{[x.shape[0], *logits.shape]} for inputs of shape {list(x.shape)}"
        )
    return logits.shape[0]


def validate(model: Model, x: ArrayLike, goal: Goal, *, lower: ArrayLike = 0.0, upper: ArrayLike = 1.0) -> None:
    """Checks what only values tell, before an attack. Runs the model once over x.

    Args:
      model: from `bind`.
      x: clean inputs [B, *S] within [lower, upper].
      goal: from `targeted` or `untargeted`.
      lower: of the attack's box.
      upper: of the attack's box.

    Raises:
      TypeError, ValueError: NaN or infinite pixels; pixels outside the box; labels out of range; a model that returns
        probabilities, or NaN; and all that the runners check.
    """
    values = np.asarray(x)
    if jnp.issubdtype(values.dtype, jnp.floating) and not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))
        raise ValueError(f"x holds NaN or infinite values in {bad.size} examples, first in example {bad[0]}")
    x = jnp.asarray(x)
    check_examples(model, x, goal)
    low, high = float(values.min()), float(values.max())
    if (values < np.asarray(lower, values.dtype)).any() or (values > np.asarray(upper, values.dtype)).any():
        scale = ": 8-bit images must be divided by 255" if high > 2 and np.max(upper) <= 2 else ""
        raise ValueError(f"x spans [{low:g}, {high:g}], outside the box [{lower}, {upper}]{scale}")
    classes, labels = check_logits(model, x), np.asarray(goal.label)
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels span {labels.min()}…{labels.max()}, but the model has classes 0…{classes - 1}")
    answers = [model.apply(model.params, x[i : i + 256]) for i in range(0, len(x), 256)]
    logits, precision = np.concatenate([np.asarray(part, np.float32) for part in answers]), answers[0].dtype
    if not np.isfinite(logits).all():
        bad = np.flatnonzero(~np.isfinite(logits).all(1))
        raise ValueError(f"the model gives NaN or infinite logits for {bad.size} clean examples, first {bad[0]}")
    if (logits >= -1e-4).all() and np.allclose(logits.sum(1), 1, atol=max(1e-3, 4 * float(jnp.finfo(precision).eps))):
        raise ValueError(
            "the model returns probabilities (each row is >= 0 and sums to 1): return logits, without the softmax"
        )
