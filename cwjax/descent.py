"""The descent of the paper: minimise `D(x' - x) + c·f(x')` within a box, by any Optax optimiser."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from cwjax.answers import Seen, variable_units
from cwjax.arguments import check_count, check_part
from cwjax.base import Abort, Attack, Box, Count, Distance, Evaluation, Objective, Problem, select
from cwjax.loop import Rule, iterated


class Descent(NamedTuple):
    """What a descent remembers."""

    optimizer: Any
    abort: Any
    stopped: Bool[Array, ""]  # by the abort


def descend(
    *,
    objective: Objective,
    distance: Distance,
    box: Box,
    optimizer: optax.GradientTransformation,
    steps: Count,
    abort: Abort,
) -> Attack:
    """Gradient descent on one problem, with its best iterate kept.

    A step evaluates the current point, keeps it if it meets the goal closer than any before, and moves on; so `steps`
    steps evaluate `steps` points, the first of them `problem.start`. The random key is not used.

    Lengths are in widths of the box (`norms.units`), so that c and a learning rate mean the same in every box. D is
    taken of `x' - x` in widths, and an update of the optimiser is a number of widths. With the change of variables the
    update is added to w, which has no unit: more of it for an element narrower than the others, and less for a wider
    one. Updates are also multiplied by `problem.scale`. A step of scale 0 only looks, and leaves the
    optimiser's state as it is.

    Args:
      objective: f.
      distance: D.
      box: how the iterate stays valid.
      optimizer: any Optax transformation; it sees the box's variable w, and gradients in it, in the box's units.
      steps: how many points to evaluate, at the most; may be traced.
      abort: when to stop sooner.

    Example:
      >>> attack = cw.descend(
      ...     objective=cw.objectives.logit_margin(),
      ...     distance=cw.distances.l2(),
      ...     box=cw.boxes.projected(),
      ...     optimizer=cw.optimizers.adam(0.05),
      ...     steps=20,
      ...     abort=cw.aborts.first_success(),
      ... )
      >>> result = jax.jit(cw.batched(attack))(model, keys, x, goal)
      >>> result.success.tolist(), result.backwards.tolist()
      ([True, True], [4, 5])

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V,
        https://arxiv.org/abs/1608.04644
    """
    check_part("objective", objective, Objective)
    check_part("distance", distance, Distance)
    rule = descending(distance=distance, box=box, optimizer=optimizer, steps=steps, abort=abort)
    return iterated(rule, objective=objective, distance=distance, box=box, steps=steps)


def descending(
    *, distance: Distance, box: Box, optimizer: optax.GradientTransformation, steps: Count, abort: Abort
) -> Rule:
    """The rule of `descend`, for what goes around a rule. Arguments as there."""
    check_part("box", box, Box)
    check_part("optimizer", optimizer, optax.GradientTransformation)
    check_part("abort", abort, Abort)
    check_count("steps", steps)

    def init(key, problem):
        del key
        w = box.encode(problem.start, problem.low, problem.high)
        first = optimizer.init(w / variable_units(distance, box, problem))
        return problem.start, Descent(optimizer=first, abort=abort.init(), stopped=jnp.array(False))

    def move(problem, memory, seen):
        aborting, stopped = aborted(abort, problem, memory.abort, seen, steps)
        unit = variable_units(distance, box, problem)
        updates, after = optimizer.update(seen.gradient, memory.optimizer, seen.w / unit)
        after = select(problem.scale == 0, memory.optimizer, after)
        w = seen.w + problem.scale * unit * jnp.asarray(updates)
        return w, Descent(optimizer=after, abort=aborting, stopped=stopped)

    return Rule(init=init, move=move, over=lambda problem, memory, seen: memory.stopped, penalised=True)


def aborted(abort: Abort, problem: Problem, state: Any, seen: Seen, steps: Count) -> tuple[Any, Bool[Array, ""]]:
    """What an abort makes of a point: its state, and whether to stop."""
    last = Evaluation(loss=seen.total, distance=seen.distance, met=seen.met, gradient=seen.gradient)
    return abort.update(problem, state, last, step=seen.taken, steps=steps)
