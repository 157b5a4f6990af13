"""What first-order attacks share: ask the model about a point, keep it if it is the closest example, go on to the next.

An attack is then a `Rule`: where to begin, and where to go from what was seen.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from cwjax.answers import Evaluated, advanced, ask, evaluated, moving
from cwjax.arguments import check_count, check_part
from cwjax.base import (
    Attack,
    Candidate,
    Count,
    Distance,
    Evaluation,
    Goal,
    Knob,
    Network,
    Objective,
    Problem,
    Progress,
    Search,
    Terms,
    clip,
    select,
    untouched,
    wide,
)
from cwjax.parts.boxes import projected


class Seen(NamedTuple):
    """What the model says of a point."""

    x: Float[Array, "*S"]  # the point, at least float32
    delta: Float[Array, "*S"]  # from the clean input to it
    loss: Float[Array, "..."]  # [], of the objective; [L] where it has L losses
    slope: Float[Array, "..."]  # [*S], of the loss in x; [L, *S]; 0 where the mask holds still
    logits: Float[Array, "K"]
    met: Bool[Array, ""]  # whether the goal is met
    distance: Float[Array, ""]  # in the attack's norm
    taken: Int[Array, ""]  # int32: points asked about before this one
    best: Candidate  # the closest example so far, this point included


class Rule(NamedTuple):
    """How an attack goes from point to point. The points are clipped to the box, and held where the mask is False,
    before the model sees them.
    """

    init: Callable[[PRNGKeyArray, Problem], tuple[Float[Array, "*S"], Any]]  # -> (the first point, memory)
    move: Callable[[Problem, Any, Seen], tuple[Float[Array, "*S"], Any]]  # -> (the next point, memory)
    over: Callable[[Problem, Any, Seen], Bool[Array, ""]] = lambda problem, memory, seen: jnp.array(False)
    aim: Callable[[Problem, Any], Goal] = lambda problem, memory: problem.goal  # of the loss at the next point


class IteratedState(NamedTuple):
    x: Float[Array, "*S"]  # at least float32: the point to ask about next
    memory: Any  # of the rule
    taken: Int[Array, ""]  # int32: points asked about
    progress: Progress


def iterated(
    rule: Rule,
    *,
    objective: Objective,
    distance: Distance,
    steps: Count,
) -> Attack:
    """The attack that follows a rule for so many points, with the closest example kept.

    A step asks about one point: one forward and one backward pass, or as many backward passes as the objective has
    losses.

    Args:
      rule: where to go.
      objective: its loss, or vector of losses [L], is what the rule is shown; `met` decides about success.
      distance: what is measured; its penalty is not used.
      steps: how many points to ask about, >= 1; may be traced.
    """
    check_part("objective", objective, Objective)
    check_part("distance", distance, Distance)
    check_count("steps", steps)

    def allowed(problem, x):
        clean = problem.x.astype(wide(problem.x))
        return jnp.where(problem.mask, clip(problem, x.astype(clean.dtype)), clean)

    def init(key, problem):
        x, memory = rule.init(key, problem)
        zero = jnp.zeros((), jnp.int32)
        return IteratedState(x=allowed(problem, x), memory=memory, taken=zero, progress=untouched(problem))

    def step(model, problem, state):
        aim = rule.aim(problem, state.memory)
        known = problem._replace(live=state.progress.live)
        looked = look(model, known, state.x, objective=objective, distance=distance, aim=aim)
        progress = advanced(state.progress, looked.evaluated, over=state.taken + 1 >= steps)
        seen = looked.seen._replace(taken=state.taken, best=progress.best)
        x, memory = rule.move(problem, state.memory, seen)
        progress = progress._replace(
            backwards=state.progress.backwards + jnp.size(seen.loss),
            done=progress.done | rule.over(problem, memory, seen) | ~problem.mask.any(),
        )
        return IteratedState(x=allowed(problem, x), memory=memory, taken=state.taken + 1, progress=progress)

    return Attack(init=init, step=step, terms=Terms(objective, distance, projected()))


class Waiting(NamedTuple):
    start: Float[Array, "*S"]  # the rule's own first point
    rule: Any


def from_clean(rule: Rule) -> Rule:
    """The rule, with a look at the clean input before its own first point. So one that starts elsewhere, at random,
    also finds that an input meets the goal to begin with: an example at distance 0.
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

    return Rule(init=init, move=move, over=over, aim=lambda problem, memory: rule.aim(problem, memory.rule))


class SteeredMemory(NamedTuple):
    knob: Knob
    rule: Any


def steered(rule: Rule, search: Search) -> Rule:
    """The rule, with the search's knob turned after every step, as `tracked` turns it, and before the first one too.

    So the first step goes by what the model says of the first point, where that of `tracked` knows nothing yet; and a
    rule around this one says which points the search is told of.
    """
    check_part("rule", rule, Rule)
    check_part("search", search, Search)

    def init(key, problem):
        knob = search.init(problem)
        start, memory = rule.init(key, search.ask(problem, knob))
        return start, SteeredMemory(knob, memory)

    def move(problem, memory, seen):
        last = Evaluation(loss=seen.loss, distance=seen.distance, met=seen.met, gradient=seen.slope)
        asked = seen.taken + 1
        outcome = untouched(problem)._replace(best=seen.best, last=last, forwards=asked, backwards=asked)
        knob = search.tell(problem, memory.knob, outcome)
        in_force = select(seen.taken == 0, knob, memory.knob)
        x, after = rule.move(search.ask(problem, in_force), memory.rule, seen)
        return x, SteeredMemory(knob, after)

    return Rule(
        init=init,
        move=move,
        over=lambda problem, memory, seen: rule.over(problem, memory.rule, seen) | search.done(memory.knob),
        aim=lambda problem, memory: rule.aim(problem, memory.rule),
    )


class Looked(NamedTuple):
    seen: Seen
    evaluated: Evaluated


def look(
    model: Network, problem: Problem, x: Float[Array, "*S"], *, objective: Objective, distance: Distance, aim: Goal
) -> Looked:
    """The model at x, an allowed point of the problem: one forward pass, and one backward pass for each loss, which is
    that of the goal `aim`; what is met is the problem's own goal.

    An element of x that has shown no slope is held at the clean input, once others have shown one (`problem.live`).
    """
    clean = problem.x.astype(wide(problem.x))
    image = jnp.where(moving(problem), x, clean).astype(problem.x.dtype)
    answer = ask(model, problem, image, objective=objective, aim=aim)
    found = evaluated(
        problem,
        image,
        answer,
        loss=answer.loss,
        gradient=answer.slope,
        away=image != problem.x,
        objective=objective,
        distance=distance,
    )
    x = image.astype(clean.dtype)
    seen = Seen(
        x=x,
        delta=x - clean,
        loss=answer.loss,
        slope=answer.slope,
        logits=answer.logits.astype(wide(answer.logits)),
        met=found.evaluation.met,
        distance=found.evaluation.distance,
        taken=jnp.zeros((), jnp.int32),
        best=found.candidate,
    )
    return Looked(seen, found)
