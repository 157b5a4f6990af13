"""Within a radius that is turned at every step: what the fast attack in L-infinity and legs in L2 are made of."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.base import Count, Number, Objective, Problem, Search, found, select, wide
from cwjax.loop import Rule
from cwjax.parts.losses import negative_margin
from cwjax.parts.norms import NORMS, TINY, check_norm, onto_sphere, unit
from cwjax.parts.schedules import annealed, lengthened

_KEPT = 0.3  # the share of what its slope promised that the first step has to take off the loss for it to be believed,
_FARTHER = 10 / 3  # and how much farther one may look where it does not
_TRUSTED = 0.5  # the share for which steps go along the slope, or nearly


class Pace(NamedTuple):
    """Of the steps."""

    rate: float  # the longest one, in radii
    decay: float  # of the momentum


class Metric(NamedTuple):
    """A norm to slide in."""

    # (momentum, whether the slope is not to be trusted, what is left of the run: 1 at the first step, 0 at the last) ->
    # the direction of a step
    towards: Callable[[Float[Array, "*S"], Bool[Array, ""], Float[Array, ""]], Float[Array, "*S"]]
    onto: Callable[[Float[Array, "*S"], Float[Array, ""]], Float[Array, "*S"]]  # delta, radius -> delta within it
    seeking: Pace  # until there is an example
    towards_label: Pace  # and then
    from_label: Pace
    # steps -> by how much the logarithm of the radius changes at the first of them and at the last
    turn: Callable[[Count], tuple[float, Number]]


def _flattened(v: Float[Array, "*S"], doubted: Bool[Array, ""], left: Float[Array, ""]) -> Float[Array, "*S"]:
    """Along powers of the elements: the square roots at first (`left` = 1) where they are doubted, nearly the elements
    where not, and the elements themselves in the end.
    """
    sizes = jnp.abs(v) / jnp.maximum(jnp.max(jnp.abs(v)), TINY)
    return unit(jnp.sign(v) * jnp.maximum(sizes, TINY) ** (1 - left * jnp.where(doubted, 0.5, 0.15)))


METRICS = {
    "linf": Metric(
        towards=lambda momentum, doubted, left: jnp.sign(momentum),
        onto=NORMS["linf"].onto,
        seeking=Pace(rate=0.3, decay=0.9),
        towards_label=Pace(rate=1.0, decay=0.6),
        from_label=Pace(rate=1.5, decay=0.2),
        turn=lambda steps: (0.1, 0.001),
    ),
    "l2": Metric(
        towards=_flattened,
        onto=onto_sphere,  # also from inside, as FMN does
        seeking=Pace(rate=0.5, decay=0.9),
        towards_label=Pace(rate=1.0, decay=0.5),
        from_label=Pace(rate=4.0, decay=0.0),
        turn=lambda steps: (0.1, 0.001 * jnp.minimum(100 / jnp.asarray(steps), 1) ** 2),  # finer in more than 100 steps
    ),
}
"""By norm. The numbers were found by trial on the networks of the zoo (benchmarks/FINDINGS.md). Small steps
with much momentum get to the goal where others do not, and long ones with little come nearer along the boundary: with
next to none away from a label, but towards one the loss has a kink wherever the likeliest other class changes, and it
takes a mean of slopes to go along that.
"""


def _pace(metric: Metric, reaching: Bool[Array, ""], known: Bool[Array, ""]) -> Pace:
    """What the steps are like, once an example is known or not."""
    following = select(reaching, metric.towards_label, metric.from_label)
    return select(known, following, metric.seeking)


class Promise(NamedTuple):
    """What the slope at the first point says."""

    loss: Float[Array, ""]  # there
    distance: Float[Array, ""]  # of the boundary, if the model were linear; the box's width where it is flat


def _promise(problem: Problem, loss: Float[Array, ""], slope: Float[Array, ""]) -> Promise:
    """For a slope of that dual norm."""
    steep = slope > 0
    return Promise(loss=loss, distance=jnp.where(steep, jnp.abs(loss) / jnp.where(steep, slope, 1), problem.span))


def _broken(promise: Promise, share: float, loss: Float[Array, ""], distance: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether a step of that length from the first point took less off the loss than this share of what it promised."""
    return promise.distance * (promise.loss - loss) < share * promise.loss * distance


class SlidingMemory(NamedTuple):
    momentum: Float[Array, "*S"]  # of slopes of L2 norm one
    promise: Promise
    doubted: Bool[Array, ""]


def slid(norm: str, steps: Count, objective: Objective = negative_margin()) -> Rule:
    """The rule that takes steps of `problem.scale` radii down the momentum of normalised slopes, each projected onto
    the ball of radius `problem.tau` around the clean input.

    In L2 a step goes along the square roots of the momentum at first, where the first step of a leg from the clean
    input took away less than half of what its slope promised, or where none tells; else nearly along the momentum.
    """
    check_norm(norm, tuple(METRICS))
    metric = METRICS[norm]

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        zero = jnp.zeros_like(start, shape=())
        return start, SlidingMemory(jnp.zeros_like(start), promise=Promise(zero, zero), doubted=jnp.array(True))

    def move(problem, memory, seen):
        decay = _pace(metric, objective.reaches(problem.goal), found(seen.best)).decay
        momentum = decay * memory.momentum + (1 - decay) * unit(seen.slope)
        promise = select(seen.taken == 0, _promise(problem, seen.loss, NORMS[norm].dual(seen.slope)), memory.promise)
        told = (seen.taken == 1) & (problem.start == problem.x).all()
        doubted = jnp.where(told, _broken(promise, _TRUSTED, seen.loss, seen.distance), memory.doubted)
        left = annealed(1.0, 0.0, seen.taken, steps)
        delta = seen.delta - problem.scale * problem.tau * metric.towards(momentum, doubted, left)
        return seen.x - seen.delta + metric.onto(delta, problem.tau), SlidingMemory(momentum, promise, doubted)

    return Rule(init=init, move=move)


class Radius(NamedTuple):
    tau: Float[Array, ""]  # the radius; 0: nothing is known
    promise: Promise  # its distance longer, where it was broken
    best: Float[Array, ""]  # the least distance of an example; inf: none is known
    taken: Int[Array, ""]  # int32: steps


def radius(
    *,
    norm: str,
    steps: Count,
    objective: Objective = negative_margin(),
    afar: bool | Bool[Array, ""] = False,
) -> Search:
    """For `steered`, around `slid`: the radius tau, and the length of a step in radii.

    tau is multiplied by exp(-r) after a step at a point that meets the goal, and by exp(r) after one that does not; it
    never exceeds the best distance. r and the length of a step fall along a cosine.

    A problem of scale 0 is one about which nothing is known. tau is then at first the distance to the boundary of the
    linearised problem: the margin over the dual norm of its slope. Until an example is found it grows (`lengthened`),
    for a problem of weight c up to c times as far, and farther where the first step took away less than a third of what
    its slope promised. A problem of another scale has an example at that distance.

    Args:
      norm: "linf" or "l2".
      steps: of the attack.
      objective: of the attack; it says which goals are to reach one place.
      afar: whether tau at first is so much longer as the start is away from the clean input.

    Raises:
      ValueError: an unknown norm.
    """
    check_norm(norm, tuple(METRICS))
    metric = METRICS[norm]
    large, small = metric.turn(steps)

    def init(problem):
        best = jnp.where(problem.scale > 0, problem.scale, jnp.inf)
        unknown = Promise(loss=jnp.zeros_like(best), distance=jnp.zeros_like(best))
        return Radius(tau=problem.scale, promise=unknown, best=best, taken=jnp.zeros((), jnp.int32))

    def ask(problem, knob):
        rate = _pace(metric, objective.reaches(problem.goal), jnp.isfinite(knob.best)).rate
        return problem._replace(tau=knob.tau, scale=rate * annealed(1.0, 0.01, knob.taken, steps))

    def tell(problem, knob, outcome):
        seen = outcome.last
        best = jnp.minimum(knob.best, outcome.best.distance)
        first = knob.tau == 0
        there = _promise(problem, seen.loss, NORMS[norm].dual(seen.gradient))
        there = there._replace(distance=there.distance + jnp.where(afar, seen.distance, 0))
        promise = select(first, there, knob.promise)
        farther = (knob.taken == 1) & _broken(promise, _KEPT, seen.loss, seen.distance)
        promise = promise._replace(distance=promise.distance * jnp.where(farther, _FARTHER, 1))
        sought = lengthened(knob.tau, problem.c * promise.distance, knob.taken, steps)

        r = annealed(large, small, knob.taken, steps)
        shorter = jnp.minimum(knob.tau, best) * jnp.exp(-r)
        longer = jnp.where(jnp.isfinite(best), jnp.minimum(knob.tau * jnp.exp(r), best), sought)
        tau = jnp.where(first, promise.distance, jnp.where(seen.met, shorter, longer))
        return Radius(tau=tau, promise=promise, best=best, taken=knob.taken + 1)

    return Search(init=init, ask=ask, tell=tell, done=lambda knob: jnp.array(False))
