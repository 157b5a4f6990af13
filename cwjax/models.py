"""Models as arguments: a pytree of weights and a pure function of them, so that new weights never recompile."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from cwjax.base import Network, Outputs
from cwjax.frameworks import described, framework_of
from cwjax.values import known


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Model:
    """Called with one input [*S] it returns its outputs, such as a classifier's logits [K]; make it with `bind`.

    Example:
      >>> print(model(x[0]), model.of_batch(x).shape)
      [0.6 0.4 0.1] (2, 3)
    """

    apply: Callable[..., Outputs] = dataclasses.field(metadata={"static": True})  # (params, [B, *S]) -> [B, K]
    params: PyTree

    def __call__(self, x: Float[Array, "*S"], context: PyTree = None) -> Outputs:
        context = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], context)
        return jax.tree.map(lambda leaf: leaf[0], self.of_batch(x[None], context))

    def of_batch(self, x: Float[Array, "B *S"], context: PyTree = None) -> Outputs:
        """The outputs of a batch, with the axis B in front of each."""
        return self.apply(self.params, x, *(() if context is None else (context,)))

    def given(self, context: PyTree) -> Network:
        """The function of one input alone, which is told that context."""
        return self if context is None else jax.tree_util.Partial(_told, self, context)


def _told(model: Model, context: PyTree, x: Array) -> Outputs:
    return model(x, context)


def bind(apply: Callable[..., Outputs], params: PyTree = ()) -> Model:
    """The model of a function and its weights.

    Args:
      apply: `(params, x) -> logits`, from a batch [B, *S] to [B, K]; logits, not probabilities. For a task other than
        classes the outputs may be any pytree of floating-point arrays [B, ...], which the attack's objective reads.
        With a `context=` given to the runner it is called as `(params, x, context)`. It is part of the compiled
        program's identity: bind the same function object again, not a new lambda, or the attack compiles again.
      params: any pytree of arrays; traced.

    Raises:
      TypeError: a module of PyTorch, Flax, Equinox, Haiku or Keras in the place of its function (the message says what
        makes a model of it); anything else that cannot be called; a function of one argument; something in `params`
        that is no array.

    Example:
      >>> model = cw.bind(lambda weights, x: x @ weights, 2 * jnp.eye(3))
      >>> print(model(x[0]))
      [1.2 0.8 0.2]
    """
    if not callable(apply) or framework_of(apply):
        raise TypeError(f"bind takes a function (params, x) -> logits first, got {described(apply)}")
    _check_takes_params(apply)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        try:
            jax.typeof(leaf)
        except (TypeError, OverflowError) as error:
            place = f"params{jax.tree_util.keystr(path)}"
            came = described(params) if framework_of(params) else f"{described(leaf)} at {place}"
            raise TypeError(f"bind takes a pytree of arrays as params, got {came}") from error
    return Model(apply=apply, params=params)


def _check_takes_params(apply: Callable[..., Outputs]) -> None:
    """Raises TypeError for a function of x alone."""
    if takes(apply, 1) and not takes(apply, 2):
        named = getattr(apply, "__name__", "")
        own = named if named.isidentifier() else "f"
        raise TypeError(
            f"bind takes a function apply(params, x) -> logits, got {own}{inspect.signature(apply)}; "
            f"if it has no params: cwjax.bind(lambda params, x: {own}(x))"
        )


def takes(function: Callable[..., object], count: int) -> bool:
    """Whether a function can be called with this number of arguments; True where it does not tell.

    Args:
      function: anything that can be called. Some functions that are written in C have no signature.
      count: of arguments by position.

    Example:
      >>> cw.models.takes(lambda params, x: x, 2), cw.models.takes(lambda x: x, 2)
      (True, False)
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def joined(models: Sequence[Model]) -> Model:
    """Several models of one input as one, which returns a tuple of their outputs; `objectives.all_of` reads it.

    They run one after the other. A forward or a backward pass of it is one of each of them, and is counted once.

    Args:
      models: from `bind`, at least one. A context is handed to each.

    Raises:
      TypeError, ValueError: something that `bind` did not make; no model.

    Example:
      >>> both = cw.joined([model, cw.bind(lambda params, x: -x)])
      >>> [each.tolist() for each in both(jnp.array([1.0, 2.0, 3.0]))]
      [[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]]
    """
    several = tuple(models)
    if not several:
        raise ValueError("joined takes at least one model, got none")
    for model in several:
        if not isinstance(model, Model):
            raise TypeError(f"joined takes models from cwjax.bind(apply, params), got a {type(model).__name__}")
    return Model(apply=_Joined(tuple(model.apply for model in several)), params=tuple(m.params for m in several))


@dataclasses.dataclass(frozen=True)
class _Joined:
    applies: tuple[Callable[..., Outputs], ...]

    def __call__(self, params: PyTree, x: Array, *context: PyTree) -> tuple[Outputs, ...]:
        return tuple(apply(each, x, *context) for apply, each in zip(self.applies, params, strict=True))


def averaged(apply: Callable[..., Outputs], params: PyTree, draws: PyTree) -> Model:
    """A randomised model with its random draws fixed: the mean of its outputs over them.

    This is expectation over transformation (Athalye et al. 2018).

    The draws are data and not code: noise, dropout masks, shifts, or keys of `jax.random.split`. They are the same in
    every step, so that the loss is one function; draw others to look again. One pass after the other, so that memory
    does not grow with them. A pass of this model is counted once, and costs one for each draw.

    Args:
      apply: `(params, x, draw) -> outputs`, from a batch [B, *S]; one draw serves the batch. With a context it is
        called as `(params, x, draw, context)`.
      params: any pytree of arrays; traced.
      draws: a pytree of arrays with one entry a draw along their first axis, n of them.

    Raises:
      TypeError, ValueError: something that cannot be called, as for `bind`; no draw.

    Example:
      >>> shifted = cw.averaged(lambda weights, x, draw: x @ weights + draw, jnp.eye(3), jnp.array([1.0, 3.0]))
      >>> print(shifted(x[0]))
      [2.6 2.4 2.1]

    References:
      Athalye et al. 2018, "Synthesizing robust adversarial examples", https://arxiv.org/abs/1707.07397
    """
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(draws)}
    if len(counts) != 1 or counts & {(), (0,)}:
        raise ValueError("draws must be a pytree of arrays that all have one entry for each draw, at least one")
    bound = bind(apply, params)
    return Model(apply=_Averaged(bound.apply), params=(params, draws))


@dataclasses.dataclass(frozen=True)
class _Averaged:
    apply: Callable[..., Outputs]

    def __call__(self, params: PyTree, x: Array, *context: PyTree) -> Outputs:
        inner, draws = params
        count = jax.tree.leaves(draws)[0].shape[0]
        outputs = jax.eval_shape(self.apply, inner, x, jax.tree.map(lambda leaf: leaf[0], draws), *context)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), outputs)

        def add(total, draw):
            return jax.tree.map(jnp.add, total, self.apply(inner, x, draw, *context)), None

        total, _ = jax.lax.scan(add, nothing, draws)
        return jax.tree.map(lambda leaf: leaf / count, total)


def normalised(model: Model, mean: ArrayLike, std: ArrayLike) -> Model:
    """The model on inputs of another scale: `model((x - mean) / std)`, so that the box stays that of the images.

    Args:
      model: takes normalised inputs.
      mean: a scalar, or an array that broadcasts to one input, such as one number a channel.
      std: likewise, > 0.

    Raises:
      TypeError, ValueError: arguments that are not that.

    Example:
      >>> print(cw.normalised(model, mean=0.5, std=0.5)(jnp.array([0.0, 0.5, 1.0])))
      [-1.  0.  1.]
    """
    if not isinstance(model, Model):
        raise TypeError(f"normalised takes a model from cwjax.bind(apply, params), got a {type(model).__name__}")
    if known(mean, std) and not (np.isfinite(jnp.asarray(mean)).all() and (jnp.asarray(std) > 0).all()):
        raise ValueError(f"normalised takes a finite mean and a std above 0, got mean={mean} and std={std}")
    return Model(apply=_Normalised(model.apply), params=(model.params, jnp.asarray(mean), jnp.asarray(std)))


@dataclasses.dataclass(frozen=True)
class _Normalised:  # a class and not a closure: equal when the inner function is, so that it compiles once
    apply: Callable[..., Outputs]

    def __call__(self, params: PyTree, x: Array, *context: PyTree) -> Outputs:
        inner, mean, std = params
        mean, std = (jnp.broadcast_to(value, x.shape).astype(x.dtype) for value in (mean, std))
        return self.apply(inner, (x - mean) / std, *context)
