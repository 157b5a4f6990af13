"""How the checks ask the model.

Compiling a network costs more than anything else here. So three programs hold one, and all checks share them: `outputs`
of a batch, `puller` for a loss and its slope, and `programs.followed` for the attack itself. A fourth is for a model
that answers otherwise in a batch: `leads` of examples one by one. They are called with blocks of one size.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array, Float, PyTree

from cwjax.base import LabelGoal, answered, wide
from cwjax.models import Model
from cwjax.parts.losses import label_cross_entropy, negative_margin
from cwjax.parts.objectives import margin
from cwjax.runners.fast_convolutions import canonical

BLOCK = 32  # examples that a program of the model is asked about at once


class Slopes(NamedTuple):
    """What the model does at the clean inputs; every field has the axis B."""

    margin: Float[Array, "B"]  # by how many logits the goal is met
    slope: Float[Array, "B *S"]  # of the margin
    entropy: Float[Array, "B"]  # the largest element of the slope of the cross-entropy of the model's answer


class Pulled(NamedTuple):
    """What the model says of R examples, and a slope; see `puller`."""

    logits: Float[Array, "R K"]
    margin: Float[Array, "R"]
    slope: Float[Array, "R *S"]


def by_blocks(program: Callable[..., Any], block: int, *rows: Any) -> Any:
    """What a program of `block` rows returns for any number of rows: NumPy arrays. The last block is filled up with the
    first rows again.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    rows, parts = jax.tree.map(np.asarray, rows), []
    for first in range(0, count, block):
        places = np.arange(first, first + block) % count
        some = jax.tree.map(lambda leaf, places=places: leaf[places], rows)
        parts.append(jax.tree.map(np.asarray, program(*some)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)


@jax.jit
def outputs(model: Model, x: Array, context: PyTree = None) -> PyTree:
    """What the model says of a batch."""
    return model.of_batch(x, context)


@jax.jit
def leads(model: Model, x: Array, goal: LabelGoal, context: PyTree = None) -> Float[Array, "R"]:
    """The margins of examples that the model sees one by one; nan where it gives a NaN."""
    return jax.vmap(lambda x, goal, context: _lead(model(x, context), goal))(x, goal, context)


@jax.jit
def leads_of(logits: Array, goal: LabelGoal) -> Float[Array, "R"]:
    """The margins of logits [R, K]; nan where there is a NaN among them."""
    return jax.vmap(_lead)(logits, goal)


def _lead(logits, goal):
    return jnp.where(answered(logits), margin(logits, goal), jnp.nan)


MARGIN, ENTROPY, LAG, GIVEN = range(4)
"""Of what `puller` gives the slope: the margin; the cross-entropy of the model's own answer; `negative_margin`; a sum
of the logits with given weights.
"""


def puller(model: Model, x: Array, context: PyTree) -> Callable[..., Pulled]:
    """How a model of logits is asked for answers and a slope, at R examples like x that it sees one by one: one forward
    and one backward pass each.

    Returns:
      A function `(x, goal, context, which, confidence=0, weights=None) -> Pulled`: of what the slope is, one of
      the four above; the confidence of `negative_margin`; the weights [R, K] of `GIVEN`.
    """
    classes = jax.eval_shape(model.of_batch, x, context).shape[-1]

    def pulled(x, goal, context, which, confidence=0.0, weights=None):
        weights = np.zeros((len(x), classes), np.float32) if weights is None else weights
        return _pulled(model, x, goal, context, np.int32(which), np.float32(confidence), weights)

    return pulled


@jax.jit
def _pulled(model, x, goal, context, which, confidence, weights) -> Pulled:
    @canonical
    def one(x, goal, context, weights):
        logits, pull = jax.vjp(lambda x: model(x, context), x)
        answer = LabelGoal(label=jnp.argmax(logits).astype(jnp.int32), sign=-jnp.ones_like(goal.sign))
        lead, away = jax.value_and_grad(margin)(logits, goal)
        blind = jax.grad(label_cross_entropy().loss)(logits, answer)
        behind = jax.grad(negative_margin(confidence).loss)(logits, goal)
        weights = jnp.select([which == MARGIN, which == ENTROPY, which == LAG], [away, blind, behind], weights)
        return Pulled(logits=logits, margin=lead, slope=pull(weights.astype(logits.dtype))[0].astype(wide(x)))

    return jax.vmap(one)(x, goal, context, weights)


def slopes(model: Model, x: Array, goal: LabelGoal, context: PyTree = None, *, block: int = BLOCK) -> Slopes:
    """What the model does at x [B, *S]: two forward and two backward passes each."""
    pulled = puller(model, x, context)

    def program(x, goal, context):
        lead, blind = (pulled(x, goal, context, which) for which in (MARGIN, ENTROPY))
        entropy = np.abs(np.asarray(blind.slope)).reshape(len(x), -1).max(1)
        return Slopes(margin=lead.margin, slope=lead.slope, entropy=entropy)

    return by_blocks(program, block, x, goal, context)


@jax.custom_vjp
def told(logits, slope, x):
    """A model whose answer to x, and whose slope of the loss that is asked for, are known."""
    return logits


told.defvjp(
    lambda logits, slope, x: (logits, (jnp.zeros_like(logits), slope, x)),
    lambda known, weights: (known[0], jnp.zeros_like(known[1]), known[1].astype(known[2].dtype)),
)


def repeatable(model: Model, x: Array, context: PyTree, runs: int) -> bool:
    """Whether the model's Python code gives the same program in all runs, one without callbacks. It then draws nothing
    that a compiled program would freeze.
    """
    said = set()
    for _ in range(runs):
        try:
            closed = jax.make_jaxpr(model.of_batch)(x, context)
        except Exception:  # it may run on arrays all the same
            return False
        constants, called = _constants(closed)
        if called:
            return False
        said.add((re.sub(r" at 0x[0-9a-f]+", "", str(closed)), constants))
    return len(said) == 1


def _constants(param: Any) -> tuple[tuple[bytes, ...], bool]:
    """The bytes of all constants of a program, however deep, and whether it calls back into Python."""
    program = getattr(param, "jaxpr", param)  # from JAX 0.11 on a closed jaxpr is a jaxpr too, and its own
    if isinstance(program, core.Jaxpr):
        parts = [_constants(tuple(equation.params.values())) for equation in program.eqns]
        literals = [each.val for equation in program.eqns for each in equation.invars if isinstance(each, core.Literal)]
        own = tuple(np.asarray(each).tobytes() for each in (*getattr(param, "consts", ()), *literals))
        called = any("callback" in equation.primitive.name for equation in program.eqns)
        return own + sum((part for part, _ in parts), ()), called or any(some for _, some in parts)
    if isinstance(param, tuple | list):
        parts = list(map(_constants, param))
        return sum((part for part, _ in parts), ()), any(some for _, some in parts)
    return (), False
