"""The probability margin attack (Xie et al. 2025): f2 without its hinge, within a given radius, in two stages."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from cwjax.arguments import check_count, check_number
from cwjax.attacks.pgd import within
from cwjax.base import Attack, Count, LabelGoal, Number, Objective, wide
from cwjax.loop import Rule, from_clean, iterated
from cwjax.parts.norms import NORMS
from cwjax.parts.objectives import comparable, in_play, probability_margin

_DIVERSE = 2  # moves of output diversification; Tashiro et al. have 2 in their strongest attack, and so has the code


class Stage(NamedTuple):
    """What the loss of a point is: a sum with these weights, by the sign of the goal."""

    goal: LabelGoal
    own: Float[Array, ""]  # of the label's probability
    other: Float[Array, ""]  # of the largest other one
    lag: Float[Array, ""]  # of f2 without its hinge
    drawn: Float[Array, ""]  # of a random sum of the logits
    key: PRNGKeyArray  # []: of its weights


class PMAMemory(NamedTuple):
    key: PRNGKeyArray  # []: of the starts and of the random sums
    place: Int[Array, ""]  # int32: of the next point, counted from the first start


def pma(
    *,
    epsilon: Number,
    steps: Count = 202,
    runs: Count = 2,
    diversified: bool = False,
    confidence: Number = 0.0,
) -> Attack:
    """PMA: steps within an L-infinity ball, down the margin of probabilities.

    The probability margin attack (Xie et al. 2025, "Towards million-scale adversarial robustness
    evaluation with stronger individual attacks"). With F the softmax's outputs, K moves from a random point of the ball
    of radius epsilon around x,

        x <- Π(x - alpha·sign(∇loss(x))),          alpha = epsilon·(1 + cos(π·j / (K/2)))

    lower one of three losses. The first move lowers `-F_y`, so that the label grows likelier. The others of the first
    half lower `F_y` in every other run, beginning with the first, and `-max_{k≠y} F_k` in the rest. The second half
    lowers their sum,

        F_y - max_{k≠y} F_k,          which is f2 of Carlini & Wagner (section V-A) without its hinge.

    The index j counts the moves of each half, from -1: a step is 2·epsilon long at the beginning of each half, and next
    to nothing at its end. An example ends at its first success. These details are the authors' public code's.

    Towards a target t all losses change their signs, and t stands for y; the paper has no targets.

    Args:
      epsilon: radius of the ball, > 0, in the unit of x, as distances are; times `problem.scale`. Steps are shares of
        it.
      steps: points to ask about in all runs together, >= 1. The authors' 100 moves need 101 in each of two runs. The
        clean input is asked about before, one point more: one that meets the goal already is at distance 0.
      runs: from new starts, that the steps are shared among, >= 1.
      diversified: whether the first two moves raise a random weighted sum of the logits instead, by epsilon each
        (output diversified initialisation, Tashiro et al. 2020, "Diversity can be transferred: output diversification
        for white- and black-box attacks"). The authors' code has the step length of this, and not the sum.
      confidence: kappa >= 0, as in `objectives.probability_margin`; may be traced.

    Raises:
      ValueError: a number out of its range.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.pma(epsilon=0.2, steps=20)))(model, keys, x, goal)
      >>> result.success.tolist(), bool((result.distance <= 0.2001).all())
      ([True, True], True)

    References:
      Xie et al. 2025, "Towards million-scale adversarial robustness evaluation with stronger individual attacks",
        https://arxiv.org/abs/2411.15210
      Tashiro et al. 2020, "Diversity can be transferred: output diversification for white- and black-box attacks",
        https://arxiv.org/abs/2003.06878
    """
    check_number("epsilon", epsilon, least=0, above=True)
    check_count("steps", steps)
    check_count("runs", runs)
    space = NORMS["linf"]
    points = jnp.maximum(jnp.asarray(steps, jnp.int32) // runs, 1)  # of a run

    def started(problem, key):
        start = problem.start.astype(wide(problem.x))
        return within(problem, start + epsilon * problem.scale * space.draw(key, start), space, epsilon)

    def init(key, problem):
        memory = PMAMemory(key=key, place=jnp.zeros((), jnp.int32))
        return started(problem, jax.random.fold_in(key, 0)), memory

    def aim(problem, memory):
        run, i = memory.place // points, memory.place % points
        first, early = i == 0, i < (points - 1) / 2
        drawn = diversified & (i < _DIVERSE)
        own = jnp.where(first, -1, early & (run % 2 == 0))
        other = early & ~first & (run % 2 == 1)
        weights = (jnp.where(drawn, 0, weight).astype(wide(problem.x)) for weight in (own, other, ~early & ~first))
        key = jax.random.fold_in(jax.random.fold_in(memory.key, 1), memory.place)
        return Stage(problem.goal, *weights, drawn=jnp.asarray(drawn, wide(problem.x)), key=key)

    def move(problem, memory, seen):
        i, half = memory.place % points, (points - 1) / 2
        j = jnp.where(i > half, i - half, i) - 1
        share = 1 + jnp.cos(jnp.pi * j / jnp.maximum(half, 1))
        share = jnp.where(diversified & (i < _DIVERSE), 1, share)
        x = within(problem, seen.x - share * epsilon * problem.scale * space.unit(seen.slope), space, epsilon)
        place = memory.place + 1
        anew = started(problem, jax.random.fold_in(memory.key, 2 + place // points))
        return jnp.where(i + 1 >= points, anew, x), PMAMemory(memory.key, place)

    rule = Rule(init, move, over=lambda problem, memory, seen: seen.met, aim=aim)
    return iterated(from_clean(rule), objective=_staged(confidence), distance=space.distance, steps=steps + 1)


def _staged(confidence: Number) -> Objective:
    """f2 without its hinge; where the goal is a stage, what that says."""
    unhinged = probability_margin(confidence, hinged=False)

    def loss(logits, goal):
        if not isinstance(goal, Stage):
            return unhinged.loss(logits, goal)
        stage, sign, logits = goal, goal.goal.sign, comparable(logits)
        label = jnp.arange(logits.size) == stage.goal.label
        probabilities = jax.nn.softmax(logits)
        own = jnp.where(label.any(), jnp.sum(jnp.where(label, probabilities, 0)), jnp.nan)
        other = jnp.max(jnp.where(label, 0, probabilities))
        weights = jax.random.uniform(stage.key, logits.shape, logits.dtype, -1, 1)
        drawn = jnp.sum(jnp.where(in_play(logits), weights * logits, 0))
        apart = sign * (stage.other * other - stage.own * own)
        return apart + stage.lag * unhinged.loss(logits, stage.goal) - stage.drawn * drawn

    return unhinged._replace(loss=loss)
