"""Flax modules, NNX and Linen, as cwjax models in inference mode."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from cwjax.adapters.checking import NotConvertible, kind_of
from cwjax.adapters.inference import checked, inputs_in_jax
from cwjax.adapters.inputs import Layout, Scale, adapted
from cwjax.adapters.packages import package
from cwjax.models import Model

_TRAINING = {"use_running_average": False, "deterministic": False}  # what says that a layer is in training mode
_FLAGS = {"train": False, "training": False, "is_training": False, "deterministic": True, "use_running_average": True}


def from_nnx(
    module: Any,
    shape: Sequence[int],
    *,
    layout: Layout | None = "NHWC",
    mean: Scale | None = None,
    std: Scale | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Model:
    """A copy of a Flax NNX module in evaluation mode. Your module is not changed, and may go on training.

    Args:
      module: an `nnx.Module`, called with a batch.
      shape: of one input as the module takes it: (28, 28, 1) or (features,).
      layout: how the module takes images of three axes.
      mean: what images are normalised by before the module: one number, or one a channel. None: 0, or not at all.
      std: likewise, > 0.
      low: the lower end of the box of images.
      high: the upper end.

    Returns:
      What `cwjax.bind` returns. Modules of one structure compile once.

    Raises:
      NotConvertible: a layer stays in training mode; logits that depend on chance or on the batch.

    Example:
      >>> from flax import nnx
      >>> net = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
      >>> bool(jnp.allclose(cw.adapters.from_nnx(net, (3,)).of_batch(x), net(x), atol=1e-5))
      True
    """
    nnx = package("flax.nnx", extra="lab", wanted_by="from_nnx")
    if not isinstance(module, nnx.Module):
        raise NotConvertible(f"from_nnx takes an nnx.Module, got a {kind_of(module)}")
    copied = nnx.clone(module)
    copied.eval()
    name = f"the NNX module {kind_of(module)}"
    for path, layer in nnx.iter_modules(copied):
        for flag, value in _TRAINING.items():
            if getattr(layer, flag, None) is value:
                place = ".".join(map(str, path)) or kind_of(layer)
                raise NotConvertible(f"layer {place!r} of {name} stays in training mode ({flag}={value}) after eval()")
    graph, random, weights = nnx.split(copied, nnx.RngState, ...)
    inputs = inputs_in_jax(shape, layout, mean, std, low, high)
    made = adapted(_Nnx(graph, random), weights, inputs)
    return checked(made, inputs, lambda x: copied(jnp.asarray(x)), name)


@dataclasses.dataclass(frozen=True)
class _Nnx:
    graph: Any
    random: Any = dataclasses.field(compare=False)  # generators of dropout, which nothing draws from

    def __call__(self, weights: PyTree, x: Array) -> Any:
        from flax import nnx

        return nnx.merge(self.graph, self.random, weights)(x)


def from_linen(
    module: Any,
    variables: Mapping[str, PyTree],
    shape: Sequence[int],
    *,
    layout: Layout | None = "NHWC",
    mean: Scale | None = None,
    std: Scale | None = None,
    low: float = 0.0,
    high: float = 1.0,
    **inference: Any,
) -> Model:
    """A Flax Linen module with its variables, in inference mode.

    Args:
      module: a `linen.Module`, called with a batch.
      variables: all of its collections: {"params": …, "batch_stats": …}.
      shape: of one input as the module takes it: (28, 28, 1) or (features,).
      layout: how the module takes images of three axes.
      mean: what images are normalised by before the module: one number, or one a channel. None: 0, or not at all.
      std: likewise, > 0.
      low: the lower end of the box of images.
      high: the upper end.
      inference: arguments of the module's call. Those called train, training, is_training, deterministic and
        use_running_average are set for inference by themselves.

    Returns:
      What `cwjax.bind` returns. Equal modules compile once.

    Raises:
      NotConvertible: a layer is in training mode; logits that depend on the batch.

    Example:
      >>> from flax import linen
      >>> net = linen.Dense(2)
      >>> variables = net.init(jax.random.key(0), x)
      >>> model = cw.adapters.from_linen(net, variables, (3,))
      >>> bool(jnp.allclose(model.of_batch(x), net.apply(variables, x), atol=1e-5))
      True
    """
    linen = package("flax.linen", extra="lab", wanted_by="from_linen")
    if not isinstance(module, linen.Module):
        raise NotConvertible(f"from_linen takes a linen.Module, got a {kind_of(module)}")
    name = f"the Linen module {kind_of(module)}"
    known = inspect.signature(type(module).__call__).parameters
    flags = {flag: value for flag, value in _FLAGS.items() if flag in known} | inference
    inputs = inputs_in_jax(shape, layout, mean, std, low, high)
    apply = _Linen(module, tuple(sorted(flags.items())))
    _check_evaluates(linen, apply, variables, jnp.zeros((1, *inputs.shape), jnp.float32), name)
    made = adapted(apply, dict(variables), inputs)
    return checked(made, inputs, lambda x: apply(variables, jnp.asarray(x)), name)


@dataclasses.dataclass(frozen=True)
class _Linen:
    module: Any
    flags: tuple[tuple[str, Any], ...]

    def __call__(self, variables: PyTree, x: Array) -> Any:
        return self.module.apply(variables, x, **dict(self.flags))


def _check_evaluates(linen: Any, apply: _Linen, variables: PyTree, x: Array, name: str) -> None:
    """Raises NotConvertible where a layer wants to update its statistics, or to draw at random; names the layer."""
    from flax import errors

    where = [""]

    def noted(call, args, kwargs, context):
        where[0] = "/".join(context.module.path) or kind_of(context.module)
        return call(*args, **kwargs)

    try:
        with linen.intercept_methods(noted):
            jax.eval_shape(apply, variables, x)
    except (errors.InvalidRngError, errors.ModifyScopeVariableError) as error:
        flags = ", ".join(f"{flag}={value}" for flag, value in apply.flags) or "no flags"
        raise NotConvertible(
            f"layer {where[0]!r} of {name} is in training mode (called with {flags}): hand the flags of inference to "
            "from_linen, such as train=False"
        ) from error
