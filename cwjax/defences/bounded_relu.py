"""Bounded activations and noise in training (Zantedeschi et al. 2017)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cwjax.arguments import check_number
from cwjax.base import AnyArray
from cwjax.coverage.neurons import rewired
from cwjax.defences.defended import Defended, Keep, fresh, lessons_of
from cwjax.defences.inner_layers import activations
from cwjax.defences.learnt_weights import retrained
from cwjax.models import Model


def bounded_relu(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    bound: float = 1.0,
    noise: float = 0.3,
    updates: int = 250,
    keep: Keep = fresh,
) -> Defended:
    """The model with ReLU cut off above, trained on inputs with Gaussian noise.

    Args:
      model: where training begins; each of its activation functions is cut off.
      x: inputs in [0, 1]; the last fifth is left out, as for every defence.
      labels: of the inputs.
      key: of the batches and the noise.
      bound: t of `min(max(0, a), t)`.
      noise: the standard deviation of the noise, drawn anew for every batch; the sum is clipped to [0, 1].
      updates: steps of Adam, 128 inputs each.
      keep: see `Keep`.

    Returns:
      The model; it refuses nothing.

    Raises:
      ValueError: a number out of range; a model without activation functions.

    Example:
      >>> defended = cw.defences.bounded_relu(model, x, labels, jax.random.key(0), updates=20)
      >>> float((defended.model.of_batch(x).argmax(1) == labels).mean())
      1.0

    References:
      Zantedeschi et al. 2017, "Efficient defenses against adversarial attacks", https://arxiv.org/abs/1707.06728
      Broken by Carlini & Wagner 2017, "MagNet and 'Efficient defenses against adversarial attacks' are not robust to
        adversarial examples", https://arxiv.org/abs/1711.08478
    """
    check_number("bound", bound, least=0, above=True)
    check_number("noise", noise, least=0)
    fit, known, _ = lessons_of(model, x, labels, bounded=True)
    activations(model, fit)  # raises where there is none
    bounded = rewired(model, fit, _cut, jnp.asarray(bound, jnp.float32))
    inner, more = bounded.params
    fixed = Model(apply=bounded.apply, params=(inner, more))
    params = keep("network", lambda: retrained(fixed, fit, known, key, updates=updates, noise=noise).params[0])
    return Defended(Model(apply=bounded.apply, params=(params, more)))


def _cut(bound: Float[Array, ""], values: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    return jnp.minimum(values, bound.astype(values.dtype))
