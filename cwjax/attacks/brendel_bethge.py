"""Brendel & Bethge's attack (2019): along the boundary to where it is nearest, by steps within a trust region."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from cwjax.arguments import check_count, check_number, check_part
from cwjax.base import Attack, Count, Number, Objective, wide
from cwjax.loop import Rule, iterated
from cwjax.parts.losses import negative_margin
from cwjax.parts.norms import NORMS, TINY, ball, length

_HALVINGS = 24  # of the search over the knob: its last bit in float32
_DEPTH = 23.0  # the knob goes from its largest value down to exp(-23) of it, which is below float32's last bit
_TRIALS = 60  # of a multiplier, at the most: halvings alone would need some thirty
_SLACK = 256.0  # L1 alone: the trust region's weight is at least 1 over this many radii


class BrendelBethgeMemory(NamedTuple):
    key: PRNGKeyArray
    end: Float[Array, "*S"]  # of the segment that is searched: the first point that met the goal
    low: Float[Array, ""]  # a share of the segment that does not meet the goal
    high: Float[Array, ""]  # one that does
    searching: Bool[Array, ""]
    left: Int[Array, ""]  # int32: points that the search has left
    following: Bool[Array, ""]  # the boundary
    began: Int[Array, ""]  # int32: points asked about before the first that follows it
    normal: Float[Array, "*S"]  # of the boundary: the mean of the slopes


def brendel_bethge(
    *,
    norm: str = "l2",
    radius: Number = 0.001,
    decay: Number = 0.5,
    decays: Count = 20,
    momentum: Number = 0.8,
    overshoot: Number = 1.1,
    draws: Count = 1,
    search_steps: Count = 10,
    steps: Count = 1000,
    objective: Objective = negative_margin(),
) -> Attack:
    """Brendel & Bethge, L1, L2 or L-infinity: along the boundary, by steps within a trust region.

    Brendel et al. 2019, "Accurate, reliable and fast robustness evaluation", section 2. It starts at a point that meets
    the goal, halves the way from there to the clean input x_0, and then follows the boundary. With b the mean of the
    slopes of the margin m, by momentum, each step is the delta that solves

        min |x + delta - x_0|_p        b·delta = -overshoot·m,   |delta|_2 <= r,   x + delta in the box

    Where the goal is met already, 2 - overshoot takes the place of the overshoot. Where no delta within r reaches the
    boundary, the step is the one that comes nearest to it. The radius r of the trust region is Euclidean in every norm.

    The numbers are those of the authors' code in foolbox, `brendel_bethge.py`. Four differences from it:

    1. The start is a point at `start` of the runner's, if that meets the goal; or uniform noise in the box. Where noise
       does not meet the goal, and towards a target, steps of DeepFool lead from `start` across the boundary. Foolbox
       draws noise a thousand times, and takes an input of the target from its user.
    2. Every point that is asked about counts as a step, those of the start and of the halving too.
    3. foolbox multiplies the radius by the number of inputs in the batch. Here it is that of a batch of one.
    4. The step is exact in all norms. In L2, foolbox's holds each element that has hit a bound there.

    Args:
      norm: "l1", "l2" or "linf".
      radius: of the trust region at first, over the number of elements, in widths of the box; > 0.
      decay: by which the radius is multiplied from time to time, in (0, 1].
      decays: how often that is, >= 1, at equal intervals.
      momentum: share of the earlier slopes in their mean, in [0, 1].
      overshoot: 1 aims at the boundary itself, and more beyond it, in [1, 2].
      draws: looks at noise, >= 0.
      search_steps: halvings of the way to the clean input, >= 0.
      steps: points to ask about, >= 1.
      objective: its loss has to be zero on the decision boundary.

    Raises:
      ValueError: a number out of its range, or an unknown norm.

    Example:
      >>> attack = cw.attacks.brendel_bethge(steps=100, radius=0.05)
      >>> print(np.asarray(jax.jit(cw.batched(attack))(model, keys, x, goal).distance).round(3))
      [0.141 0.212]

    References:
      Brendel et al. 2019, "Accurate, reliable and fast robustness evaluation", section 2,
        https://arxiv.org/abs/1907.01003
    """
    space = ball(norm)
    check_number("radius", radius, least=0, above=True)
    check_number("decay", decay, least=0, above=True, most=1)
    check_count("decays", decays)
    check_number("momentum", momentum, least=0, most=1)
    check_number("overshoot", overshoot, least=1, most=2)
    check_count("draws", draws, least=0)
    check_count("search_steps", search_steps, least=0)
    check_part("objective", objective, Objective)

    def init(key, problem):
        start = problem.start.astype(wide(problem.x))
        none, zero, one = jnp.zeros((), jnp.int32), jnp.zeros_like(start, shape=()), jnp.ones_like(start, shape=())
        no = jnp.array(False)
        memory = BrendelBethgeMemory(
            key=key,
            end=start,
            low=zero,
            high=one,
            searching=no,
            left=none,
            following=no,
            began=none,
            normal=jnp.zeros_like(start),
        )
        return start, memory

    def move(problem, memory, seen):
        clean, dtype = seen.x - seen.delta, seen.x.dtype
        seeking = ~memory.searching & ~memory.following

        # The start: noise, or the step across the boundary.
        tries = jnp.where(objective.reaches(problem.goal), 0, draws)
        share = jax.random.uniform(jax.random.fold_in(memory.key, seen.taken), clean.shape, dtype)
        drawn = jnp.where(seen.taken < tries, problem.low + share * (problem.high - problem.low), problem.start)
        drawing = seeking & (seen.taken <= tries) & (tries > 0)

        # The search between the clean input and the start.
        begins = seeking & seen.met
        end = jnp.where(begins, seen.x, memory.end)
        middle = (memory.low + memory.high) / 2
        high = jnp.where(memory.searching & seen.met, middle, memory.high)
        low = jnp.where(memory.searching & ~seen.met, middle, memory.low)
        left = jnp.where(begins, search_steps, memory.left - memory.searching)
        searching = (memory.searching | begins) & (left > 0)
        ends = (memory.searching | begins) & (left <= 0)
        between = _between(norm, end - clean, jnp.where(ends, high, (low + high) / 2)) + clean

        # The step along the boundary, or across it.
        turn = seen.taken - memory.began
        kept = jnp.where(memory.following & (turn > 0), momentum, 0)
        normal = kept * memory.normal + (1 - kept) * seen.slope
        every = jnp.maximum((steps - memory.began) // decays, 1)
        shrunk = jnp.asarray(decay, dtype) ** ((turn + 2) // every).astype(dtype)
        region = radius * problem.span * jnp.sum(problem.mask) * shrunk
        delta = trust_region_step(
            norm,
            jnp.where(seeking, 0, -seen.delta),
            problem.low - seen.x,
            problem.high - seen.x,
            normal,
            -seen.loss * jnp.where(seen.loss < 0, 2 - overshoot, overshoot),
            jnp.where(seeking, length(problem.high - problem.low), region),
        )

        after = BrendelBethgeMemory(
            key=memory.key,
            end=end,
            low=low,
            high=high,
            searching=searching,
            left=left,
            following=memory.following | ends,
            began=jnp.where(ends, seen.taken + 1, memory.began),
            normal=normal,
        )
        stepped = jnp.where(drawing, drawn, seen.x + delta)
        return jnp.where(memory.searching | begins, between, stepped), after

    return iterated(Rule(init, move), objective=objective, distance=space.distance, steps=steps)


def _between(norm: str, delta: Float[Array, "*S"], share: Float[Array, ""]) -> Float[Array, "*S"]:
    """The change on the way to delta whose norm grows with the share, from 0 to delta itself."""
    if norm == "l2":
        return share * delta
    largest = jnp.max(jnp.abs(delta))
    return (
        NORMS["linf"].onto(delta, share * largest) if norm == "linf" else NORMS["l1"].prox(delta, (1 - share) * largest)
    )


def trust_region_step(
    norm: str,
    home: Float[Array, "*S"],
    low: Float[Array, "*S"],
    high: Float[Array, "*S"],
    slope: Float[Array, "*S"],
    change: Float[Array, ""],
    radius: Float[Array, ""],
) -> Float[Array, "*S"]:
    """The step to a plane, within a trust region and bounds, that ends nearest to a point:

        min |delta - home|_p        slope·delta = change,   |delta|_2 <= radius,   low <= delta <= high

    Where no delta within these bounds reaches the plane, the one that comes nearest to it.

    With nu the multiplier of the plane and k that of the trust region, or in L-infinity the norm itself, element by
    element delta is

        clip(k·home + nu·slope)        clip(home + soft(nu·slope - home, k))        clip(nu·slope, home - k, home + k)

    in L2, L1 and L-infinity. For each k, slope·delta grows with nu; and the shortest such delta gets longer as it may
    end nearer. So k is found by halving, and nu for each k by Newton's method, held in a bracket.

    Args:
      norm: "l1", "l2" or "linf".
      home: where the step is to end near to, seen from where it begins; between `low` and `high`.
      low: the least step of each element, <= 0.
      high: the largest, >= 0.
      slope: the normal of the plane, of any length.
      change: of the loss along the slope, that the step is to bring about.
      radius: of the trust region, > 0.

    Example:
      >>> from cwjax.attacks.brendel_bethge import trust_region_step
      >>> box = jnp.ones(2)
      >>> print(trust_region_step("l2", jnp.array([0.0, 1.0]), -box, box, jnp.array([1.0, 0.0]), 0.6, 1.0))
      [0.6 0.8]

    References:
      Brendel et al. 2019, "Accurate, reliable and fast robustness evaluation", equation 2,
        https://arxiv.org/abs/1907.01003
    """
    steep = jnp.maximum(length(slope), TINY)
    b, c = slope / steep, change / steep
    largest = {"l2": 1.0, "l1": _SLACK * radius, "linf": jnp.max(jnp.maximum(high - home, home - low))}[norm]
    exact = 4 * jnp.finfo(b.dtype).eps * (jnp.abs(c) + jnp.minimum(radius, length(high - low)))

    def knob(share):
        """From that of the step nearest to home, at 0, to that of the shortest step, at 1."""
        return largest * jnp.exp(-_DEPTH * (1 - share if norm == "linf" else share))

    def limits(k):
        return (jnp.maximum(low, home - k), jnp.minimum(high, home + k)) if norm == "linf" else (low, high)

    def along(k, nu):
        step = {
            "l2": lambda: k * home + nu * b,
            "l1": lambda: home + NORMS["l1"].prox(nu * b - home, k),
            "linf": lambda: nu * b,
        }[norm]()
        return jnp.clip(step, *limits(k))

    def halved(_, state):
        lower, upper, nu, chosen, any_yet = state
        middle = (lower + upper) / 2
        k = knob(middle)
        ends = jnp.stack([b * limit for limit in limits(k)])
        reached = (jnp.sum(ends.min(0)) <= c) & (c <= jnp.sum(ends.max(0)))
        nu = jnp.where(reached, _root(lambda nu: jnp.sum(b * along(k, nu)) - c, nu, exact, reached), nu)
        fits = reached & (length(along(k, nu)) <= radius)
        lower, upper = jnp.where(fits, lower, middle), jnp.where(fits, middle, upper)
        return lower, upper, nu, jnp.where(fits, nu, chosen), any_yet | fits

    zero = jnp.zeros_like(c)
    begin = zero, zero + 1, c, c, jnp.array(False)
    _, share, _, nu, solved = lax.fori_loop(0, _HALVINGS, halved, begin)

    # Out of reach: as far towards the plane as the trust region and the bounds let it.
    towards = jnp.where(c < 0, -b, b)
    corner = jnp.where(towards > 0, high, jnp.where(towards < 0, low, 0))
    beyond = length(corner) > radius
    far = _root(lambda nu: length(jnp.clip(nu * towards, low, high)) - radius, radius, exact, beyond & ~solved)
    return jnp.where(solved, along(knob(share), nu), jnp.where(beyond, jnp.clip(far * towards, low, high), corner))


def _root(
    function: Callable[[Float[Array, ""]], Float[Array, ""]],
    guess: Float[Array, ""],
    exact: Float[Array, ""],
    wanted: Bool[Array, ""],
) -> Float[Array, ""]:
    """Where a function that nowhere falls is 0, to `exact`: Newton's steps, and halvings where those do not help."""

    def trial(state):
        count, at, low, high, last, _ = state
        value, rise = jax.jvp(function, (at,), (jnp.ones_like(at),))
        low, high = jnp.where(value <= 0, at, low), jnp.where(value >= 0, at, high)
        newton = at - value / jnp.where(rise > 0, rise, 1)
        helps = (rise > 0) & (newton > low) & (newton < high) & (jnp.abs(value) < last / 2)
        outwards = at - jnp.sign(value) * jnp.maximum(2 * jnp.abs(at), jnp.abs(value))
        other = jnp.where(jnp.isfinite(low) & jnp.isfinite(high), (low + high) / 2, outwards)
        after = jnp.where(helps, newton, other)
        more = (jnp.abs(value) > exact) & (after > low) & (after < high)
        return count + 1, jnp.where(more, after, at), low, high, jnp.abs(value), more

    inf = jnp.full_like(guess, jnp.inf)
    begin = jnp.zeros((), jnp.int32), guess, -inf, inf, inf, wanted
    return lax.while_loop(lambda state: state[-1] & (state[0] < _TRIALS), trial, begin)[1]
