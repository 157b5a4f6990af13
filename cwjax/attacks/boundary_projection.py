"""Boundary Projection (Zhang et al. 2020): across the boundary at once, and then along it to where it is nearest."""

import jax.numpy as jnp

from cwjax.arguments import check_number
from cwjax.base import Attack, Count, Number, Objective, found, wide
from cwjax.loop import Rule, iterated
from cwjax.parts import distances
from cwjax.parts.losses import label_cross_entropy
from cwjax.parts.norms import length, unit


def boundary_projection(
    *,
    steps: Count = 100,
    first_step: Number = 2.0,
    least_step: Number = 0.1,
    first_gamma: Number = 0.7,
    last_gamma: Number = 1.0,
    objective: Objective = label_cross_entropy(),
) -> Attack:
    """Boundary Projection, L2: cross the boundary, then walk along it with steps that lead nearer.

    With n the slope of the loss at `x + delta`, at length 1, and gamma rising from step to step (Zhang et al. 2020,
    "Walking on the edge: fast, low-distortion adversarial examples", algorithm 1):

    1. Until the goal is met for the first time, x + delta goes `alpha·gamma` down along n.
    2. Where it is met, the model made affine has its boundary orthogonal to n. On the plane through `x + delta` that is
       parallel to it, v is the nearest point to x. The next point lies in this plane, between v and `x + delta`, at the
       distance `gamma·|delta|` from x; at v, if no point of the plane is that near:

           r = delta·n          v = x + r·n          next = v + u(x + delta - v)·sqrt(max((gamma·|delta|)² - r², 0))

    3. Where it is not met any more, the next point lies down along n, at the distance `|delta| / gamma` from x:

           next = x + delta - (r + sqrt((|delta|/gamma)² - |delta|² + r²))·n,          no less than beta away

    So the distance shrinks and grows by a share, which comes to nothing in the end, without a weight to be searched
    for. Each point is clipped to the box. Step 2 takes the boundary to be where the point is: on a model that is affine
    the attack stays where it first crossed the boundary, as in the authors' code and adv-lib's. A shorter `first_step`
    then crosses it nearer.

    The paper rounds each point to one of 256 levels and makes step 2 longer or shorter to suit. Here points are not
    rounded; `cwjax.discretised` rounds results, and repairs those that rounding breaks. Towards a target the paper says
    nothing; it is the same with the loss of that target.

    Args:
      steps: K, points to ask about, >= 1; the paper's is 20 or 100.
      first_step: alpha, > 0, in widths of the box. The paper's 2 is meant for pictures.
      least_step: beta, >= 0, in widths of the box.
      first_gamma: of the first step, in (0, 1].
      last_gamma: that the last steps come to, in (0, 1].
      objective: its loss is gone down along; the paper's is the cross-entropy of the label.

    Raises:
      ValueError: a number out of its range.

    Example:
      >>> attack = cw.attacks.boundary_projection(steps=50, first_step=0.1)
      >>> result = jax.jit(cw.batched(attack))(model, keys, x, goal)
      >>> result.success.tolist(), result.forwards.tolist()
      ([True, True], [50, 50])

    References:
      Zhang et al. 2020, "Walking on the edge: fast, low-distortion adversarial examples", algorithm 1,
        https://arxiv.org/abs/1912.02153
    """
    check_number("first_step", first_step, least=0, above=True)
    check_number("least_step", least_step, least=0)
    check_number("first_gamma", first_gamma, least=0, above=True, most=1)
    check_number("last_gamma", last_gamma, least=0, above=True, most=1)

    def move(problem, memory, seen):
        gamma = first_gamma + (last_gamma - first_gamma) * seen.taken / (steps + 1)
        down, size = -unit(seen.slope), length(seen.delta)
        along = jnp.sum(seen.delta * down)

        across = first_step * problem.span * gamma * down

        # Where the goal is met: within the plane, seen from the clean input.
        nearest = along * down
        within = jnp.sqrt(jnp.maximum((gamma * size) ** 2 - along**2, 0))
        outside = nearest + within * unit(seen.delta - nearest) - seen.delta

        # Where it is not met any more.
        further = jnp.sqrt(jnp.maximum((size / gamma) ** 2 - size**2 + along**2, 0)) - along
        inside = jnp.maximum(further, least_step * problem.span) * down

        step = jnp.where(seen.met, outside, jnp.where(found(seen.best), inside, across))
        return seen.x + step, memory

    return iterated(
        Rule(lambda key, problem: (problem.start.astype(wide(problem.x)), ()), move),
        objective=objective,
        distance=distances.l2(),
        steps=steps,
    )
