"""What modules that are written in JAX have in common: nothing is converted, and the module's own forward pass is
what the model made of it has to give.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from cwjax.adapters.checking import TOLERANCE, confirmed
from cwjax.adapters.heads import check_no_probabilities
from cwjax.adapters.inputs import Inputs, Layout, Scale, inputs_of, logits_of
from cwjax.models import Model


def inputs_in_jax(
    shape: Sequence[int], layout: Layout | None, mean: Scale | None, std: Scale | None, low: float, high: float
) -> Inputs:
    """What a module of JAX takes. The layout is that of its framework, and is for inputs that are images."""
    return inputs_of(shape, layout=layout if len(shape) == 3 else None, mean=mean, std=std, low=low, high=high)


def fingerprint(structure: str) -> np.ndarray:
    """The SHA-256 of a network's structure, uint8 [32]. Among the params of a model it tells a sweep that a file has
    changed where its weights have not.
    """
    return np.frombuffer(hashlib.sha256(structure.encode()).digest(), np.uint8)


def checked(
    model: Model, inputs: Inputs, forward: Callable[[Any], Any], name: str, tolerance: float = TOLERANCE
) -> Model:
    """The model, once its logits and slopes are those of a module.

    Args:
      model: that was made of the module.
      inputs: what the module takes.
      forward: the module itself in inference mode: a batch as it takes it -> outputs.
      name: of the module, for an error.
      tolerance: see `confirmed`.

    Raises:
      NotConvertible: they differ; probabilities in the place of logits.
    """

    @jax.jit
    def logits(x: Any) -> Any:
        return logits_of(forward(x), name)

    @jax.jit
    def pulled(x: Any, cotangent: Any) -> Any:
        answers, pull = jax.vjp(logits, x)
        return pull(cotangent.astype(answers.dtype))[0]

    def original(x: np.ndarray) -> np.ndarray:
        with jax.default_matmul_precision("highest"):
            return np.asarray(logits(inputs.to_module(x)), np.float32)

    def gradient(x: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        with jax.default_matmul_precision("highest"):
            return inputs.from_module(np.asarray(pulled(inputs.to_module(x), cotangent)))

    x = inputs.drawn()
    check_no_probabilities(original(x), name)
    return confirmed(model, original, x, name=name, gradient=gradient, tolerance=tolerance)
