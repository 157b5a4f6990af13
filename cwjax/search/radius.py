"""What turns a radius: tau of the L-infinity attack, the scale of an attack whose radius is fixed, and the bounds."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cwjax.arguments import check_number, check_part
from cwjax.base import Attack, Count, Number, Search, found
from cwjax.search.bisection import bisection
from cwjax.search.rounds import searched


class ShrunkTau(NamedTuple):
    tau: Float[Array, ""]  # change below it is free
    c: Float[Array, ""]  # the weight that the next round starts from
    start: Float[Array, "*S"]  # the last round's example
    over: Bool[Array, ""]


def shrink_tau(
    *,
    initial_c: Number = 1e-5,
    factor: Number = 0.9,
    smallest: Number = 1 / 256,
) -> Search:
    """Shrink the radius tau until a round finds no example within it (section VI-C).

    In the first round any change is free (the paper starts at tau = 1, the width of its box, which is the same). After
    a success tau becomes `factor` times the distance reached.

    It also sets `start` and `c`: a round goes on from the example and the weight that the last one succeeded with, as
    in the released code (`li_attack.py`), because the next problem is nearly the same.

    Args:
      initial_c: of the first round, > 0.
      factor: below 1.
      smallest: in widths of the box; no round is run at a tau of this or less. The default is the paper's, one step of
        8-bit pixels.

    Example:
      >>> search, problem = cw.search.shrink_tau(initial_c=0.1), cw.problems.problem(x[0], goal)
      >>> float(search.ask(problem, search.init(problem)).tau)  # at first any change is free
      inf

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-C,
        https://arxiv.org/abs/1608.04644
    """
    check_number("initial_c", initial_c, least=0, above=True)
    check_number("factor", factor, least=0, above=True, most=1 - 1e-6)
    check_number("smallest", smallest, least=0)

    def init(problem):
        c = jnp.asarray(initial_c, problem.c.dtype)
        return ShrunkTau(tau=jnp.full_like(c, jnp.inf), c=c, start=problem.start, over=jnp.array(False))

    def tell(problem, knob, outcome):
        best = outcome.best
        within = found(best) & (best.distance <= knob.tau)
        tau = factor * best.distance
        return ShrunkTau(tau=tau, c=best.c, start=best.x, over=~within | (tau <= smallest * problem.span))

    return Search(
        init=init,
        ask=lambda problem, knob: problem._replace(tau=knob.tau, c=knob.c, start=knob.start),
        tell=tell,
        done=lambda knob: knob.over,
    )


class ShrunkBounds(NamedTuple):
    share: Float[Array, ""]  # of the way from x to the problem's own bounds
    stale: Bool[Array, ""]  # the next point was moved within the bounds of before


def shrink_bounds(*, factor: Number = 0.8) -> Search:
    """For `tracked`: draw the bounds towards the clean input after every success, and go on from there.

    An input may begin with bounds of its own, `low` and `high` of the runner, such as a share of a wave's peak around
    it. After each point that meets the goal, the way from x to either bound is multiplied by `factor`, and steps with
    it: `scale` is the share that is left. Within the bounds change is free (tau is infinite).

    So do Carlini & Wagner (2018, "Audio Adversarial Examples", section III-A) with the radius of a sound. Two
    differences from their released code: each example shrinks by itself, where there the largest change of the batch
    decides; and every point is looked at, not every tenth.

    Args:
      factor: below 1.

    Example:
      >>> search, problem = cw.search.shrink_bounds(factor=0.5), cw.problems.problem(x[0], goal)
      >>> none = cw.base.untouched(problem)
      >>> met = none._replace(last=none.last._replace(met=jnp.array(True)))
      >>> knob = search.tell(problem, search.init(problem), met)
      >>> print(np.asarray(search.ask(problem, knob).high).round(2))  # half of the way from x to 1
      [0.8  0.7  0.55]

    References:
      Carlini & Wagner 2018, "Audio adversarial examples: targeted attacks on speech-to-text", section III-A,
        https://arxiv.org/abs/1801.01944
    """
    check_number("factor", factor, least=0, above=True, most=1 - 1e-6)

    def ask(problem, knob):
        clean = problem.x.astype(problem.low.dtype)
        low, high = (clean + knob.share * (bound - clean) for bound in (problem.low, problem.high))
        tau = jnp.full_like(problem.tau, jnp.inf)
        return problem._replace(low=low, high=high, tau=tau, scale=knob.share * problem.scale)

    def tell(problem, knob, outcome):
        shrunk = outcome.last.met & ~knob.stale
        return ShrunkBounds(share=jnp.where(shrunk, factor * knob.share, knob.share), stale=shrunk)

    return Search(
        init=lambda problem: ShrunkBounds(share=jnp.ones_like(problem.c), stale=jnp.array(False)),
        ask=ask,
        tell=tell,
        done=lambda knob: jnp.array(False),
    )


def minimised(attack: Attack, *, steps: Count = 10, factor: Number = 2.0) -> Attack:
    """The attack at the least radius that succeeds.

    A binary search over `Problem.scale`, by which such an attack multiplies its epsilon and its steps.

    A round ends at its first success, for whether the radius suffices is then known. The closest example of all rounds
    is kept. The budget is at most `steps` times the attack's own.

    Args:
      attack: of a fixed radius, such as `pgd(epsilon=…)`; its epsilon is where the search starts, in the unit of
        x.
      steps: rounds, >= 1.
      factor: see `search_scale`.

    Example:
      >>> attack = cw.minimised(cw.attacks.fgsm(epsilon=0.4), steps=8)
      >>> print(np.asarray(cw.batched(attack)(model, keys, x, goal).distance).round(2))  # the least is 0.1 and 0.15
      [0.1  0.15]
    """
    check_part("attack", attack, Attack)

    def step(model, problem, state):
        state = attack.step(model, problem, state)
        progress = state.progress
        return state._replace(progress=progress._replace(done=progress.done | found(progress.best)))

    return searched(attack._replace(step=step), search_scale(steps, factor=factor))


def search_scale(steps: Count = 10, *, factor: Number = 2.0) -> Search:
    """Search for the smallest scale of an attack's lengths that succeeds.

    From the problem's own: times `factor` until one does, then bisect. So a success halves the scale as long as nothing
    has failed.

    Args:
      steps: rounds, >= 1. Of ten, one or two more than the bracket needs to be found halve it.
      factor: > 1.

    Example:
      >>> search, problem = cw.search.search_scale(), cw.problems.problem(x[0], goal)
      >>> knob = search.tell(problem, search.init(problem), cw.base.untouched(problem))  # no example: twice as far
      >>> float(search.ask(problem, knob).scale)
      2.0

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VIII-A,
        https://arxiv.org/abs/1608.04644
    """
    return bisection(
        lambda problem: problem.scale,
        lambda problem, scale: problem._replace(scale=scale),
        steps=steps,
        factor=factor,
    )
