"""The one gradient loop of the library: minimise `D(x' - x) + c·f(x')` within a box, by any Optax optimiser."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from cwjax.base import (
    Abort,
    Attack,
    Box,
    Candidate,
    Distance,
    Evaluation,
    Model,
    Objective,
    Problem,
    Progress,
    Terms,
    answered,
    closer,
    select,
    untouched,
    wide,
)
from cwjax.checks import check_count, check_part


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
    steps: int | Int[Array, ""],
    abort: Abort,
) -> Attack:
    """Gradient descent on one problem, with its best iterate kept.

    A step evaluates the current point, keeps it if it meets the goal closer than any before, and moves on; so `steps`
    steps evaluate `steps` points, the first of them `problem.start`. The random key is not used.

    The optimiser's updates are multiplied by `problem.scale`; a step of scale 0 only looks, and leaves the optimiser's
    state as it is.

    Args:
      objective: f.
      distance: D.
      box: how the iterate stays valid.
      optimizer: any Optax transformation; it sees gradients in the box's variable w.
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
        w = box.encode(problem.start)
        return DescentState(
            w=w,
            optimizer=optimizer.init(w),
            abort=abort.init(),
            taken=jnp.zeros((), jnp.int32),
            progress=untouched(problem),
        )

    def step(model, problem, state):
        evaluated = evaluate(model, problem, state.w, objective=objective, distance=distance, box=box)
        evaluation = evaluated.evaluation
        abort_state, stop = abort.update(problem, state.abort, evaluation, step=state.taken, steps=steps)

        updates, optimizer_state = optimizer.update(evaluation.gradient, state.optimizer, state.w)
        moved = state.w + problem.scale * jnp.asarray(updates)
        optimizer_state = select(problem.scale == 0, state.optimizer, optimizer_state)
        taken = state.taken + 1
        over = stop | (taken >= steps) | ~problem.mask.any()
        return DescentState(
            w=box.project(moved),
            optimizer=optimizer_state,
            abort=abort_state,
            taken=taken,
            progress=advanced(state.progress, evaluated, over=over),
        )

    return Attack(init=init, step=step, terms=Terms(objective, distance, box))


class Evaluated(NamedTuple):
    evaluation: Evaluation
    candidate: Candidate  # at distance inf where the goal is not met
    finite: Bool[Array, ""]


def evaluate(
    model: Model, problem: Problem, w: Float[Array, "*S"], *, objective: Objective, distance: Distance, box: Box
) -> Evaluated:
    """The problem at w: one forward and one backward pass.

    The chain rule is written out, so that the model is asked for f and its slope in the image, and for nothing else.
    """
    clean = problem.x.astype(wide(problem.x))

    def images(w):
        """The image x' as the model sees it, but for its dtype, and delta as D sees it."""
        decoded = box.decode(w)
        inside = jnp.where(problem.mask, decoded.inside, clean)
        return inside, jnp.where(problem.mask, decoded.penalised - clean, 0)

    def value(x):
        logits = model(x)
        return objective.loss(logits, problem.goal), logits

    (inside, delta), pull = jax.vjp(images, w)
    home = box.encode(problem.x)
    still = (jnp.abs(w - home) <= 4 * jnp.finfo(w.dtype).eps * jnp.abs(home)).all()
    x = inside.astype(problem.x.dtype)
    (f, logits), slope = jax.value_and_grad(value, has_aux=True)(x)
    penalty, away = jax.value_and_grad(distance.penalty)(delta, problem.tau)
    (gradient,) = pull((problem.c * slope.astype(clean.dtype), away))
    met = objective.met(logits, problem.goal)
    kept = jnp.where(still & met, problem.x, x)  # the clean input, which the change of variables misses by a millionth
    evaluation = Evaluation(
        loss=penalty + problem.c * f.astype(clean.dtype),
        distance=distance.measure(kept.astype(clean.dtype) - clean),
        met=met,
        gradient=gradient,
    )
    finite = jnp.isfinite(evaluation.loss) & answered(logits) & jnp.isfinite(gradient).all()
    reached = jnp.where(evaluation.met & finite, evaluation.distance, jnp.inf)
    return Evaluated(evaluation, Candidate(x=kept, distance=reached, c=problem.c), finite)


def advanced(progress: Progress, evaluated: Evaluated, *, over: Bool[Array, ""]) -> Progress:
    """The progress after one more evaluation. An example at distance 0 is the last: none is closer."""
    best = closer(progress.best, evaluated.candidate)
    return Progress(
        best=best,
        last=evaluated.evaluation,
        forwards=progress.forwards + 1,
        backwards=progress.backwards + 1,
        finite=progress.finite & evaluated.finite,
        done=over | ~evaluated.finite | (best.distance == 0),
    )
