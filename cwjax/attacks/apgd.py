"""APGD: projected gradient descent that chooses its own step sizes (Croce & Hein 2020)."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_count, check_number
from cwjax.base import Attack, Count, Number, Objective, select, wide
from cwjax.loop import Rule, from_clean, iterated
from cwjax.parts.losses import label_cross_entropy, logits_ratio
from cwjax.parts.norms import ball, check_norm, unit
from cwjax.problems import clip
from cwjax.search.versions import best_target


class Lowest(NamedTuple):
    x: Float[Array, "*S"]  # the point with the lowest loss so far
    slope: Float[Array, "*S"]  # there
    loss: Float[Array, ""]  # there; inf before the first


class Pace(NamedTuple):
    """How long steps are, and what decides about it."""

    eta: Float[Array, ""]  # the step size
    period: Int[Array, ""]  # int32: moves from the last checkpoint to the next
    since: Int[Array, ""]  # int32: moves since the last checkpoint
    falls: Int[Array, ""]  # int32: of them, those that lowered the loss
    checked: Float[Array, ""]  # the lowest loss at the last checkpoint
    halved: Bool[Array, ""]  # whether the last checkpoint halved eta


class APGDMemory(NamedTuple):
    previous: Float[Array, "*S"]  # the point before the one asked about
    lowest: Lowest
    loss: Float[Array, ""]  # of the previous point; -inf before the first
    pace: Pace


def apgd(
    *,
    epsilon: Number,
    norm: str = "linf",
    steps: Count = 101,
    rho: Number = 0.75,
    random_start: bool = True,
    objective: Objective = label_cross_entropy(),
) -> Attack:
    """Auto-PGD: PGD with momentum within a ball, whose step length is halved where it stalls.

    From AutoAttack (Croce & Hein 2020); APGD-CE with the default objective.

    From a random point of the boundary of the ball of radius epsilon, with P the projection onto ball and then box, u
    the sign (L-infinity) or the unit direction (L2), and eta = 2·epsilon at first,

        z_k+1 = P(x_k - eta·u(∇loss(x_k)))
        x_k+1 = P(x_k + alpha·(z_k+1 - x_k) + (1 - alpha)·(x_k - x_k-1)),      alpha = 0.75, and 1 in the first move

    At checkpoints eta is halved, and the search goes on from the lowest point so far, if (1) no more than a share rho
    of the moves since the last checkpoint lowered the loss, or (2) the last checkpoint did not halve eta and the lowest
    loss has not changed since. The first period is 22 % of the N moves; each is 3 % of N shorter than the one before,
    but not under 6 %.

    The closest example on the way is kept, so the distance may be less than epsilon. For the least epsilon that
    succeeds, use `minimised`.

    The public codes compare the loss after the first move with 0, where the paper compares it with the loss at the
    start; here it is as in the paper. In adv-lib 0.2.8 condition (2) holds at every checkpoint from the second on,
    because it compares the lowest loss with itself; here it is as in the paper and the authors' code.

    Args:
      epsilon: radius of the ball, > 0, in the unit of x, as distances are; times `problem.scale`. Steps are
        shares of it.
      norm: "l2" or "linf".
      steps: points to ask about, the start and N moves, >= 1; may be traced. The paper's N is 100.
      rho: the share of condition (1), in [0, 1].
      random_start: whether the first point is drawn around `problem.start`, or is that start itself. Before one that is
        drawn the clean input is asked about, one point more: one that meets the goal already is at distance 0.
      objective: what to lower. `losses.logits_ratio` gives APGD-DLR.

    Raises:
      ValueError: an unknown norm, or a number out of its range.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.apgd(epsilon=0.2, steps=10)))(model, keys, x, goal)
      >>> result.success.tolist(), bool((result.distance <= 0.2001).all())
      ([True, True], True)

    References:
      Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks", algorithm 1, https://arxiv.org/abs/2003.01690
    """
    check_norm(norm, ("l2", "linf"))
    check_number("epsilon", epsilon, least=0, above=True)
    check_number("rho", rho, least=0, most=1)
    check_count("steps", steps)
    space = ball(norm)
    moves = jnp.asarray(steps, jnp.int32) - 1

    def radius(problem):
        return jnp.asarray(epsilon * problem.scale, wide(problem.x))

    def within(problem, x):
        clean = problem.x.astype(x.dtype)
        return clip(problem, clean + space.onto(x - clean, radius(problem)))

    def init(key, problem):
        x = problem.start.astype(wide(problem.x))
        if random_start:
            way = jnp.where(problem.mask, space.draw(key, x), 0)
            x = x + radius(problem) * (unit(way) if norm == "l2" else way / jnp.maximum(jnp.max(jnp.abs(way)), 1e-30))
        x, none = within(problem, x), jnp.full((), jnp.inf, x.dtype)
        return x, APGDMemory(
            previous=x,
            lowest=Lowest(x=x, slope=jnp.zeros_like(x), loss=none),
            loss=-none,
            pace=_first_pace(2 * radius(problem), moves),
        )

    def move(problem, memory, seen):
        first = seen.taken == 0
        here = Lowest(x=seen.x, slope=seen.slope, loss=seen.loss.astype(memory.loss.dtype))
        lowest = select(here.loss < memory.lowest.loss, here, memory.lowest)
        fell = here.loss < memory.loss
        pace, back = _paced(memory.pace, moves, first=first, fell=fell, lowest=lowest.loss, rho=rho)
        x, slope, _ = select(back, lowest, here)

        alpha = jnp.where(first, 1.0, 0.75).astype(x.dtype)
        z = within(problem, x - pace.eta * space.unit(slope))
        following = within(problem, x + alpha * (z - x) + (1 - alpha) * (x - memory.previous))
        return following, APGDMemory(previous=x, lowest=lowest, loss=here.loss, pace=pace)

    rule = Rule(init=init, move=move)
    return iterated(
        from_clean(rule) if random_start else rule,
        objective=objective,
        distance=space.distance,
        steps=steps + random_start,
    )


def _share(percent: int, moves: Int[Array, ""]) -> Int[Array, ""]:
    return jnp.maximum(percent * moves // 100, 1)


def _first_pace(eta: Float[Array, ""], moves: Int[Array, ""]) -> Pace:
    zero = jnp.zeros((), jnp.int32)
    checked = jnp.full((), jnp.inf, eta.dtype)
    return Pace(eta=eta, period=_share(22, moves), since=zero, falls=zero, checked=checked, halved=jnp.array(False))


def _paced(
    pace: Pace,
    moves: Int[Array, ""],
    *,
    first: Bool[Array, ""],
    fell: Bool[Array, ""],
    lowest: Float[Array, ""],
    rho: Number,
) -> tuple[Pace, Bool[Array, ""]]:
    """The pace after one more point, and whether a checkpoint sends the search back to the lowest point.

    Args:
      pace: before it.
      moves: of the whole run.
      first: whether this is the first point.
      fell: whether the loss did, from the point before.
      lowest: the lowest loss so far.
      rho: the share of condition (1).
    """
    since, falls = pace.since + ~first, pace.falls + fell
    check = (since >= pace.period) & ~first
    oscillates = falls <= rho * since
    stalls = ~pace.halved & (lowest >= pace.checked)
    halve = check & (oscillates | stalls)
    shorter = jnp.maximum(pace.period - _share(3, moves), _share(6, moves))
    return Pace(
        eta=jnp.where(halve, pace.eta / 2, pace.eta),
        period=jnp.where(check, shorter, pace.period),
        since=jnp.where(check, 0, since),
        falls=jnp.where(check, 0, falls),
        checked=jnp.where(check | first, lowest, pace.checked),
        halved=jnp.where(check, halve, pace.halved),
    ), halve


def apgd_targeted(
    *,
    num_classes: int,
    epsilon: Number,
    norm: str = "linf",
    steps: Count = 101,
    rho: Number = 0.75,
    random_start: bool = True,
    objective: Objective = logits_ratio(),
) -> Attack:
    """APGD-T: `apgd` on the difference-of-logits ratio, towards every other class in turn, the closest example kept.

    Takes untargeted goals, as `best_target`. The paper takes the nine most likely classes; with ten, those are all.

    Args:
      num_classes: K, how many logits the model has.
      epsilon: see `apgd`, for this and what follows.
      norm: "l2" or "linf".
      steps: towards each class.
      rho: of condition (1).
      random_start: one for each class.
      objective: what to lower.

    Example:
      >>> attack = cw.attacks.apgd_targeted(num_classes=3, epsilon=0.2, steps=10)
      >>> result = jax.jit(cw.batched(attack))(model, keys, x, goal)
      >>> result.success.tolist()
      [True, True]

    References:
      Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks", section 4, https://arxiv.org/abs/2003.01690
    """
    attack = apgd(
        epsilon=epsilon,
        norm=norm,
        steps=steps,
        rho=rho,
        random_start=random_start,
        objective=objective,
    )
    return best_target(attack, num_classes)
