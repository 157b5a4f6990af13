"""What the model answers about an image, and what an attack makes of it.

Every attack asks so, whether it goes down D + c·f in the variable of a box (`descend`, `quasi_newton`) or from image to
image by a rule of its own (`iterated`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cwjax.base import (
    Candidate,
    Distance,
    Evaluation,
    Goal,
    Network,
    Objective,
    Problem,
    Progress,
    answered,
    closer,
    wide,
)


def moving(problem: Problem) -> Bool[Array, "*S"]:
    """The elements that are not held for want of a slope: those that have shown one, or all while none has."""
    return problem.live | ~problem.live.any()


class Evaluated(NamedTuple):
    evaluation: Evaluation
    candidate: Candidate  # at distance inf where the goal is not met
    finite: Bool[Array, ""]
    live: Bool[Array, "*S"]  # elements that have shown a slope so far


class Answer(NamedTuple):
    """What the model says of an image."""

    logits: Float[Array, "K"]
    loss: Float[Array, "..."]  # [], of the objective, at least float32; [L] where it has L losses
    slope: Float[Array, "..."]  # [*S], of the loss in the image; [L, *S]; 0 where the mask holds still
    live: Bool[Array, "*S"]  # elements that have shown a slope so far, this one included


def ask(model: Network, problem: Problem, image: Float[Array, "*S"], *, objective: Objective, aim: Goal) -> Answer:
    """The model at an image: one forward pass, and one backward pass for each loss, which is that of the goal `aim`."""
    dtype = wide(problem.x)
    logits, pull = jax.vjp(model, image)
    loss, weights = _with_slope(lambda logits: objective.loss(logits, aim), logits)
    pulled = jax.vmap(lambda row: pull(row)[0])(weights) if loss.ndim else pull(weights)[0]
    slope = jnp.where(problem.mask, pulled.astype(dtype), 0)
    live = problem.live | ((slope != 0).any(0) if loss.ndim else slope != 0)
    return Answer(logits, loss.astype(dtype), slope, live)


def _with_slope(function, logits):
    """A scalar or vector function of the logits [K], and its slope [K] or Jacobian [L, K]."""
    value, slope = function(logits), jax.jacrev(function)(logits)
    return value, slope.astype(logits.dtype)


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
      away: elements that may differ from the clean input.
      objective: whose goal is met or not; the problem's own goal, whatever the loss was aimed at.
      distance: what is measured.
    """
    clean = problem.x.astype(wide(problem.x))
    broken, hidden = _faults(gradient, away & ~answer.live)
    met = objective.met(answer.logits, problem.goal) & ~(hidden & answer.live.any())
    size = distance.measure(image.astype(clean.dtype) - clean)
    finite = jnp.isfinite(loss).all() & answered(answer.logits) & ~broken
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
