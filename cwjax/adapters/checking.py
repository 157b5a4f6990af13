"""A model that was made of another framework's is compared with the original before anybody attacks it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.models import Model

TOLERANCE = 1e-3  # of the largest logit or slope: 32-bit rounding through a deep network stays below a tenth of it

Original = Callable[[np.ndarray], np.ndarray]
Gradient = Callable[[np.ndarray, np.ndarray], np.ndarray]


class NotConvertible(ValueError):  # noqa: N818
    """A model of another framework cannot become a cwjax model: the operation, layer or number, and the way out."""


class GradientsDiffer(NotConvertible):
    """The logits are the original's, and the input gradients are not."""


def confirmed(
    model: Model,
    original: Original,
    x: np.ndarray,
    *,
    name: str,
    gradient: Gradient | None = None,
    tolerance: float = TOLERANCE,
) -> Model:
    """The model, once its logits and its input gradients are those of the original.

    Args:
      model: that was made of the original.
      original: x [B, *S] -> logits [B, K], by the other framework, both as NumPy arrays.
      x: inputs [B, *S] in the box of the model, at least 2.
      name: of the original, for an error: "the PyTorch module ResNet".
      gradient: (x, cotangent [B, K]) -> the gradient [B, *S] of `sum(cotangent * original(x))`. None: it has none to
        compare with.
      tolerance: the largest difference that is allowed, as a share of the largest logit (or slope) of the original.

    Returns:
      The model that came.

    Raises:
      NotConvertible: other shapes than [B, K]; NaN; logits or gradients (GradientsDiffer) that differ by more than the
        tolerance; an original whose logits of an example depend on the rest of the batch, or on chance.

    Example:
      >>> images = np.random.default_rng(0).uniform(size=(4, 3)).astype(np.float32)
      >>> cw.adapters.confirmed(model, lambda x: np.asarray(x), images, name="the identity") is model
      True
    """
    theirs = np.asarray(original(x))
    if theirs.ndim != 2 or len(theirs) != len(x) or theirs.shape[1] < 2:
        raise NotConvertible(
            f"{name} gives {list(theirs.shape)} for {len(x)} inputs of shape {list(x.shape[1:])}, and not logits "
            f"[{len(x)}, K] with K >= 2: wrap it in a module that returns them"
        )
    _check_steady(original, x, theirs, name, tolerance)
    _check_shape("logits", jax.eval_shape(model.of_batch, jnp.asarray(x)).shape, theirs, name)
    # Cotangents of both signs, so that no sum of logits hides a difference; a fixed seed, so that a refusal repeats.
    cotangent = np.random.default_rng(0).choice([-1.0, 1.0], theirs.shape).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        ours, slope = map(np.asarray, _asked(model, jnp.asarray(x), jnp.asarray(cotangent)))
    _check_close("logits", ours, theirs, name, tolerance)
    if gradient is not None:
        _check_close("input gradients", slope, np.asarray(gradient(x, cotangent)), name, tolerance)
    return model


@jax.jit
def _asked(model: Model, x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    logits, pull = jax.vjp(model.of_batch, x)
    return logits, pull(cotangent.astype(logits.dtype))[0]


def _check_steady(original: Original, x: np.ndarray, answers: np.ndarray, name: str, tolerance: float) -> None:
    """Raises NotConvertible where the first example alone has other logits than in the batch."""
    alone = np.asarray(original(x[:1]))
    apart = _apart(alone, answers[:1])
    if not np.isnan(answers).any() and not apart <= tolerance:
        raise NotConvertible(
            f"{name} gives an example other logits alone than in a batch (by {apart:.1e} of the largest): it depends "
            "on the batch, or on chance. Put it into evaluation mode, or fix its random draws"
        )


def _check_close(what: str, ours: np.ndarray, theirs: np.ndarray, name: str, tolerance: float) -> None:
    _check_shape(what, ours.shape, theirs, name)
    for whose, values in ((name, theirs), (f"the model made of {name}", ours)):
        if not np.isfinite(values).all():
            raise NotConvertible(f"the {what} of {whose} are NaN or infinite on inputs drawn from its box")
    apart = _apart(ours, theirs)
    if apart > tolerance:
        raise (GradientsDiffer if what == "input gradients" else NotConvertible)(
            f"the {what} of the model made of {name} differ from the original's by {apart:.1e} of the largest, more "
            f"than tolerance={tolerance:g}: an operation is converted wrongly, or is not steady in 32 bits"
        )


def _check_shape(what: str, ours: tuple[int, ...], theirs: np.ndarray, name: str) -> None:
    if ours != theirs.shape:
        raise NotConvertible(
            f"the {what} of {name} have the shape {list(theirs.shape)}, those of the model made of it {list(ours)}"
        )


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, as a share of the largest number; NaN where one is NaN."""
    largest = max(float(np.abs(theirs).max(initial=0)), float(np.finfo(np.float32).tiny))
    return float(np.abs(ours.astype(np.float64) - theirs).max(initial=0)) / largest


def kind_of(value: Any) -> str:
    """The name of its class, for an error."""
    return value.__name__ if isinstance(value, type) else type(value).__name__
