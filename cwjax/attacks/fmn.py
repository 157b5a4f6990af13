"""FMN: the fast minimum-norm attack, in four norms (Pintor et al. 2021)."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from cwjax.arguments import check_number
from cwjax.base import Attack, Count, Distance, Number, Objective, found, wide
from cwjax.loop import Rule, iterated
from cwjax.parts.distances import DISTANCES
from cwjax.parts.losses import negative_margin
from cwjax.parts.norms import NORMS, TINY, check_norm, farthest, onto_sphere, unit, units
from cwjax.parts.schedules import annealed


class FMNMemory(NamedTuple):
    radius: Float[Array, ""]  # epsilon: of the ball that the points are kept in


def fmn(
    *,
    norm: str = "l2",
    objective: Objective = negative_margin(),
    distance: Distance | None = None,
    steps: Count = 100,
    first_step: Number = 1.0,
    last_step: Number = 0.01,
    first_gamma: Number = 0.05,
    last_gamma: Number = 0.001,
) -> Attack:
    """FMN, the fast minimum-norm attack: steps down the loss in a ball whose radius follows the boundary.

    A point goes a step alpha of length along the steepest descent of the loss L, and is projected onto the ball of
    radius epsilon, and into the box. The radius follows the decision boundary:

        the goal is met:                         epsilon <- min((1 - gamma)·epsilon, the least norm found)
        else, and it was met before:             epsilon <- (1 + gamma)·epsilon
        else, first order (q the dual norm):     epsilon <- |delta|_p + |L| / |grad L|_q

    with alpha and gamma falling along a cosine. In L0 there is no dual norm: epsilon starts at one element, and changes
    by one at the least.

    In L2 the point is put onto the sphere, also from inside, as adv-lib does: the projection onto the ball that the
    paper prints found no example for 4 of 100 digits at 100 steps, where this one missed 2.

    Args:
      norm: "l0", "l1", "l2" or "linf".
      objective: its loss has to be zero on the decision boundary.
      distance: what is reported and by which the closest example is chosen; that of the norm if None. In L0 that is
        pixels; the radius counts elements all the same. To count elements: `distances.l0(per_pixel=False)`.
      steps: how many points to ask about; may be traced.
      first_step: alpha of the first step, an L2 length in widths of the box, > 0. AttackBench takes 10 for "linf".
      last_step: alpha that the last steps come to, likewise, >= 0; the paper's is a hundredth of the first.
      first_gamma: by how much of itself epsilon changes at first, in (0, 1).
      last_gamma: and in the end.

    Raises:
      ValueError: an unknown norm, or a number out of its range.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.fmn(norm="l1", steps=50)))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(1))  # the least is 0.2 and 0.3
      [0.2 0.3]

    References:
      Pintor et al. 2021, "Fast minimum-norm adversarial attacks through adaptive norm constraints", algorithm 1,
        https://arxiv.org/abs/2102.12827
    """
    check_norm(norm, tuple(NORMS))
    check_number("first_step", first_step, least=0, above=True)
    check_number("last_step", last_step, least=0)
    check_number("first_gamma", first_gamma, least=0, above=True, most=1)
    check_number("last_gamma", last_gamma, least=0, most=1)
    size, dual = NORMS[norm].distance.measure, NORMS[norm].dual
    onto = onto_sphere if norm == "l2" else NORMS[norm].onto

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        first = jnp.maximum(size(start - problem.x.astype(start.dtype)), 1) if norm == "l0" else jnp.inf
        return start, FMNMemory(radius=jnp.asarray(first, start.dtype))

    def followed(radius, gamma, seen, least):
        """The next radius: smaller where the goal is met, else larger."""
        grown = radius * (1 + gamma)
        if norm == "l0":
            shrunk = jnp.minimum(jnp.floor(radius * (1 - gamma)), radius - 1)
            larger = jnp.maximum(jnp.floor(grown), radius + 1)
        else:
            shrunk = radius * (1 - gamma)
            boundary = jnp.abs(seen.loss) / jnp.maximum(dual(seen.slope), TINY)
            larger = jnp.where(found(seen.best), grown, size(seen.delta) + boundary)
        return jnp.where(seen.met, jnp.minimum(shrunk, least), larger)

    def move(problem, memory, seen):
        clean = seen.x - seen.delta
        alpha = annealed(first_step, last_step, seen.taken, steps)
        width, one = units(norm, problem), 1 if norm == "l0" else problem.span  # of an element, and of the radius
        gamma = annealed(first_gamma, last_gamma, seen.taken, steps)
        least = size(seen.best.x.astype(clean.dtype) - clean)  # used only where one is known
        radius = followed(memory.radius, gamma, seen, least)
        radius = jnp.clip(radius, 0, size(farthest(problem))).astype(memory.radius.dtype)
        share = onto(seen.delta / width - alpha * unit(width * seen.slope), radius / one)
        return clean + width * share, FMNMemory(radius=radius)

    return iterated(
        Rule(init=init, move=move),
        objective=objective,
        distance=distance or DISTANCES[norm],
        steps=steps,
    )
