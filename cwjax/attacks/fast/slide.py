"""Slide: steps within a radius that is turned at every step, as the paper's L-infinity attack turns it by rounds."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.answers import Seen
from cwjax.attacks.fast.legs import Leg
from cwjax.base import Number, Objective, Problem, found, select, wide
from cwjax.loop import Rule
from cwjax.parts.norms import NORMS, check_norm, onto_sphere, unit
from cwjax.parts.schedules import DOUBT, annealed, lengthened, turned

_TURN = 0.1  # of log tau, at the first step of a leg
_SHORTEST = 0.01  # the last step over the first, and the last turn over the first


class Pace(NamedTuple):
    """How long steps are, and how much momentum they have."""

    rate: float  # the longest one, in radii
    decay: float  # of the momentum


class Metric(NamedTuple):
    """A norm to slide in.

    Example:
      >>> from cwjax.attacks.fast.slide import METRICS
      >>> linf, delta = METRICS["linf"], jnp.array([-0.2, 0.5])
      >>> print(linf.towards(delta), linf.onto(delta, jnp.float32(0.25)))
      [-1.  1.] [-0.2   0.25]
    """

    towards: Callable[[Float[Array, "*S"]], Float[Array, "*S"]]  # momentum -> the direction of a step
    onto: Callable[[Float[Array, "*S"], Float[Array, ""]], Float[Array, "*S"]]  # delta, radius -> delta within it


METRICS = {
    "linf": Metric(towards=jnp.sign, onto=NORMS["linf"].onto),
    "l2": Metric(towards=unit, onto=onto_sphere),  # also from inside, as FMN does
}

_SEEKING = Pace(rate=0.4, decay=0.9)  # until there is an example
_TOWARDS_LABEL = Pace(rate=1.0, decay=0.6)  # and then
_FROM_LABEL = Pace(rate=2.0, decay=0.2)
"""Small steps with much momentum get to the goal where others do not, and long ones with little come nearer along the
boundary: with next to none away from a label, but towards one the loss has a kink wherever the likeliest other class
changes, and it takes a mean of slopes to go along that.
"""


class Promise(NamedTuple):
    """What the slope at a point says.

    Example:
      >>> promised = cw.attacks.fast.slide.Promise(loss=jnp.float32(2.0), distance=jnp.float32(4.0))
      >>> float(promised.kept(jnp.float32(1.5), jnp.float32(2.0)))  # half of the way took a quarter of the loss
      0.5
    """

    loss: Float[Array, ""]  # there
    distance: Float[Array, ""]  # of the boundary, if the model were linear; the box's width where it is flat

    def kept(self, loss: Float[Array, ""], distance: Float[Array, ""]) -> Float[Array, ""]:
        """The share of it that a step of that length kept, which led to that loss; 1 at no distance."""
        promised = self.loss * distance
        return jnp.where(promised > 0, self.distance * (self.loss - loss) / jnp.where(promised > 0, promised, 1), 1)


def promise(problem: Problem, loss: Float[Array, ""], slope: Float[Array, ""]) -> Promise:
    """For a slope of that dual norm.

    Args:
      problem: of one example.
      loss: at a point.
      slope: the length of its slope there, in the dual norm.

    Example:
      >>> problem = cw.problems.problem(x[0], goal)
      >>> float(cw.attacks.fast.slide.promise(problem, jnp.float32(2.0), jnp.float32(4.0)).distance)
      0.5
    """
    steep = slope > 0
    return Promise(loss=loss, distance=jnp.where(steep, jnp.abs(loss) / jnp.where(steep, slope, 1), problem.span))


class SlidingMemory(NamedTuple):
    """What `slide` carries from step to step."""

    momentum: Float[Array, "*S"]  # of slopes of L2 norm one
    tau: Float[Array, ""]  # the radius
    promise: Promise  # of the first point; its distance longer, where it was not kept


def slide(norm: str, leg: Leg, objective: Objective) -> Rule:
    """The rule that steps down the slope within a radius that follows the boundary.

    It takes steps down the momentum of normalised slopes, each projected onto the ball of radius tau around the clean
    input.

    tau is at first the distance to the boundary of the linearised problem: the margin over the dual norm of its slope.
    Until an example is found it grows (`lengthened`), and farther where the first step took away less than a third of
    what its slope promised. Then it is multiplied by exp(-r) where the goal is met, and by exp(r) where it is not, and
    never exceeds the best distance. r and the length of a step fall along a cosine.

    Args:
      norm: "linf" or "l2".
      leg: of the run.
      objective: of the attack; it says which goals are to reach one place.

    Raises:
      ValueError: an unknown norm.

    Example:
      >>> from cwjax.attacks.fast import legs, slide
      >>> margin = cw.losses.softened_margin()
      >>> rule = legs.in_legs(lambda leg: slide.slide("l2", leg, margin), steps=40, legs=1)
      >>> attack = cw.loop.iterated(rule, objective=margin, distance=cw.distances.l2(), steps=40)
      >>> print(np.asarray(jax.jit(cw.batched(attack))(model, keys, x, goal).distance).round(2))
      [0.14 0.21]

    References:
      Pintor et al. 2021, "Fast minimum-norm adversarial attacks through adaptive norm constraints", whose radius
        follows the boundary too, https://arxiv.org/abs/2102.12827
    """
    check_norm(norm, tuple(METRICS))
    metric = METRICS[norm]

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        zero = jnp.zeros_like(start, shape=())
        return start, SlidingMemory(jnp.zeros_like(start), zero, Promise(zero, zero))

    def move(problem, memory, seen):
        first, second, best = seen.taken == 0, seen.taken == 1, seen.best.distance
        there = promise(problem, seen.loss, NORMS[norm].dual(seen.slope))
        there = there._replace(distance=there.distance + jnp.where(leg.lost, seen.distance, 0))
        kept = memory.promise.kept(seen.loss, seen.distance)
        longer = select(first, there, memory.promise)
        longer = longer._replace(distance=longer.distance * jnp.where(second & (DOUBT * kept < 1), DOUBT, 1))

        sought = lengthened(memory.tau, leg.farther * longer.distance, seen.taken, leg.steps)
        along = _along(memory.tau, best, seen.met, seen.taken, leg.steps)
        tau = jnp.where(first, there.distance, jnp.where(found(seen.best), along, sought))
        tau = jnp.minimum(tau, leg.within)

        following = select(objective.reaches(problem.goal), _TOWARDS_LABEL, _FROM_LABEL)
        pace = select(found(seen.best), following, _SEEKING)
        momentum = pace.decay * memory.momentum + (1 - pace.decay) * unit(seen.slope)
        x = _stepped(metric, seen, momentum, pace.rate, tau, leg.steps)
        return x, SlidingMemory(momentum, tau, longer)

    return Rule(init=init, move=move)


def follow(norm: str, steps: Number) -> Rule:
    """The rule that goes from the best example along the boundary, within a radius that follows it.

    As `slide` once it has an example, except that steps have no momentum, and are as long as while it looks for one.

    Args:
      norm: "linf" or "l2".
      steps: over which steps grow short.

    Raises:
      ValueError: an unknown norm.

    Example:
      >>> from cwjax.attacks.fast.shrink import shrink, then
      >>> from cwjax.attacks.fast.slide import follow
      >>> rule = then(shrink("l2", 10), follow("l2", 40), 10)
      >>> attack = cw.loop.iterated(
      ...     rule, objective=cw.losses.softened_margin(), distance=cw.distances.l2(), steps=50
      ... )
      >>> print(np.asarray(jax.jit(cw.batched(attack))(model, keys, x, goal).distance).round(2))
      [0.14 0.21]

    References:
      Pintor et al. 2021, "Fast minimum-norm adversarial attacks through adaptive norm constraints", whose radius
        follows the boundary too, https://arxiv.org/abs/2102.12827
    """
    check_norm(norm, tuple(METRICS))
    metric = METRICS[norm]

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        return start, jnp.full_like(start, jnp.inf, shape=())

    def move(problem, memory, seen):
        first, best = seen.taken == 0, seen.best.distance  # first: to the best example
        tau = _along(memory, best, seen.met, seen.taken, steps)
        x = _stepped(metric, seen, unit(seen.slope), _SEEKING.rate, tau, steps)
        return jnp.where(first, seen.best.x.astype(x.dtype), x), jnp.where(first, memory, tau)

    return Rule(init=init, move=move)


def _stepped(
    metric: Metric, seen: Seen, momentum: Float[Array, "*S"], rate: Number, tau: Float[Array, ""], steps: Number
) -> Float[Array, "*S"]:
    """The next point: a step down the momentum, at first `rate` radii long, and then onto the radius."""
    size = rate * annealed(1.0, _SHORTEST, seen.taken, steps) * tau
    delta = metric.onto(seen.delta - size * metric.towards(momentum), tau)
    return seen.x - seen.delta + delta


def _along(
    tau: Float[Array, ""], best: Float[Array, ""], met: Bool[Array, ""], taken: Int[Array, ""], steps: Number
) -> Float[Array, ""]:
    """The next radius, once there is an example: turned, and never beyond the best distance."""
    return jnp.minimum(turned(jnp.minimum(tau, best), met, (_TURN, _SHORTEST * _TURN), taken, steps), best)
