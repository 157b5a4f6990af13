"""When a descent stops before its steps run out. Each example decides for itself."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cwjax.arguments import check_count
from cwjax.base import Abort, Number


def plateau(*, checks: int | Float[Array, ""] = 10, tolerance: Number = 1e-4) -> Abort:
    """Stop when the loss has not fallen by the fraction `tolerance` since the last check; `checks` of them in a full
    descent.

    The released code's ABORT_EARLY: every tenth of the steps, unless `loss <= 0.9999·previous`. It sums the loss over
    the batch, so that an example's result depends on its neighbours; here the loss is the example's own.
    """
    check_count("checks", checks)

    def update(problem, previous, evaluation, *, step, steps):
        due = step % jnp.maximum(steps // checks, 1) == 0
        stuck = evaluation.loss > previous - tolerance * jnp.abs(previous)
        return jnp.where(due, evaluation.loss, previous), due & jnp.isfinite(previous) & stuck

    return Abort(init=lambda: jnp.full((), jnp.inf, float), update=update)


def first_success() -> Abort:
    """Stop at the first iterate that meets the goal."""
    return Abort(init=lambda: (), update=lambda problem, state, evaluation, *, step, steps: (state, evaluation.met))


def within_tau() -> Abort:
    """Stop at the first iterate that meets the goal at a distance of at most tau."""

    def update(problem, state, evaluation, *, step, steps):
        return state, evaluation.met & (evaluation.distance <= problem.tau)

    return Abort(init=lambda: (), update=update)


def never() -> Abort:
    """Use every step."""
    return Abort(init=lambda: (), update=lambda problem, state, evaluation, *, step, steps: (state, jnp.array(False)))
