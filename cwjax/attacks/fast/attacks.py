"""The fast family: the paper's own problem, with its knobs turned at every step, for a given number of gradients.

Lengths are measured in the distance to the boundary that the first gradient promises, and then in the best distance
found; weights in those of the linearised problem. So no step length has to be chosen for a network. The constants that
are left were found by trial on the networks of the zoo (benchmarks/FINDINGS.md).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from cwjax.arguments import check_count, check_number, check_part
from cwjax.attacks.fast.scout import aimed
from cwjax.attacks.fast.slide import radius, slid
from cwjax.base import Attack, Box, Candidate, Count, Number, Objective, Search, closer, found, untouched
from cwjax.descent import descend
from cwjax.loop import iterated, steered
from cwjax.parts import distances
from cwjax.parts.aborts import never
from cwjax.parts.boxes import projected
from cwjax.parts.losses import negative_margin
from cwjax.parts.norms import TINY
from cwjax.parts.objectives import logit_margin
from cwjax.search.rounds import searched, tracked
from cwjax.search.weight import multiplier


def fast_l2(
    *,
    steps: Count = 300,
    objective: Objective = logit_margin(),
    box: Box = projected(),
    optimizer: optax.GradientTransformation = optax.adam(1.0),
) -> Attack:
    """The L2 attack at a fixed price: minimise `|x' - x|₂² + c·f(x')` with c and the length of a step turned at every
    step.

    Carlini & Wagner's problem (section VI-A), with f6 and projected descent by Adam; see `multiplier` for the knobs and
    `mirrored` for what it does with the steps of a long run. Towards a target, and with a network trained to be robust,
    `alternating_l2` comes nearer.

    Args:
      steps: gradients to spend on an example; may be traced. A hundred suffice. A longer run has several rounds:
        see `rounds_of`.
      objective: f. One whose loss is 0 as soon as the goal is met, such as f6.
      box: how the iterate stays valid. One whose variable is the image, such as `projected`: steps are lengths in it,
        and with the change of variables a hundred end three times as far away.
      optimizer: any Optax transformation of learning rate 1; the search turns the length of its steps.
    """
    parts = {"objective": objective, "distance": distances.l2(), "box": box, "optimizer": optimizer}

    def one_round(steps):
        return jittered(tracked(descend(steps=steps, abort=never(), **parts), multiplier(steps=steps)))

    return in_rounds(one_round, steps)


def fast_linf(*, steps: Count = 300, objective: Objective = negative_margin()) -> Attack:
    """The smallest L-infinity radius at a fixed price: steps along signs within a radius tau that is turned at every
    step, as the paper's L-infinity attack turns it round by round (section VI-C); see `radius` and `mirrored`, and
    `aimed` for the class to go for away from a label.

    Args:
      steps: gradients to spend on an example; may be traced.
      objective: one whose loss keeps falling after the goal is met, such as `negative_margin`. That of f6 is 0
        from there on, and the attack ends slightly farther away.
    """

    def one_round(steps):
        turned = radius(norm="linf", steps=steps, objective=objective)
        rule = aimed(steered(slid("linf", steps, objective), turned), "linf", steps, objective)
        attack = iterated(rule, objective=objective, distance=distances.linf(), steps=steps)
        return jittered(attack)

    return in_rounds(one_round, steps)


def in_rounds(
    one_round: Callable[[Int[Array, ""]], Attack],
    steps: Count,
    search: Callable[[Count], Search] | None = None,
    unit: int = 75,
) -> Attack:
    """An attack in rounds that share the steps equally, run by `search` (`mirrored` if None); see `rounds_of` for the
    unit.
    """
    rounds = rounds_of(steps, unit)
    each = jnp.maximum(steps // rounds, 1)
    return searched(one_round(each), (search or mirrored)(rounds))


class Mirrored(NamedTuple):
    best: Candidate  # of all rounds so far
    c: Float[Array, ""]
    rounds: Int[Array, ""]  # int32: that have ended


def mirrored(rounds: Count) -> Search:
    """For `searched`: rounds that know the best example of those before, and start on the other side of the clean
    input.

    A round that begins where the last one ended finds the same example again; one that begins at `x - delta` comes to
    the boundary elsewhere, and is told how near it has to come. The first starts where the problem says, at scale 0:
    nothing is known. After a round without an example the next starts there too, with ten times the weight.

    Args:
      rounds: >= 1; may be traced.
    """
    check_count("rounds", rounds)

    def init(problem):
        zero = jnp.zeros((), jnp.int32)
        return Mirrored(best=untouched(problem).best, c=jnp.ones_like(problem.c), rounds=zero)

    def ask(problem, knob):
        known = found(knob.best)
        opposite = 2 * problem.x.astype(problem.c.dtype) - knob.best.x.astype(problem.c.dtype)
        return problem._replace(
            start=jnp.where(known, opposite, problem.start).astype(problem.start.dtype),
            c=jnp.where(known, knob.best.c, knob.c),
            scale=jnp.where(known, knob.best.distance, 0),
        )

    def tell(problem, knob, outcome):
        return Mirrored(best=closer(knob.best, outcome.best), c=10 * knob.c, rounds=knob.rounds + 1)

    return Search(
        init=init,
        ask=ask,
        tell=tell,
        done=lambda knob: (knob.rounds >= rounds) | (knob.best.distance == 0),
    )


def jittered(attack: Attack, amount: Number = 1.0) -> Attack:
    """The attack from a start that is moved by `amount·problem.scale` in a random direction."""
    check_part("attack", attack, Attack)
    check_number("amount", amount, least=0)

    def init(key, problem):
        direction = jnp.where(problem.mask, jax.random.normal(key, problem.x.shape, problem.scale.dtype), 0)
        direction /= jnp.maximum(jnp.sqrt(jnp.sum(direction**2)), TINY)
        moved = problem.start + amount * problem.scale * direction
        return attack.init(key, problem._replace(start=moved.astype(problem.start.dtype)))

    return attack._replace(init=init)


def rounds_of(steps: Count, unit: int = 75) -> Int[Array, ""]:
    """How many rounds the steps of a fast attack make: √(steps/unit), rounded. So 1 of 100, 2 of 170, 4 of 1,000."""
    check_count("steps", steps)
    return jnp.maximum(jnp.round(jnp.sqrt(jnp.asarray(steps) / unit)), 1).astype(jnp.int32)
