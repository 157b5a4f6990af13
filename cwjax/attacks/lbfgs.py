"""Szegedy et al.'s attack: box-constrained L-BFGS with a line search over c (the technical report,
equations (1) to (3)).
"""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from cwjax.answers import variable_units
from cwjax.arguments import check_count, check_part
from cwjax.base import Abort, Attack, Box, Count, Distance, Objective, Search, narrowed, select
from cwjax.descent import aborted
from cwjax.loop import Rule, iterated
from cwjax.parts import distances
from cwjax.parts.aborts import plateau
from cwjax.parts.boxes import projected
from cwjax.parts.objectives import cross_entropy
from cwjax.search.rounds import searched
from cwjax.search.weight import binary_search

_SLOPE = 1e-4  # Armijo's constant: the fraction of the predicted fall that a step must bring (Nocedal & Wright, 3.1)
_SHORTEST = 2.0**-12  # of the full quasi-Newton step: the line search gives up below


class QuasiNewton(NamedTuple):
    """What the descent remembers."""

    w: Float[Array, "*S"]  # the point reached; the box decodes it to an image
    loss: Float[Array, ""]  # there; inf before the first evaluation
    gradient: Float[Array, "*S"]  # there
    direction: Float[Array, "*S"]  # to go down along, in units of w; 0 before the first evaluation
    stride: Float[Array, ""]  # how far along it the next trial point lies
    curvature: optax.OptState  # of the inverse Hessian
    abort: object
    stopped: Bool[Array, ""]  # by the abort, or because no step is left to try


def quasi_newton(
    *,
    objective: Objective,
    distance: Distance,
    box: Box,
    steps: Count,
    abort: Abort,
    memory_size: int = 10,
) -> Attack:
    """Projected L-BFGS on one problem, with its best iterate kept.

    `descend` with Optax's L-BFGS in place of an optimiser.

    A step evaluates one trial point of a backtracking line search, so each of the search's model calls is a step and is
    counted. Elements that a bound holds back do not take part in the direction (Bertsekas 1982). Lengths are in widths
    of the box, as in `descend`.

    Args:
      objective: f; a smooth one.
      distance: D.
      box: how the iterate stays valid.
      steps: how many points to evaluate, at the most; may be traced.
      abort: when to stop sooner. It sees every trial point.
      memory_size: pairs of steps and gradient differences that the inverse Hessian is made of.

    Example:
      >>> attack = cw.attacks.quasi_newton(
      ...     objective=cw.losses.label_cross_entropy(),
      ...     distance=cw.distances.l2(),
      ...     box=cw.boxes.projected(),
      ...     steps=20,
      ...     abort=cw.aborts.first_success(),
      ... )
      >>> jax.jit(cw.batched(attack))(model, keys, x, goal).success.tolist()
      [True, True]

    References:
      Bertsekas 1982, "Projected Newton methods for optimization problems with simple constraints", SIAM Journal on
        Control and Optimization 20(2).
    """
    check_part("objective", objective, Objective)
    check_part("distance", distance, Distance)
    check_part("box", box, Box)
    check_part("abort", abort, Abort)
    check_count("steps", steps)
    check_count("memory_size", memory_size)
    inverse_hessian = optax.scale_by_lbfgs(memory_size)

    def init(key, problem):
        del key
        w = box.encode(problem.start, problem.low, problem.high)
        none = jnp.full((), jnp.inf, w.dtype)
        return problem.start, QuasiNewton(
            w=w,
            loss=none,
            gradient=jnp.zeros_like(w),
            direction=jnp.zeros_like(w),
            stride=jnp.ones_like(none),
            curvature=_empty(inverse_hessian, w),
            abort=abort.init(),
            stopped=jnp.array(False),
        )

    def move(problem, memory, seen):
        aborting, stop = aborted(abort, problem, memory.abort, seen, steps)
        unit = variable_units(distance, box, problem)
        predicted = jnp.sum(memory.gradient * (seen.w - memory.w) / unit)
        accepted = seen.total <= memory.loss + _SLOPE * predicted
        held = box.project(seen.w - unit * seen.gradient, problem.low, problem.high) == seen.w
        direction, curvature = _direction(inverse_hessian, memory.curvature, seen.w / unit, seen.gradient, held)
        here = (memory.w, memory.loss, memory.gradient, memory.direction, memory.curvature)
        there = (seen.w, seen.total, seen.gradient, direction, curvature)
        w, loss, gradient, direction, curvature = select(accepted, there, here)
        stride = jnp.where(accepted, 1, memory.stride / 2)
        stuck = (stride < _SHORTEST) | (direction == 0).all()
        return w - stride * unit * direction, QuasiNewton(
            w=w,
            loss=loss,
            gradient=gradient,
            direction=direction,
            stride=stride,
            curvature=curvature,
            abort=aborting,
            stopped=stop | stuck,
        )

    rule = Rule(init=init, move=move, over=lambda problem, memory, seen: memory.stopped, penalised=True)
    return iterated(rule, objective=objective, distance=distance, box=box, steps=steps)


def _empty(inverse_hessian: optax.GradientTransformation, w: Float[Array, "*S"]) -> optax.OptState:
    return narrowed(inverse_hessian.init(w), w.dtype)


def _direction(
    inverse_hessian: optax.GradientTransformation,
    curvature: optax.OptState,
    w: Float[Array, "*S"],
    gradient: Float[Array, "*S"],
    held: Bool[Array, "*S"],
) -> tuple[Float[Array, "*S"], optax.OptState]:
    """The direction to go down along from w without the elements that are held, and the curvature with w in it."""
    free = jnp.where(held, 0, gradient)
    direction, after = inverse_hessian.update(free, curvature, w)
    fresh, anew = inverse_hessian.update(free, _empty(inverse_hessian, w), w)
    down = jnp.sum(jnp.asarray(direction) * free) > 0  # curvature may be negative, and then the memory misleads
    direction, after = select(down, (direction, after), (fresh, anew))
    return jnp.where(held, 0, direction), after


def lbfgs(
    *,
    objective: Objective = cross_entropy(),
    box: Box = projected(),
    search: Search = binary_search(steps=9, initial_c=1e-2),
    steps: Count = 1000,
    abort: Abort = plateau(),
    memory_size: int = 10,
) -> Attack:
    """Box-constrained L-BFGS, L2: minimise `|x' - x|₂² + c·loss(x')` within the box, with the smallest c that works.

    The first attack of all (Szegedy et al. 2014).

    Printed is `c·|x' - x|₂² + loss(x')`, with the weight on the distance; this c is the inverse of that.

    Args:
      objective: f; the cross-entropy of Szegedy et al. is f1.
      box: how the iterate stays valid.
      search: over c.
      steps: points evaluated in a round, at the most; may be traced.
      abort: when a round ends sooner.
      memory_size: see `quasi_newton`.

    Example:
      >>> attack = cw.lbfgs(steps=50, search=cw.search.binary_search(4, initial_c=1.0))
      >>> print(jax.jit(cw.batched(attack))(model, keys, x, goal).success)
      [ True  True]

    References:
      Szegedy et al. 2014, "Intriguing properties of neural networks", section 4.1, https://arxiv.org/abs/1312.6199
    """
    descent = quasi_newton(
        objective=objective,
        distance=distances.l2(),
        box=box,
        steps=steps,
        abort=abort,
        memory_size=memory_size,
    )
    return searched(descent, search)
