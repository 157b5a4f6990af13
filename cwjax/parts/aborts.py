"""When a descent stops before its steps run out. Each example decides for itself."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cwjax.arguments import check_count
from cwjax.base import Abort, Number


def plateau(*, checks: int | Float[Array, ""] = 10, tolerance: Number = 1e-4) -> Abort:
    """Stop when the loss has not fallen by the fraction `tolerance` since the last check.

    The released code's ABORT_EARLY: every tenth of the steps, unless `loss <= 0.9999·previous`. It sums the loss over
    the batch, so that an example's result depends on its neighbours; here the loss is the example's own.

    Args:
      checks: in a full descent, >= 1.
      tolerance: the fraction of the loss.

    Example:
      >>> abort, problem = cw.aborts.plateau(checks=2), cw.problems.problem(x[0], goal)
      >>> seen = cw.base.Evaluation(loss=jnp.float32(1.0), distance=0.2, met=True, gradient=x[0])
      >>> state, stop = abort.update(problem, abort.init(), seen, step=0, steps=10)
      >>> state, again = abort.update(problem, state, seen, step=5, steps=10)
      >>> bool(stop), bool(again)  # the loss has not fallen in between
      (False, True)
    """
    check_count("checks", checks)

    def update(problem, previous, evaluation, *, step, steps):
        due = step % jnp.maximum(steps // checks, 1) == 0
        stuck = evaluation.loss > previous - tolerance * jnp.abs(previous)
        return jnp.where(due, evaluation.loss, previous), due & jnp.isfinite(previous) & stuck

    return Abort(init=lambda: jnp.full((), jnp.inf, float), update=update)


def first_success() -> Abort:
    """Stop at the first iterate that meets the goal.

    Example:
      >>> abort, problem = cw.aborts.first_success(), cw.problems.problem(x[0], goal)
      >>> seen = cw.base.Evaluation(loss=1.0, distance=0.2, met=True, gradient=x[0])
      >>> abort.update(problem, abort.init(), seen, step=0, steps=10)[1]
      True
    """
    return Abort(init=lambda: (), update=lambda problem, state, evaluation, *, step, steps: (state, evaluation.met))


def within_tau() -> Abort:
    """Stop at the first iterate that meets the goal at a distance of at most tau.

    Example:
      >>> abort, problem = cw.aborts.within_tau(), cw.problems.problem(x[0], goal)._replace(tau=jnp.float32(0.1))
      >>> seen = cw.base.Evaluation(loss=1.0, distance=0.2, met=jnp.array(True), gradient=x[0])
      >>> bool(abort.update(problem, abort.init(), seen, step=0, steps=10)[1])  # met, but too far away
      False

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-C,
        https://arxiv.org/abs/1608.04644
    """

    def update(problem, state, evaluation, *, step, steps):
        return state, evaluation.met & (evaluation.distance <= problem.tau)

    return Abort(init=lambda: (), update=update)


def never() -> Abort:
    """Use every step.

    Example:
      >>> abort, problem = cw.aborts.never(), cw.problems.problem(x[0], goal)
      >>> seen = cw.base.Evaluation(loss=1.0, distance=0.2, met=True, gradient=x[0])
      >>> bool(abort.update(problem, abort.init(), seen, step=0, steps=10)[1])
      False
    """
    return Abort(init=lambda: (), update=lambda problem, state, evaluation, *, step, steps: (state, jnp.array(False)))
