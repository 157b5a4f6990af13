"""Runners take an attack on one example to a batch: `(model, keys, x, goal) -> Result`. The caller decides where
`jax.jit` goes.

`keys` is a batched input like `x`, so how examples are grouped cannot change an example's randomness.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from cwjax.base import Attack, Goal, Progress, Result, Runner, found, problem, select
from cwjax.canonical import canonical
from cwjax.checks import check_batch
from cwjax.models import Model


class Trace(NamedTuple):
    """How an attack went; every field has the axes [B, num_steps]."""

    distance: Float[Array, "B T"]  # the best distance after each step; inf before the first success
    c: Float[Array, "B T"]  # the weight of f that the best was found under; inf before the first success


def batched(attack: Attack) -> Runner:
    """The attack on every example of a batch at once, each at its own pace, until all are done.

    One compiled loop, as long as the slowest example takes; an example that is done keeps its state. Its result does
    not depend on the others.

    Returns:
      A function `(model, keys, x, goal) -> Result`: model from `bind`; keys [B] from `jax.random.split`; x,
      floating-point [B, *S], within the attack's box; goal from `targeted` or `untargeted`. It raises TypeError or
      ValueError where their shapes or dtypes do not fit; what only values can tell, `validate` tells.
    """
    advance = canonical(attack.step)

    def run(model: Model, keys: PRNGKeyArray, x: Float[Array, "B *S"], goal: Goal) -> Result:
        check_batch(model, keys, x, goal)

        def one(key, x, goal):
            given = problem(x, goal)
            state = lax.while_loop(
                lambda state: ~state.progress.done,
                lambda state: advance(model, given, state),
                attack.init(key, given),
            )
            return _result(state.progress)

        return jax.vmap(one)(keys, x, goal)

    return run


def traced(attack: Attack, num_steps: int) -> Callable[..., tuple[Result, Trace]]:
    """As `batched`, for exactly `num_steps` steps, with the best distance after each of them.

    Returns:
      A function `(model, keys, x, goal) -> (Result, Trace)`, with arguments and errors as for `batched`.
      `Result.finished` tells which examples were done in time; those that were spend nothing in the steps that remain.
    """
    advance = canonical(attack.step)

    def run(model: Model, keys: PRNGKeyArray, x: Float[Array, "B *S"], goal: Goal) -> tuple[Result, Trace]:
        check_batch(model, keys, x, goal)

        def one(key, x, goal):
            given = problem(x, goal)

            def step(state, _):
                state = select(state.progress.done, state, advance(model, given, state))
                best = state.progress.best
                return state, Trace(distance=best.distance, c=best.c)

            state, trace = lax.scan(step, attack.init(key, given), length=num_steps)
            return _result(state.progress), trace

        return jax.vmap(one)(keys, x, goal)

    return run


def chunked(runner: Runner, size: int) -> Runner:
    """The runner on `size` examples at a time, one chunk after the other in the same program, so that memory stays
    bounded.

    A last chunk that is not full is filled up with the first examples again, whose second results are dropped.

    Args:
      runner: `batched(attack)`, or any other runner that returns arrays with a leading batch axis.
      size: examples in a chunk, >= 1.
    """
    if size < 1:
        raise ValueError(f"a chunk holds at least one example, got size={size}")

    def run(model: Model, keys: PRNGKeyArray, x: Float[Array, "B *S"], goal: Goal) -> Result:
        count = x.shape[0] if x.ndim else 0
        if count <= size:
            return runner(model, keys, x, goal)
        check_batch(model, keys, x, goal)
        chunks = -(-count // size)
        order = jnp.arange(chunks * size) % count

        def split(leaf):
            return leaf[order].reshape(chunks, size, *leaf.shape[1:])

        results = lax.map(lambda part: runner(model, *part), jax.tree.map(split, (keys, x, goal)))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], results)

    return run


def _result(progress: Progress) -> Result:
    best = progress.best
    return Result(
        x=best.x,
        success=found(best),
        distance=best.distance,
        c=best.c,
        forwards=progress.forwards,
        backwards=progress.backwards,
        finite=progress.finite,
        finished=progress.done,
    )
