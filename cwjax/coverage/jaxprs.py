"""The program that JAX traces of a network, written out and run with a view of what is inside."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jax.extend import core
from jaxtyping import PyTree

# What jax.nn calls its functions that are programs of their own, and what we call them.
CALLS = {name: name for name in ("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "softplus")}
CALLS |= {name: name for name in ("mish", "hard_tanh", "hard_sigmoid", "hard_silu", "soft_sign", "squareplus")}
CALLS |= {
    "sigmoid": "sigmoid",
    "log_sigmoid": "log_sigmoid",
    "tanh": "tanh",
    "swish": "silu",
    "hard_swish": "hard_silu",
}
PRIMITIVES = {"tanh": "tanh", "logistic": "sigmoid"}
POOLS = ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum")
REDUCTIONS = ("reduce_max", "reduce_sum")
SHAPING = ("reshape", "broadcast_in_dim", "convert_element_type", "squeeze", "copy")


def flattened(function: Callable[..., PyTree], *arguments: PyTree) -> tuple[core.ClosedJaxpr, Any]:
    """The program of a function with its inner programs written out, as far as they hold layers; and the structure of
    what it returns. Loops and branches stay as they are, and so do activation functions.
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    flat = jax.make_jaxpr(lambda *values: evaluated(traced, values))(*traced.in_avals)
    return flat, jax.tree.structure(shapes)


def evaluated(
    program: core.ClosedJaxpr,
    values: Sequence[Any],
    wanted: Sequence[Any] | None = None,
    changes: Mapping[Any, Callable[[Any], Any]] = MappingProxyType({}),
) -> list[Any]:
    """What a program makes of these values: its results, or the variables of it that are wanted.

    A function with a derivative of its own keeps it only where no layer is inside. `changes` has a function for each
    variable that goes on as what that function makes of it.
    """
    names, inputs = program.jaxpr.constvars + program.jaxpr.invars, [*program.consts, *values]
    known: dict[Any, Any] = dict(zip(names, inputs, strict=True))

    def read(name: Any) -> Any:
        return name.val if isinstance(name, core.Literal) else known[name]

    for step in program.jaxpr.eqns:
        given, inner = [read(name) for name in step.invars], _inner(step)
        if inner is None or called(step) or not _holds_layers(inner.jaxpr):
            bound = step.primitive.get_bind_params(step.params)
            functions, options = bound if isinstance(bound, tuple) else ((), bound)  # a pair before JAX 0.10.1
            with step.ctx.manager:
                answer = step.primitive.bind(*functions, *given, **options)
            answers = answer if step.primitive.multiple_results else [answer]
        else:
            answers = evaluated(inner, given)
        known |= zip(step.outvars, answers, strict=True)
        known |= {name: changes[name](known[name]) for name in step.outvars if name in changes}
    return [read(name) for name in (program.jaxpr.outvars if wanted is None else wanted)]


def _inner(step: Any) -> core.ClosedJaxpr | None:
    """The program that this step calls once; None of any other step, and of a loop or a branch."""
    if step.primitive.name in ("scan", "while", "cond"):
        return None
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        program = step.params.get(key)
        if isinstance(program, core.ClosedJaxpr):
            return program
        if isinstance(program, core.Jaxpr) and not program.constvars:
            return core.ClosedJaxpr(program, ())
    return None


def _holds_layers(program: Any) -> bool:
    layered = {
        "conv_general_dilated",
        "dot_general",
        "max",
        "select_n",
        "erf",
        "erfc",
        *PRIMITIVES,
        *POOLS,
        *REDUCTIONS,
    }
    return any(
        step.primitive.name in layered or called(step) or ((inner := _inner(step)) and _holds_layers(inner.jaxpr))
        for step in program.eqns
    )


def called(step: Any) -> str | None:
    """The name of the activation function that this step is a call of."""
    inner = _inner(step)
    if inner is None:
        return None
    if (name := step.params.get("name")) in CALLS and len(step.outvars) == 1:
        return CALLS[name]
    if step.primitive.name.startswith("custom_jvp") and len(inner.jaxpr.eqns) == 1:
        return called(inner.jaxpr.eqns[0]) or rectified(inner.jaxpr.eqns[0])
    return None


def rectified(step: Any) -> str | None:
    zero = [isinstance(name, core.Literal) and np.ndim(name.val) == 0 and name.val == 0 for name in step.invars]
    return "relu" if step.primitive.name == "max" and any(zero) else None
