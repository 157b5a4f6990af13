"""SuperDeepFool (Abdolahpourrostam et al. 2023): DeepFool, then onto the line along which the boundary is nearest."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_count, check_number
from cwjax.attacks.deepfool import class_differences, losses_and_slopes, to_boundary
from cwjax.base import Attack, Count, Number, Objective, wide
from cwjax.loop import Rule, iterated
from cwjax.parts.norms import NORMS, unit


class SuperDeepFoolMemory(NamedTuple):
    base: Float[Array, "*S"]  # x_i: where the present run of DeepFool began
    taken: Int[Array, ""]  # int32: steps of DeepFool since
    end: Float[Array, "*S"]  # of the segment that is searched: the first x_i that met the goal
    low: Float[Array, ""]  # a share of the segment that does not meet the goal
    high: Float[Array, ""]  # one that does
    searching: Bool[Array, ""]
    left: Int[Array, ""]  # int32: points that the search has left


def superdeepfool(
    *,
    overshoot: Number = 0.02,
    steps: Count = 100,
    inner_steps: Count = 100,
    search_steps: Count = 10,
    objective: Objective = class_differences(),
) -> Attack:
    """SuperDeepFool, L2: DeepFool, and then a step that makes the change orthogonal to the boundary.

    Abdolahpourrostam et al. (2023, "SuperDeepFool: a new fast and accurate minimal adversarial
    attack", algorithm 2). DeepFool ends where the line from the clean input x_0 is not orthogonal to the boundary, so
    that a nearer point exists. With w the normal of the boundary at that end, of length 1,

        x~ = DeepFool(x_i)          x_{i+1} = x_i + ((x~ - x_0)·w) w

    until x_i meets the goal. Then the segment from the clean input to x_i is halved `search_steps` times.

    The slopes at the end of DeepFool, which are known already, give w: of the class that stands first there or, where
    DeepFool ran out of steps, of its next step. As in adv-lib each point is clipped to the box, and the closest point
    of all that were asked about counts, so also one where DeepFool ended.

    Towards a target, where the paper says nothing, it is the same with DeepFool towards that target.

    Args:
      overshoot: of DeepFool, >= 0.
      steps: points to ask about in all, at the most, >= 1. Each costs as many backward passes as the objective has
        losses, those of the search at the end too.
      inner_steps: steps of one run of DeepFool, at the most, >= 1.
      search_steps: points of the search at the end, >= 0; ten are the authors' and adv-lib's choice.
      objective: losses that are at most 0 where the goal is met: a vector as `class_differences` gives it, or one alone
        such as `logit_margin`.

    Raises:
      ValueError: a number out of its range.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.superdeepfool()))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(3))  # a linear model's boundary is 0.141 and 0.212 away
      [0.142 0.212]

    References:
      Abdolahpourrostam et al. 2023, "SuperDeepFool: a new fast and accurate minimal adversarial attack", algorithm 2,
        https://arxiv.org/abs/2303.12481
    """
    check_number("overshoot", overshoot, least=0)
    check_count("inner_steps", inner_steps)
    check_count("search_steps", search_steps, least=0)
    space = NORMS["l2"]

    def init(key, problem):
        start = problem.start.astype(wide(problem.x))
        none, zero, one = jnp.zeros((), jnp.int32), jnp.zeros_like(start, shape=()), jnp.ones_like(start, shape=())
        memory = SuperDeepFoolMemory(
            base=start, taken=none, end=start, low=zero, high=one, searching=jnp.array(False), left=none
        )
        return start, memory

    def move(problem, memory, seen):
        clean = problem.x.astype(seen.x.dtype)
        at_base = memory.taken == 0
        base = jnp.where(at_base, seen.x, memory.base)

        # DeepFool, or the projection once it has ended.
        step = to_boundary(problem, seen, objective, space, overshoot)
        first = losses_and_slopes(seen)[1][0]  # of the class that stands first among the others
        normal = unit(jnp.where(seen.met, first, step))
        projected = base + jnp.sum((seen.x - problem.start) * normal) * normal
        ended = ~at_base & (seen.met | (memory.taken >= inner_steps))

        # The search between the clean input and the first base that meets the goal.
        begins = at_base & seen.met & ~memory.searching
        searching = memory.searching | begins
        end = jnp.where(begins, seen.x, memory.end)
        middle = (memory.low + memory.high) / 2
        high = jnp.where(memory.searching & seen.met, middle, memory.high)
        low = jnp.where(memory.searching & ~seen.met, middle, memory.low)
        searched = clean + (low + high) / 2 * (end - clean)

        after = SuperDeepFoolMemory(
            base=base,
            taken=jnp.where(ended | searching, 0, memory.taken + 1),
            end=end,
            low=low,
            high=high,
            searching=searching,
            left=jnp.where(begins, search_steps, memory.left - memory.searching),
        )
        return jnp.where(searching, searched, jnp.where(ended, projected, seen.x + step)), after

    def over(problem, memory, seen):
        return memory.searching & (memory.left <= 0)

    return iterated(
        Rule(init, move, over=over),
        objective=objective,
        distance=space.distance,
        steps=steps,
    )
