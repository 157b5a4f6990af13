"""The one loop: ask the model about a point, keep it if it is the closest example, go on to the next.

An attack is then a `Rule`: where to begin, and where to go from what was seen.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from cwjax.answers import Seen, advanced, look, moving
from cwjax.arguments import check_count, check_part
from cwjax.base import (
    Attack,
    Box,
    Count,
    Distance,
    Goal,
    Objective,
    Problem,
    Progress,
    Terms,
    select,
    untouched,
    wide,
)
from cwjax.parts.boxes import projected


class Rule(NamedTuple):
    """How an attack goes from point to point.

    The images are within the box, and held where the mask is False, before the model sees them.

    Example:
      >>> down = cw.loop.Rule(  # a tenth down the sign of the slope, with nothing to remember
      ...     init=lambda key, problem: (problem.start, ()),
      ...     move=lambda problem, memory, seen: (seen.x - 0.1 * jnp.sign(seen.slope), memory),
      ... )
      >>> attack = cw.loop.iterated(
      ...     down, objective=cw.losses.negative_margin(), distance=cw.distances.linf(), steps=4
      ... )
      >>> print(np.asarray(cw.batched(attack)(model, keys, x, goal).distance).round(2))
      [0.2 0.2]
    """

    init: Callable[[PRNGKeyArray, Problem], tuple[Float[Array, "*S"], Any]]  # -> (the first image, memory)
    move: Callable[[Problem, Any, Seen], tuple[Float[Array, "*S"], Any]]  # -> (the next point, as a w, memory)
    over: Callable[[Problem, Any, Seen], Bool[Array, ""]] = lambda problem, memory, seen: jnp.array(False)
    aim: Callable[[Problem, Any], Goal] = lambda problem, memory: problem.goal  # of the loss at the next point
    penalised: bool = False  # whether it goes down D + c·f, or down f alone


class IteratedState(NamedTuple):
    """What `iterated` carries from step to step."""

    w: Float[Array, "*S"]  # at least float32: the point to ask about next, in the box's variable
    home: Bool[Array, "*S"]  # elements of it that began at the clean value and have not moved since
    memory: Any  # of the rule
    taken: Int[Array, ""]  # int32: points asked about
    progress: Progress


def iterated(
    rule: Rule,
    *,
    objective: Objective,
    distance: Distance,
    steps: Count,
    box: Box = projected(),
) -> Attack:
    """The attack that follows a rule for `steps` points, with the closest example kept.

    A step asks about one point: one forward and one backward pass, or as many backward passes as the objective has
    losses.

    Args:
      rule: where to go.
      objective: its loss, or vector of losses [L], is what the rule is shown; `met` decides about success.
      distance: what is measured; and D, of a rule that goes down D + c·f.
      steps: how many points to ask about, >= 1; may be traced.
      box: in whose variable the points are; that of `projected` is the image itself.

    Example:
      >>> down = cw.loop.Rule(
      ...     init=lambda key, problem: (problem.start, ()),
      ...     move=lambda problem, memory, seen: (seen.x - 0.1 * seen.slope, memory),
      ... )
      >>> attack = cw.loop.iterated(down, objective=cw.losses.negative_margin(), distance=cw.distances.l2(), steps=4)
      >>> cw.batched(attack)(model, keys, x, goal).forwards.tolist()
      [4, 4]
    """
    check_part("objective", objective, Objective)
    check_part("distance", distance, Distance)
    check_count("steps", steps)

    def init(key, problem):
        x, memory = rule.init(key, problem)
        clean = problem.x.astype(wide(problem.x))
        x = jnp.where(problem.mask & moving(problem), x.astype(clean.dtype), clean)
        return IteratedState(
            w=box.encode(x, problem.low, problem.high),
            home=x == clean,
            memory=memory,
            taken=jnp.zeros((), jnp.int32),
            progress=untouched(problem),
        )

    def step(model, problem, state):
        looked = look(
            model,
            problem._replace(live=state.progress.live),
            state.w,
            state.home,
            objective=objective,
            distance=distance,
            box=box,
            aim=rule.aim(problem, state.memory),
            penalised=rule.penalised,
        )
        progress = advanced(state.progress, looked.evaluated, over=state.taken + 1 >= steps)
        seen = looked.seen._replace(taken=state.taken, best=progress.best)
        w, memory = rule.move(problem, state.memory, seen)
        progress = progress._replace(
            backwards=state.progress.backwards + jnp.size(seen.loss),
            done=progress.done | rule.over(problem, memory, seen) | ~problem.mask.any(),
        )
        w = jnp.where(problem.mask, box.project(w.astype(state.w.dtype), problem.low, problem.high), state.w)
        home = state.home & (w == state.w)
        return IteratedState(w=w, home=home, memory=memory, taken=state.taken + 1, progress=progress)

    return Attack(init=init, step=step, terms=Terms(objective, distance, box))


class Waiting(NamedTuple):
    """What `from_clean` carries from step to step."""

    start: Float[Array, "*S"]  # the rule's own first point
    rule: Any


def from_clean(rule: Rule) -> Rule:
    """The rule, with a look at the clean input before its own first point.

    So one that starts elsewhere, at random, also finds that an input meets the goal to begin with: an example at
    distance 0.

    Args:
      rule: that may begin elsewhere.

    Example:
      >>> elsewhere = cw.loop.Rule(
      ...     init=lambda key, problem: (problem.high, ()), move=lambda problem, memory, seen: (seen.x, memory)
      ... )
      >>> attack = cw.loop.iterated(
      ...     cw.loop.from_clean(elsewhere), objective=cw.losses.negative_margin(), distance=cw.distances.l2(), steps=2
      ... )
      >>> print(cw.batched(attack)(model, keys, x, cw.untargeted([1, 1])).distance)  # the first is not 1 to begin with
      [ 0. inf]
    """

    def init(key, problem):
        start, memory = rule.init(key, problem)
        return problem.x.astype(start.dtype), Waiting(start, memory)

    def move(problem, memory, seen):
        x, after = rule.move(problem, memory.rule, seen._replace(taken=seen.taken - 1))
        first = seen.taken == 0
        return select(first, (memory.start, memory), (x, Waiting(memory.start, after)))

    def over(problem, memory, seen):
        return (seen.taken > 0) & rule.over(problem, memory.rule, seen._replace(taken=seen.taken - 1))

    return rule._replace(init=init, move=move, over=over, aim=lambda problem, memory: rule.aim(problem, memory.rule))
