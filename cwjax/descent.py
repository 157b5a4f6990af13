"""The descent of the paper: minimise `D(x' - x) + c·f(x')` within a box, by any Optax optimiser."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from cwjax.answers import Evaluated, advanced, ask, evaluated, moving
from cwjax.arguments import check_count, check_part
from cwjax.base import (
    Abort,
    Attack,
    Box,
    Count,
    Distance,
    Network,
    Objective,
    Problem,
    Progress,
    Terms,
    select,
    untouched,
    wide,
)
from cwjax.parts.norms import units


class DescentState(NamedTuple):
    w: Float[Array, "*S"]  # at least float32: what the optimiser moves; the box decodes it to an image
    optimizer: Any
    abort: Any
    taken: Int[Array, ""]  # int32: steps
    progress: Progress


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
    """
    check_part("objective", objective, Objective)
    check_part("distance", distance, Distance)
    check_part("box", box, Box)
    check_part("optimizer", optimizer, optax.GradientTransformation)
    check_part("abort", abort, Abort)
    check_count("steps", steps)

    def init(key, problem):
        del key
        w = box.encode(begun(problem), problem.low, problem.high)
        return DescentState(
            w=w,
            optimizer=optimizer.init(w / variable_units(distance, box, problem)),
            abort=abort.init(),
            taken=jnp.zeros((), jnp.int32),
            progress=untouched(problem),
        )

    def step(model, problem, state):
        known, first = problem._replace(live=state.progress.live), state.taken == 0
        evaluated = evaluate(model, known, state.w, objective=objective, distance=distance, box=box, first=first)
        evaluation = evaluated.evaluation
        abort_state, stop = abort.update(problem, state.abort, evaluation, step=state.taken, steps=steps)

        unit = variable_units(distance, box, problem)
        updates, optimizer_state = optimizer.update(evaluation.gradient, state.optimizer, state.w / unit)
        moved = state.w + problem.scale * unit * jnp.asarray(updates)
        optimizer_state = select(problem.scale == 0, state.optimizer, optimizer_state)
        taken = state.taken + 1
        over = stop | (taken >= steps) | ~problem.mask.any()
        return DescentState(
            w=box.project(moved, problem.low, problem.high),
            optimizer=optimizer_state,
            abort=abort_state,
            taken=taken,
            progress=advanced(state.progress, evaluated, over=over),
        )

    return Attack(init=init, step=step, terms=Terms(objective, distance, box))


def begun(problem: Problem) -> Float[Array, "*S"]:
    """Where a descent starts: elements that are known to show no slope stay at the clean input."""
    return jnp.where(moving(problem), problem.start, problem.x)


def variable_units(distance: Distance, box: Box, problem: Problem) -> Float[Array, "*S"]:
    """What a width of the box is in the variable w, by element."""
    return box.in_variable(units(distance.norm, problem), problem.low, problem.high)


def evaluate(
    model: Network,
    problem: Problem,
    w: Float[Array, "*S"],
    *,
    objective: Objective,
    distance: Distance,
    box: Box,
    first: Bool[Array, ""] | bool,
) -> Evaluated:
    """The problem at w: one forward and one backward pass.

    The chain rule is written out, so that the model is asked for f and its slope in the image, and for nothing else.

    An element that has shown no slope is held at the clean input, once others have shown one (`problem.live`).

    The `first` point is `problem.start`; if that is the clean input, it is reported as such to the last bit.
    """
    clean, unit = problem.x.astype(wide(problem.x)), units(distance.norm, problem)
    moves = problem.mask & moving(problem)

    def images(w):
        """The image x' that the model sees, in the dtype of w, and delta as D sees it."""
        decoded = box.decode(w, problem.low, problem.high)
        inside = jnp.where(moves, decoded.inside, clean)
        return inside, jnp.where(moves, decoded.penalised - clean, 0) / unit

    (inside, delta), pull = jax.vjp(images, w)
    x = inside.astype(problem.x.dtype)
    answer = ask(model, problem, x, objective=objective, aim=problem.goal)
    penalty, steepest = jax.value_and_grad(distance.penalty)(delta, problem.tau / problem.span)
    (gradient,) = pull((problem.c * answer.slope, steepest))
    still = first & (~problem.mask | (problem.start == problem.x)).all()
    return evaluated(
        problem,
        jnp.where(still, problem.x, x),  # the clean input, which the change of variables misses by a millionth
        answer,
        loss=penalty + problem.c * answer.loss,
        gradient=gradient * box.in_variable(unit, problem.low, problem.high),
        away=moves & (problem.start != problem.x),
        objective=objective,
        distance=distance,
    )
