"""The attack on speech of Carlini & Wagner (2018, "Audio Adversarial Examples: Targeted Attacks on Speech-to-Text",
arXiv 1801.01944), two phases put together of parts.

A wave is attacked within bounds around it, which are the runner's: `low` and `high`, a share of its peak below and
above each sample. Both phases draw them in after every success, each example by itself (`shrink_bounds`), so that the
distance is the largest sample of the change. In decibels it is 20·log10 of that over the wave's own peak. Lengths of
steps are in widths of the bounds, and so do not depend on how loud a wave is.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from cwjax.arguments import check_number
from cwjax.base import Attack, Count, Distance, Number, Objective
from cwjax.descent import descend, descending
from cwjax.loop import Rule, iterated
from cwjax.parts import distances
from cwjax.parts.aborts import never
from cwjax.parts.boxes import projected
from cwjax.parts.objectives.sequences import aligned_margin, ctc, lags
from cwjax.search.radius import shrink_bounds
from cwjax.search.rounds import tracked

_LIGHTEST, _HEAVIEST = 1e-9, 1e9  # weights of frames stay between


def audio(
    *,
    objective: Objective = ctc(),
    optimizer: optax.GradientTransformation = optax.adam(0.05),
    steps: Count = 1000,
    factor: Number = 0.9,
) -> Attack:
    """Speech, first phase: minimise the CTC loss of the transcript within bounds that shrink after each success.

    As the released code, it has no term for the distance. Differences from that code: Adam is given the slope and not
    its sign; no noise is added in each step; and those that `shrink_bounds` tells of.

    Args:
      objective: f; any that reads what the model returns. `ctc(3.0)` asks each frame for a lead of 3 logits.
      optimizer: any Optax transformation; its steps are in widths of the bounds, as they are at the time.
      steps: gradient steps, >= 1; the released code takes 5,000 for the paper.
      factor: of the bounds after a success, below 1; the released code has 0.8.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import cwjax as cw
      >>> model = cw.bind(lambda params, x: x.reshape(len(x), 4, 3))  # 4 frames of 3 symbols
      >>> wave = jnp.array([[0.3, 0.1, 0.2] * 4])
      >>> goal = cw.goals.transcript([[1, 2]], frames=4)
      >>> run = cw.batched(cw.attacks.audio(steps=200))
      >>> result = run(model, jax.random.split(jax.random.key(0), 1), wave, goal, low=wave - 0.2, high=wave + 0.2)
      >>> bool(result.success[0])
      True

    References:
      Carlini & Wagner 2018, "Audio adversarial examples: targeted attacks on speech-to-text", section III-A,
        https://arxiv.org/abs/1801.01944
    """
    descent = descend(
        objective=objective,
        distance=distances.linf(),
        box=projected(),
        optimizer=optimizer,
        steps=steps,
        abort=never(),
    )
    return tracked(descent, shrink_bounds(factor=factor))


def audio_aligned(
    *,
    confidence: Number = 0.0,
    blank: int = 0,
    optimizer: optax.GradientTransformation = optax.adam(0.02),
    steps: Count = 1000,
    factor: Number = 0.95,
    rate: Number = 0.02,
) -> Attack:
    """Speech, second phase: from an example of the first, the squared L2 norm plus the aligned margin is minimised.

    The margin's weights are turned frame by frame, within bounds that are drawn in after each success.

    The goal comes from `goals.aligned`, with the path of the first phase's example (`objectives.path_of`). Let its
    weights be about the number of samples that may move: the squared norm is a sum over them. Give the runner that
    example as `start`, and bounds that its change just fits in. The authors released no code for this phase; how
    weights are turned is ours.

    Args:
      confidence: by how many logits each frame has to lead.
      blank: the symbol that stands for none.
      optimizer: as for `audio`.
      steps: gradient steps, >= 1.
      factor: as for `audio`.
      rate: of the weights, see `weighing_frames`.

    Example:
      >>> model = cw.bind(lambda params, x: x.reshape(len(x), 4, 3))  # 4 frames of 3 symbols
      >>> wave = jnp.array([[0.3, 0.1, 0.2] * 4])
      >>> goal = cw.goals.aligned(cw.goals.transcript([[1]], frames=4), [[0, 1, 1, 0]], weights=2.0)
      >>> run = jax.jit(cw.batched(cw.attacks.audio_aligned(steps=100)))
      >>> result = run(model, keys[:1], wave, goal, low=wave - 0.3, high=wave + 0.3)
      >>> print(result.success, np.asarray(result.distance).round(1))  # a tenth up and a tenth down in two frames
      [ True] [0.1]

    References:
      Carlini & Wagner 2018, "Audio adversarial examples: targeted attacks on speech-to-text", section IV-B,
        https://arxiv.org/abs/1801.01944
    """
    distance = Distance(penalty=distances.l2().penalty, measure=distances.linf().measure, norm="linf")
    rule = descending(distance=distance, box=projected(), optimizer=optimizer, steps=steps, abort=never())
    objective = aligned_margin(confidence, blank=blank)
    descent = iterated(
        weighing_frames(rule, rate=rate, confidence=confidence), objective=objective, distance=distance, steps=steps
    )
    return tracked(descent, shrink_bounds(factor=factor))


class Weighing(NamedTuple):
    weights: Float[Array, "T"]  # of the frames, float32
    rule: Any


def weighing_frames(rule: Rule, *, rate: Number = 0.02, confidence: Number = 0.0) -> Rule:
    """The rule, with a weight for each frame that is turned after each point: times exp(rate) where the frame does not
    say what the alignment says, and times exp(-rate) where it does.

    They begin as the weights of the goal, from `goals.aligned`. (The paper raises the c_i of frames that are wrong.)

    Args:
      rule: any that goes down a loss of `aligned_margin`.
      rate: >= 0; 0 leaves the weights alone.
      confidence: that of the objective.
    """
    check_number("rate", rate, least=0)

    def init(key, problem):
        start, memory = rule.init(key, problem)
        return start, Weighing(problem.goal.weights, memory)

    def move(problem, memory, seen):
        x, after = rule.move(problem, memory.rule, seen)
        behind = lags(seen.outputs, problem.goal.path, confidence) > 0
        turned = memory.weights * jnp.exp(jnp.where(behind, rate, -rate)).astype(memory.weights.dtype)
        return x, Weighing(jnp.clip(turned, _LIGHTEST, _HEAVIEST), after)

    return rule._replace(
        init=init,
        move=move,
        over=lambda problem, memory, seen: rule.over(problem, memory.rule, seen),
        aim=lambda problem, memory: rule.aim(problem, memory.rule)._replace(weights=memory.weights),
    )
