"""Defensive distillation (Papernot et al. 2016): a network that learns another one's answers at a high temperature."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from cwjax.arguments import check_number
from cwjax.base import AnyArray
from cwjax.defences.defended import Defended, Keep, answers, fresh, lessons_of
from cwjax.defences.learnt_weights import redrawn, retrained
from cwjax.models import Model


def distilled(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    temperature: float = 100.0,
    updates: int = 300,
    keep: Keep = fresh,
) -> Defended:
    """A student of the model's answers, whose logits are T times as large as an ordinary network's.

    In the paper a teacher and then a student are trained with logits over T in the loss, and used without. Teacher and
    student are here written as T times a network whose logits the loss sees as they are: the same function and the same
    loss, with a last layer that starts T times as large. So the model itself is the teacher. The student begins with
    fresh weights. `cwjax train --recipe distilled` is the paper's procedure, step by step.

    Args:
      model: the teacher; the student has its shape.
      x: inputs in [0, 1]; the last fifth is left out, as for every defence.
      labels: of the inputs; the student sees the teacher's answers alone.
      key: of the fresh weights and the batches.
      temperature: T, the paper's 100.
      updates: steps of Adam, 128 inputs each.
      keep: see `Keep`.

    Returns:
      The student; it refuses nothing.

    Example:
      >>> defended = cw.defences.distilled(model, x, labels, jax.random.key(0), updates=100)
      >>> defended.model.of_batch(x).shape, defended.detector  # a network that refuses nothing
      ((40, 2), None)

    References:
      Papernot et al. 2016, "Distillation as a defense to adversarial perturbations against deep neural networks",
        https://arxiv.org/abs/1511.04508
      Broken by Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VIII,
        https://arxiv.org/abs/1608.04644
    """
    check_number("temperature", temperature, least=0, above=True)
    x, _, _ = lessons_of(model, x, labels)
    begin, learn = jax.random.split(key)
    soft, start = jax.nn.softmax(answers(model, x)), redrawn(model, begin)
    params = keep("student", lambda: retrained(start, x, soft, learn, updates=updates).params)
    return Defended(Model(apply=_Hot(model.apply), params=(params, jnp.asarray(temperature, jnp.float32))))


@dataclasses.dataclass(frozen=True)
class _Hot:
    apply: Callable[..., Array]

    def __call__(self, params: tuple[PyTree, Array], x: Array) -> Array:
        inner, temperature = params
        return temperature * self.apply(inner, x)
