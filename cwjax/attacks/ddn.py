"""DDN: the direction and the norm of the perturbation are found apart (Rony et al. 2019)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cwjax.arguments import check_count, check_number
from cwjax.base import Attack, Count, Number, Objective, wide
from cwjax.loop import Rule, iterated
from cwjax.parts import distances
from cwjax.parts.losses import label_cross_entropy
from cwjax.parts.norms import farthest, length, unit
from cwjax.parts.schedules import annealed
from cwjax.problems import clip


class DDNMemory(NamedTuple):
    radius: Float[Array, ""]  # epsilon: the norm of the point asked about, except where the box cuts it
    noise: Float[Array, "*S"]  # a unit direction, for where the model has no slope


def ddn(
    *,
    objective: Objective = label_cross_entropy(),
    steps: Count = 100,
    initial_norm: Number = 1.0,
    gamma: Number = 0.05,
    first_step: Number = 1.0,
    last_step: Number = 0.01,
    levels: Count | None = None,
) -> Attack:
    """DDN, L2: decoupled direction and norm, steps down the loss on a sphere whose radius follows the boundary.

    With g the unit direction of steepest descent of the loss at `x + delta_k`, and alpha falling along a cosine,

        delta      <- delta_k + alpha·g
        epsilon_k+1 = (1 - gamma)·epsilon_k where the goal is met, else (1 + gamma)·epsilon_k
        delta_k+1   = epsilon_k+1 · delta / |delta|₂, clipped to the box and rounded to its levels

    The direction is thus refined on a sphere whose radius follows the decision boundary, with no weight between loss
    and distance to be searched for. As in adv-lib, epsilon stays below the distance of the box's farthest corner, and
    a random direction (one for the whole run, of length 1) stands for a slope of 0.

    Args:
      objective: its loss is gone down along; the paper's is the cross-entropy of the label.
      steps: K, how many points to ask about; the paper has 100, 300 and 1000.
      initial_norm: epsilon_0, > 0, in widths of the box. It matters little: it grows and shrinks exponentially.
      gamma: by how much of itself epsilon changes a step, in (0, 1). The paper's 0.05 crosses the range of sensible
        norms in a few tens of steps.
      first_step: alpha of the first step, > 0, in widths of the box.
      last_step: alpha that the last steps come to, >= 0, likewise.
      levels: round every element to one of this many values, >= 2, evenly spaced from `low` to `high`: 256 in the
        paper, which asks for images that can be saved. None: do not round.

    Raises:
      ValueError: a number out of its range.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.ddn(steps=50)))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(2))  # the least is 0.14 and 0.21
      [0.16 0.23]

    References:
      Rony et al. 2019, "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and
        defenses", algorithm 1, https://arxiv.org/abs/1811.09600
    """
    check_number("initial_norm", initial_norm, least=0, above=True)
    check_number("gamma", gamma, least=0, above=True, most=1)
    check_number("first_step", first_step, least=0, above=True)
    check_number("last_step", last_step, least=0)
    if levels is not None:
        check_count("levels", levels, least=2)

    def rounded(problem, x):
        if levels is None:
            return x
        low, width = problem.low, problem.widths
        return low + jnp.round((x - low) / width * (levels - 1)) / (levels - 1) * width

    def init(key, problem):
        start = problem.start.astype(wide(problem.x))
        noise = jax.random.normal(key, start.shape, start.dtype)
        radius = initial_norm * problem.span.astype(start.dtype)
        return start, DDNMemory(radius=radius, noise=unit(jnp.where(problem.mask, noise, 0)))

    def move(problem, memory, seen):
        direction = jnp.where((seen.slope == 0).all(), memory.noise, -unit(seen.slope))
        delta = seen.delta + annealed(first_step, last_step, seen.taken, steps) * problem.span * direction
        radius = memory.radius * jnp.where(seen.met, 1 - gamma, 1 + gamma)
        radius = jnp.minimum(radius, length(farthest(problem)))
        x = clip(problem, seen.x - seen.delta + radius * unit(delta))
        return rounded(problem, x), DDNMemory(radius=radius, noise=memory.noise)

    return iterated(
        Rule(init=init, move=move),
        objective=objective,
        distance=distances.l2(),
        steps=steps,
    )
