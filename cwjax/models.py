"""Models as arguments: a pytree of weights and a pure function of them, so that new weights never recompile."""

import dataclasses
from collections.abc import Callable

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from cwjax.frameworks import described, framework_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Model:
    """A classifier. Called with one input [*S] it returns its logits [K]; make it with `bind`."""

    apply: Callable[..., Array] = dataclasses.field(metadata={"static": True})  # (params, [B, *S]) -> [B, K]
    params: PyTree

    def __call__(self, x: Float[Array, "*S"]) -> Float[Array, "K"]:
        return self.apply(self.params, x[None])[0]


def bind(apply: Callable[..., Array], params: PyTree = ()) -> Model:
    """The model of a function and its weights.

    Args:
      apply: `(params, x) -> logits`, from a batch [B, *S] to [B, K]; logits, not probabilities. It is part of the
        compiled program's identity: bind the same function object again, not a new lambda, or the attack compiles
        again.
      params: any pytree of arrays; traced.

    Raises:
      TypeError: a module of PyTorch, Flax, Equinox, Haiku or Keras in the place of its function (the message says how
        to hand over the function); anything else that cannot be called; something in `params` that is no array.
    """
    if not callable(apply) or framework_of(apply):
        raise TypeError(f"bind takes a function (params, x) -> logits first, got {described(apply)}")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        try:
            jax.typeof(leaf)
        except (TypeError, OverflowError) as error:
            place = f"params{jax.tree_util.keystr(path)}"
            came = described(params) if framework_of(params) else f"{described(leaf)} at {place}"
            raise TypeError(f"bind takes a pytree of arrays as params, got {came}") from error
    return Model(apply=apply, params=params)


def normalised(model: Model, mean: ArrayLike, std: ArrayLike) -> Model:
    """The model on inputs of another scale: `model((x - mean) / std)`, so that the box stays that of the images.

    Args:
      model: takes normalised inputs.
      mean: a scalar, or an array that broadcasts to one input, such as one number a channel.
      std: likewise, > 0.

    Raises:
      TypeError, ValueError: arguments that are not that.
    """
    if not isinstance(model, Model):
        raise TypeError(f"normalised takes a model from cwjax.bind(apply, params), got a {type(model).__name__}")
    known = not isinstance(mean, jax.core.Tracer) and not isinstance(std, jax.core.Tracer)
    if known and not (np.isfinite(jnp.asarray(mean)).all() and (jnp.asarray(std) > 0).all()):
        raise ValueError(f"normalised takes a finite mean and a std above 0, got mean={mean} and std={std}")
    return Model(apply=_Normalised(model.apply), params=(model.params, jnp.asarray(mean), jnp.asarray(std)))


@dataclasses.dataclass(frozen=True)
class _Normalised:  # a class and not a closure: equal when the inner function is, so that it compiles once
    apply: Callable[..., Array]

    def __call__(self, params: PyTree, x: Array) -> Array:
        inner, mean, std = params
        mean, std = (jnp.broadcast_to(value, x.shape).astype(x.dtype) for value in (mean, std))
        return self.apply(inner, (x - mean) / std)
