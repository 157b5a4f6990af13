"""The layers of a network, found in the program that JAX traces of it: activation functions, convolutions, dense
layers and pools. No hooks, and no names from a framework.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jax.extend import core

from cwjax.coverage.jaxprs import POOLS, PRIMITIVES, REDUCTIONS, SHAPING, called, rectified

KINDS = ("activation", "convolution", "dense", "pool")
GATES = {"tanh": "gelu", "erf": "gelu", "erfc": "gelu", "logistic": "silu"}  # times its own input
NEAR = 12  # operations of one activation function that is written out: the tanh form of GELU has eight


class Found(NamedTuple):
    """A layer of a program."""

    kind: str  # of KINDS
    function: str  # "relu", "convolution", …
    before: Any  # the variable that goes into it
    after: Any  # and the one that comes out
    channel_axis: int  # of both, the axis of the batch counted


def found(program: core.ClosedJaxpr, inputs: slice) -> Iterator[Found]:
    """The layers of a flat program, in its order.

    Args:
      program: from `flattened`.
      inputs: which of its arguments are the network's inputs, and not weights.
    """
    return _Graph(program.jaxpr, inputs).found()


class _Graph:
    """Who makes and who reads each variable of a program, and which variables depend on the network's inputs."""

    def __init__(self, program: Any, inputs: slice):
        self.steps, self.made, self.read_by = program.eqns, {}, {}
        self.depends = set(program.invars[inputs])
        for step in program.eqns:
            self.made |= dict.fromkeys(step.outvars, step)
            names = [name for name in step.invars if not isinstance(name, core.Literal)]
            for name in names:
                self.read_by.setdefault(name, []).append(step)
            if self.depends.intersection(names):
                self.depends |= set(step.outvars)
        self.channels: dict[int, int] = {}  # rank -> the axis of channels of the last convolution of that rank

    def found(self) -> Iterator[Found]:
        for step in self.steps:
            if not self.depends.intersection(step.outvars):
                continue
            name, out = step.primitive.name, step.outvars[0]
            axis = self.channels.get(out.aval.ndim, int(out.aval.ndim) - 1)
            if name == "conv_general_dilated":
                axis = int(step.params["dimension_numbers"].out_spec[1])
                self.channels[out.aval.ndim] = axis
                yield Found("convolution", "convolution", step.invars[0], self._followed(out, ("add", "sub")), axis)
            elif name == "dot_general" and sum(self._is_given(each) for each in step.invars) == 1:
                given = next(each for each in step.invars if self._is_given(each))
                after = self._followed(out, ("add", "sub"))
                yield Found("dense", "dense", given, after, after.aval.ndim - 1)
            elif name in POOLS or (name in REDUCTIONS and self._pools(step)):
                after = self._followed(out, ("div", "mul"))
                yield Found("pool", "pool", step.invars[0], after, axis)
            elif activation := self._activation(step):
                yield Found("activation", *activation, axis)

    def _is_given(self, name: Any) -> bool:
        return not isinstance(name, core.Literal) and name in self.depends

    def _activation(self, step: Any) -> tuple[str, Any, Any] | None:
        """Its name, and the variables before and after it."""
        out, name = step.outvars[0], step.primitive.name
        given = [each for each in step.invars if self._is_given(each) and each.aval.shape == out.aval.shape]
        if not given:
            return None
        if function := called(step):
            return function, given[0], out
        if name in GATES and (gated := self._gated(step, given[0])):
            return GATES[name], *gated
        if rectified(step) and not self._is_variance(out):
            return "relu", given[0], out
        if name in PRIMITIVES:
            return PRIMITIVES[name], given[0], out
        if name == "select_n" and (chosen := self._chosen(step)):
            branches = sum(self._is_given(each) for each in step.invars[1:])
            return "relu" if branches == 1 else "leaky_relu", chosen, out
        return None

    def _gated(self, step: Any, given: Any) -> tuple[Any, Any] | None:
        """Of `x·g(x)`, with g made of this step: x, and the product."""
        gate = self._followed(step.outvars[0], ("add", "sub", "mul", "div", "neg"))
        readers = self.read_by.get(gate, [])
        if len(readers) != 1 or readers[0].primitive.name != "mul":
            return None
        x = next((name for name in readers[0].invars if name is not gate and self._is_given(name)), None)
        behind = self._behind(given)
        while x is not None and x not in behind:  # the product may be `(0.5·x)·g(x)`
            x = self._scaled(x)
        return None if x is None else (x, readers[0].outvars[0])

    def _chosen(self, step: Any) -> Any:
        """The x of `where(x > 0, x, …)`."""
        asked = self.made.get(step.invars[0])
        if asked is None or asked.primitive.name not in ("gt", "ge", "lt", "le"):
            return None
        x = next((name for name in asked.invars if self._is_given(name)), None)
        zero = any(isinstance(name, core.Literal) and np.all(name.val == 0) for name in asked.invars)
        return x if zero and x in step.invars[1:] else None

    def _scaled(self, name: Any) -> Any:
        """The variable that this one is a multiple of."""
        step = self.made.get(name)
        given = [each for each in step.invars if self._is_given(each)] if step else []
        return given[0] if step and step.primitive.name in ("mul", "div") and len(given) == 1 else None

    def _behind(self, name: Any) -> set[Any]:
        """Variables of the same shape that it is made of, a few steps back."""
        behind, edge = {name}, [name]
        for _ in range(NEAR):
            steps = [self.made[each] for each in edge if each in self.made]
            edge = [each for step in steps for each in step.invars if self._is_given(each)]
            edge = [each for each in edge if each.aval.shape == name.aval.shape and each not in behind]
            behind |= set(edge)
        return behind

    def _followed(self, name: Any, through: tuple[str, ...]) -> Any:
        """The variable after what is done to this one alone with numbers that do not depend on the inputs, such as a
        bias: the last of the steps named.
        """
        reached = at = name
        while len(readers := self.read_by.get(at, [])) == 1:
            step, size = readers[0], at.aval.size
            own = sum(self._is_given(each) for each in step.invars) == 1 and step.outvars[0].aval.size == size
            if not own or step.primitive.name not in (*through, *SHAPING):
                break
            at = step.outvars[0]
            reached = at if step.primitive.name in through else reached
        return reached

    def _is_variance(self, name: Any) -> bool:
        """Whether it ends in a square root and nothing else, as the `max(variance, 0)` of a normalisation does."""
        edge, seen = [name], set()
        for _ in range(NEAR):
            steps = [step for each in edge for step in self.read_by.get(each, [])]
            if steps and all(step.primitive.name in ("rsqrt", "sqrt") for step in steps):
                return True
            if not steps or any(step.primitive.name not in ("add", *SHAPING) for step in steps):
                return False
            edge, seen = [out for step in steps for out in step.outvars], seen | set(edge)
        return False

    def _pools(self, step: Any) -> bool:
        """Whether this is a pool by reshape, [B, H/2, 2, W/2, 2, C] to [B, H/2, W/2, C]; or of each whole channel."""
        whole, out = step.invars[0], step.outvars[0]
        if whole.aval.ndim >= 3 and out.aval.ndim == 2:
            axes, axis = set(step.params["axes"]), self.channels.get(whole.aval.ndim)
            return axis is not None and axes == set(range(1, whole.aval.ndim)) - {axis}
        split = self.made.get(whole)
        if split is None or split.primitive.name != "reshape":
            return False
        before, after = split.invars[0].aval, out.aval
        alike = before.ndim == after.ndim >= 3 and before.shape[0] == after.shape[0]
        return alike and before.shape[-1] == after.shape[-1] and before.size > after.size
