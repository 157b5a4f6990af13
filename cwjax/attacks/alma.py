"""ALMA: an augmented Lagrangian, minimised by RMSProp (Rony et al. 2021)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.answers import Seen
from cwjax.arguments import check_count, check_number
from cwjax.base import Attack, Count, Number, Objective, found, wide
from cwjax.loop import Rule, iterated
from cwjax.parts.losses import logits_ratio
from cwjax.parts.norms import NORMS, check_norm, unit
from cwjax.problems import clip

_NORMS = ("l1", "l2")  # that have a slope
_LARGEST_RATE = 2.0**40  # a first step that does not get far enough with it never will


class ALMAMemory(NamedTuple):
    square: Float[Array, "*S"]  # moving average of squared gradients
    momentum: Float[Array, "*S"]
    noise: Float[Array, "*S"]  # a unit direction, for where the model has no slope at the start
    rate: Float[Array, ""]  # the learning rate before its decay
    mu: Float[Array, ""]  # the multiplier
    rho: Float[Array, ""]  # the penalty parameter
    checked: Float[Array, ""]  # the loss at the last check
    found_at: Int[Array, ""]  # int32: points asked about before the first example; -1: none yet


def alma(
    *,
    norm: str = "l2",
    objective: Objective = logits_ratio(),
    steps: Count = 1000,
    first_rate: Number = 0.1,
    first_distance: Number | None = None,
    last_rate: Number = 0.01,
    mu: Number = 1.0,
    rho: Number = 1.0,
    every: Count = 10,
    tau: Number = 0.95,
    gamma: Number = 1.2,
    alpha: Number = 0.9,
) -> Attack:
    """ALMA, L1 or L2: a penalty on the loss whose multiplier is turned at every step.

    The augmented Lagrangian method for adversarial attacks (Rony et al. 2021), as in adv-lib 0.2.8.

    Minimises `D(delta) + P(m, rho, mu)`, m being the loss (below 0 where the goal is met) and P the penalty P2,

        P = mu·m + mu·rho·m² + rho²·m³/6  where m >= 0,       mu·m / (1 - rho·m)  where m < 0            (equation 12)

    by RMSProp with momentum. At every step mu goes towards P'(m), of which it is the moving average; every few steps
    rho grows, unless an example was found or m has improved enough. The first step goes down m alone. From the first
    example on the learning rate decays exponentially. delta is in widths of the box.

    In adv-lib the tolerance that keeps m away from 0 has the wrong sign towards a target; the objective's `met` decides
    here.

    Args:
      norm: "l1" or "l2": D.
      objective: its loss m has to be below 0 exactly where the goal is met, as the ratio is that the paper takes.
      steps: N, how many points to ask about; may be traced. The paper has 100 and 1000.
      first_rate: the learning rate before it decays, > 0, in widths of the box. adv-lib's default is 0.1.
      first_distance: in its place epsilon, > 0: the rate at which a plain gradient step from the clean input would go
        so far, in widths of the box. The paper takes 0.1 in L2 and 0.5 in L1; at 100 steps the fixed rate found
        smaller distances.
      last_rate: what the learning rate has been multiplied by at the end, in (0, 1].
      mu: the multiplier at first, > 0.
      rho: the penalty parameter at first, > 0.
      every: M: points between two checks of m, >= 1.
      tau: m has improved if it is below so much of what it was at the last check, in (0, 1).
      gamma: growth of rho, >= 1.
      alpha: how much of their moving averages stays in a step, and of the momentum; in [0, 1).

    Raises:
      ValueError: an unknown norm, or a number out of its range.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.alma(steps=100)))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(2))  # the least is 0.14 and 0.21
      [0.14 0.21]

    References:
      Rony et al. 2021, "Augmented Lagrangian adversarial attacks", algorithm 2, https://arxiv.org/abs/2011.11857
    """
    check_norm(norm, _NORMS)
    distance, away = NORMS[norm].distance, NORMS[norm].slope
    check_number("first_rate", first_rate, least=0, above=True)
    if first_distance is not None:
        check_number("first_distance", first_distance, least=0, above=True)
    check_number("last_rate", last_rate, least=0, above=True, most=1)
    check_number("mu", mu, least=0, above=True)
    check_number("rho", rho, least=0, above=True)
    check_count("every", every)
    check_number("tau", tau, least=0, above=True, most=1)
    check_number("gamma", gamma, least=1)
    check_number("alpha", alpha, least=0, most=1)

    def init(key, problem):
        start = problem.start.astype(wide(problem.x))
        number = problem.scale.astype(start.dtype)
        noise = jax.random.normal(key, start.shape, start.dtype)
        return start, ALMAMemory(
            square=jnp.ones_like(start),
            momentum=jnp.zeros_like(start),
            noise=unit(jnp.where(problem.mask, noise, 0)),
            rate=jnp.full_like(number, first_rate),
            mu=jnp.full_like(number, mu),
            rho=jnp.full_like(number, rho),
            checked=jnp.zeros_like(number),
            found_at=jnp.full((), -1, jnp.int32),
        )

    def first_rate_of(problem, clean, gradient, first, rate):
        """The rate before its decay: at the first point the one that goes as far as asked, and later that one."""
        if first_distance is None:
            return rate
        width = problem.span

        def reached(rate):
            return distance.measure(clip(problem, clean - rate * width * gradient) - clean) > first_distance * width

        return jnp.where(first, _rate_that(reached, first, rate), rate)

    def move(problem, memory, seen):
        first, width = seen.taken == 0, problem.span
        memory = _multiplied(memory, seen, every=every, tau=tau, gamma=gamma, alpha=alpha)
        gradient = _slope_of_penalty(seen.loss, memory.rho, memory.mu) * width * seen.slope
        gradient = gradient + jnp.where(first, 0, away(seen.delta))
        gradient = jnp.where(first & (gradient == 0).all(), memory.noise, gradient)

        rate = first_rate_of(problem, seen.x - seen.delta, gradient, first, memory.rate)
        since = (seen.taken - memory.found_at) / jnp.maximum(steps - memory.found_at, 1)
        decayed = rate * last_rate ** jnp.where(found(seen.best), since, 0)
        square = alpha * memory.square + (1 - alpha) * gradient**2
        momentum = alpha * memory.momentum + gradient / (jnp.sqrt(square) + 1e-8)
        return seen.x - decayed * width * momentum, memory._replace(square=square, momentum=momentum, rate=rate)

    return iterated(Rule(init=init, move=move), objective=objective, distance=distance, steps=steps)


def _multiplied(
    memory: ALMAMemory, seen: Seen, *, every: Count, tau: Number, gamma: Number, alpha: Number
) -> ALMAMemory:
    """The memory with the penalty's parameters after this point: rho first, then mu."""
    first, known = seen.taken == 0, found(seen.best)
    check = ~first & ((seen.taken + 1) % every == 0)
    known_before = memory.found_at >= 0
    grow = check & ~known_before & (seen.loss >= tau * memory.checked)
    rho = jnp.where(grow, gamma * memory.rho, memory.rho)
    blended = alpha * memory.mu + (1 - alpha) * _slope_of_penalty(seen.loss, rho, memory.mu)
    mu = jnp.where(first, memory.mu, jnp.clip(blended, 1e-6, 1e12))
    return memory._replace(
        rho=rho.astype(memory.rho.dtype),
        mu=mu.astype(memory.mu.dtype),
        checked=jnp.where(first | check, seen.loss, memory.checked).astype(memory.checked.dtype),
        found_at=jnp.where(known & ~known_before, seen.taken, memory.found_at),
    )


def _slope_of_penalty(m: Float[Array, ""], rho: Float[Array, ""], mu: Float[Array, ""]) -> Float[Array, ""]:
    """P2'(m)."""
    above, below = jnp.maximum(m, 0), jnp.minimum(m, 0)
    return jnp.where(m >= 0, mu + 2 * mu * rho * above + (rho * above) ** 2 / 2, mu / (1 - rho * below) ** 2)


def _rate_that(reached, wanted: Bool[Array, ""], like: Float[Array, ""]) -> Float[Array, ""]:
    """The rate at which `reached` becomes true, where it is `wanted`: doubled until it is, then bisected twenty times.

    A loop without a single turn where it is not wanted: that is everywhere but at the first point.
    """
    one = jnp.ones_like(like)

    def searching(state):
        _, high, halvings, known = state
        return wanted & (halvings < 20) & (known | (high < _LARGEST_RATE))

    def search(state):
        low, high, halvings, known = state
        rate = jnp.where(known, (low + high) / 2, high)
        enough = reached(rate)
        low = jnp.where(enough, low, rate)
        high = jnp.where(enough, rate, jnp.where(known, high, 2 * high))
        return low, high, halvings + known, known | enough

    none = (jnp.zeros_like(one), one, jnp.zeros((), jnp.int32), jnp.array(False))
    low, high, _, _ = jax.lax.while_loop(searching, search, none)
    return (low + high) / 2
