"""Haiku functions as cwjax models."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from cwjax.adapters.checking import NotConvertible, kind_of
from cwjax.adapters.inference import checked, inputs_in_jax
from cwjax.adapters.inputs import Layout, Scale, adapted
from cwjax.models import Model


def from_haiku(
    transformed: Any,
    params: PyTree,
    shape: Sequence[int],
    state: PyTree = None,
    *,
    layout: Layout | None = "NHWC",
    mean: Scale | None = None,
    std: Scale | None = None,
    low: float = 0.0,
    high: float = 1.0,
    **inference: Any,
) -> Model:
    """What `haiku.transform` or `haiku.transform_with_state` made, with its trained weights.

    `haiku.without_apply_rng` of it is taken as well.

    Args:
      transformed: of a function of a batch.
      params: what its `init` gave, trained.
      shape: of one input as the function takes it: (28, 28, 1) or (features,).
      state: what its `init` gave besides, for `transform_with_state`.
      layout: how the function takes images of three axes.
      mean: what images are normalised by before the function: one number, or one a channel. None: 0, or not at all.
      std: likewise, > 0.
      low: the lower end of the box of images.
      high: the upper end.
      inference: arguments of the function, such as is_training=False.

    Returns:
      What `cwjax.bind` returns. The same `transformed` compiles once.

    Raises:
      NotConvertible: a layer is in training mode: it updates its state, or draws at random.

    Example:
      >>> import haiku
      >>> net = haiku.without_apply_rng(haiku.transform(lambda x: haiku.Linear(2)(x)))
      >>> params = net.init(jax.random.key(0), x)
      >>> model = cw.adapters.from_haiku(net, params, (3,))
      >>> bool(jnp.allclose(model.of_batch(x), net.apply(params, x), atol=1e-5))
      True
    """
    if not callable(getattr(transformed, "apply", None)) or not callable(getattr(transformed, "init", None)):
        raise NotConvertible(f"from_haiku takes what haiku.transform made, got a {kind_of(transformed)}")
    name = "the Haiku function"
    inputs = inputs_in_jax(shape, layout, mean, std, low, high)
    apply = _Haiku(transformed.apply, "WithState" in kind_of(transformed), tuple(sorted(inference.items())))
    x = jnp.zeros((1, *inputs.shape), jnp.float32)
    _check_evaluates(apply, params, state, x, name)
    made = adapted(apply, (params, state), inputs)
    return checked(made, inputs, lambda x: apply((params, state), jnp.asarray(x)), name)


@dataclasses.dataclass(frozen=True)
class _Haiku:
    apply: Any
    with_state: bool
    flags: tuple[tuple[str, Any], ...]

    def __call__(self, weights: PyTree, x: Array) -> Any:
        params, state = weights
        return self.told(params, state, x)[0]

    def told(self, params: PyTree, state: PyTree, x: Array) -> tuple[Any, Any]:
        """The outputs and the state after the call."""
        weights = (params, state) if self.with_state else (params,)
        taken = [*inspect.signature(self.apply).parameters]
        key = (None,) if taken[len(weights)] == "rng" else ()  # `haiku.without_apply_rng` takes none
        answer = self.apply(*weights, *key, x, **dict(self.flags))
        return answer if self.with_state else (answer, state)


def _check_evaluates(apply: _Haiku, params: PyTree, state: PyTree, x: Array, name: str) -> None:
    """Raises NotConvertible where the call draws at random or updates its state; names what it updates."""
    flags = ", ".join(f"{flag}={value}" for flag, value in apply.flags) or "no flags"
    way_out = f"(called with {flags}): hand the flags of inference to from_haiku, such as is_training=False"
    try:
        _, after = jax.jit(apply.told)(params, state, x)
    except ValueError as error:
        if "rng" not in str(error).lower():
            raise
        raise NotConvertible(f"{name} draws at random, as dropout does in training mode {way_out}") from error
    for (path, before), now in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(after), strict=True):
        if not (before == now).all():
            raise NotConvertible(f"{name} updates state{jax.tree_util.keystr(path)}: it is in training mode {way_out}")
