"""What the model answers about a point, and what an attack makes of it: one look, the same for every attack."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cwjax.base import (
    Box,
    Candidate,
    Distance,
    Evaluation,
    Goal,
    Network,
    Objective,
    Outputs,
    Problem,
    Progress,
    answered,
    closer,
    wide,
)
from cwjax.parts.norms import units


class Seen(NamedTuple):
    """What a rule is told of a point."""

    w: Float[Array, "*S"]  # the point, in the box's variable, at least float32
    x: Float[Array, "*S"]  # the image there, as the model saw it, at least float32
    delta: Float[Array, "*S"]  # from the clean input to it
    loss: Float[Array, "..."]  # [], f; [L] where the objective has L losses
    slope: Float[Array, "..."]  # [*S], of f in x; [L, *S]; 0 where the mask holds still
    total: Float[Array, ""]  # what the rule goes down: D + c·f or f alone; of several losses, the first
    gradient: Float[Array, "*S"]  # of that: of D + c·f in w, in widths of the box; of f alone, its slope
    outputs: Outputs  # of the model, at least float32
    met: Bool[Array, ""]  # whether the goal is met
    distance: Float[Array, ""]  # in the attack's norm
    taken: Int[Array, ""]  # int32: points asked about before this one
    best: Candidate  # the closest example so far, this point included


class Evaluated(NamedTuple):
    """What an attack makes of an answer."""

    evaluation: Evaluation
    candidate: Candidate  # at distance inf where the goal is not met
    finite: Bool[Array, ""]
    live: Bool[Array, "*S"]  # elements that have shown a slope so far


class Looked(NamedTuple):
    seen: Seen
    evaluated: Evaluated


def look(
    model: Network,
    problem: Problem,
    w: Float[Array, "*S"],
    home: Bool[Array, "*S"],
    *,
    objective: Objective,
    distance: Distance,
    box: Box,
    aim: Goal,
    penalised: bool = False,
) -> Looked:
    """The problem at w, a point in the variable of the box.

    One forward pass, and one backward pass for each loss. The chain rule is written out, so that the model is asked for
    f and its slope in the image, and for nothing else.

    An element that has shown no slope is held at the clean input, once others have shown one (`problem.live`). If every
    element is where the clean input is, the point is reported as the clean input to the last bit, which the change of
    variables misses by a millionth.

    Args:
      model: to ask.
      problem: the attack's.
      w: the point.
      home: the elements of it that are known to be where the clean input is.
      objective: f, and what meets the goal.
      distance: D, and what is measured.
      box: what image lies behind w.
      aim: the goal of f here; what is met is the problem's own goal.
      penalised: whether the attack goes down D + c·f, or down f alone.
    """
    bounds, clean, unit = (problem.low, problem.high), problem.x.astype(wide(problem.x)), units(distance.norm, problem)
    moves = problem.mask & moving(problem)

    def images(w):
        """The image that the model sees, in the dtype of w, and delta as D sees it."""
        decoded = box.decode(w, *bounds)
        inside = jnp.where(moves, decoded.inside, clean)
        return inside, jnp.where(moves, decoded.penalised - clean, 0) / unit

    (inside, delta), pull = jax.vjp(images, w)
    elsewhere = moves & ~home
    shown = inside.astype(problem.x.dtype)
    told = {} if problem.context is None else {"context": problem.context}
    answer = ask(functools.partial(model, **told), problem, shown, objective=objective, aim=aim)
    image = jnp.where(elsewhere.any(), shown, problem.x)
    loss, gradient = answer.loss, answer.slope
    if penalised:
        penalty, steepest = jax.value_and_grad(distance.penalty)(delta, problem.tau / problem.span)
        loss = penalty + problem.c * answer.loss
        gradient = pull((problem.c * answer.slope, steepest))[0] * box.in_variable(unit, *bounds)
    found = evaluated(
        problem,
        image,
        answer,
        loss=loss,
        gradient=gradient,
        away=elsewhere & (image != problem.x),
        objective=objective,
        distance=distance,
    )
    x = image.astype(clean.dtype)
    seen = Seen(
        w=w,
        x=x,
        delta=x - clean,
        loss=answer.loss,
        slope=answer.slope,
        total=found.evaluation.loss,
        gradient=found.evaluation.gradient,
        outputs=jax.tree.map(lambda leaf: leaf.astype(wide(leaf)), answer.outputs),
        met=found.evaluation.met,
        distance=found.evaluation.distance,
        taken=jnp.zeros((), jnp.int32),
        best=found.candidate,
    )
    return Looked(seen, found)


def variable_units(distance: Distance, box: Box, problem: Problem) -> Float[Array, "*S"]:
    """What a width of the box is in the variable w, by element."""
    return box.in_variable(units(distance.norm, problem), problem.low, problem.high)


def moving(problem: Problem) -> Bool[Array, "*S"]:
    """The elements that are not held for want of a slope: those that have shown one, or all while none has."""
    return problem.live | ~problem.live.any()


class Answer(NamedTuple):
    """What the model says of an image."""

    outputs: Outputs
    loss: Float[Array, "..."]  # [], of the objective, at least float32; [L] where it has L losses
    slope: Float[Array, "..."]  # [*S], of the loss in the image; [L, *S]; 0 where the mask holds still
    live: Bool[Array, "*S"]  # elements that have shown a slope so far, this one included


def ask(model: Network, problem: Problem, image: Float[Array, "*S"], *, objective: Objective, aim: Goal) -> Answer:
    """The model at an image: one forward pass, and one backward pass for each loss, which is that of the goal `aim`."""
    dtype = wide(problem.x)
    outputs, pull = jax.vjp(model, image)
    loss, weights = _with_slope(lambda outputs: objective.loss(outputs, aim), outputs)
    pulled = jax.vmap(lambda row: pull(row)[0])(weights) if loss.ndim else pull(weights)[0]
    pulled = lax.optimization_barrier(pulled)  # else the last of it is computed again wherever the slope is read
    slope = jnp.where(problem.mask, pulled.astype(dtype), 0)
    live = problem.live | ((slope != 0).any(0) if loss.ndim else slope != 0)
    return Answer(outputs, loss.astype(dtype), slope, live)


def _with_slope(function, outputs):
    """A scalar or vector function of the outputs, and its slope or Jacobian [L, ...] in each of their arrays."""
    value, pull = jax.vjp(function, outputs)
    [slope] = jax.vmap(pull)(jnp.eye(value.size, dtype=value.dtype)) if value.ndim else pull(jnp.ones_like(value))
    return value, jax.tree.map(lambda slope, leaf: slope.astype(leaf.dtype), slope, outputs)


def evaluated(
    problem: Problem,
    image: Float[Array, "*S"],
    answer: Answer,
    *,
    loss: Float[Array, "..."],
    gradient: Float[Array, "..."],
    away: Bool[Array, "*S"],
    objective: Objective,
    distance: Distance,
) -> Evaluated:
    """What an attack makes of the answer to an image: whether it is an example, how far, and whether to go on.

    Suppose that no element had shown a slope, and some do here: where others are not where the clean input is, this
    image is no example.

    Args:
      problem: the attack's.
      image: that the model was asked about.
      answer: the model's.
      loss: what the attack goes down; of several, the first is reported.
      gradient: of that loss.
      away: elements that are not where the clean input is.
      objective: whose goal is met or not; the problem's own goal, whatever the loss was aimed at.
      distance: what is measured.
    """
    clean = problem.x.astype(wide(problem.x))
    broken, hidden = _faults(gradient, away & ~answer.live)
    met = objective.met(answer.outputs, problem.goal) & ~(hidden & answer.live.any())
    size = distance.measure(image.astype(clean.dtype) - clean)
    finite = jnp.isfinite(loss).all() & answered(answer.outputs) & ~broken
    one, flat = (loss[0], gradient[0]) if loss.ndim else (loss, gradient)
    return Evaluated(
        evaluation=Evaluation(loss=one, distance=size, met=met, gradient=flat),
        candidate=Candidate(x=image, distance=jnp.where(met & finite, size, jnp.inf), c=problem.c),
        finite=finite,
        live=answer.live,
    )


def _faults(slope: Float[Array, "..."], unseen: Bool[Array, "*S"]) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether a slope is not finite; and if it is finite, whether any element is `unseen`. One pass tells both."""
    worst = jnp.max(jnp.where(jnp.isfinite(slope), jnp.where(jnp.broadcast_to(unseen, slope.shape), 1, 0), 2))
    return worst == 2, worst == 1


def advanced(progress: Progress, evaluated: Evaluated, *, over: Bool[Array, ""]) -> Progress:
    """The progress after one more evaluation. An example at distance 0 is the last: none is closer."""
    best = closer(progress.best, evaluated.candidate)
    return Progress(
        best=best,
        last=evaluated.evaluation,
        forwards=progress.forwards + 1,
        backwards=progress.backwards + 1,
        finite=progress.finite & evaluated.finite,
        live=evaluated.live,
        done=over | ~evaluated.finite | (best.distance == 0),
    )
