"""Spreads run an attack on several versions of one problem: from other starts, towards other targets.

The versions of an example run one after the other. So a step still costs one forward and one backward pass, and an
example that is through with one version goes on to its next while its neighbours are at theirs.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from cwjax.arguments import check_count, check_number, check_part
from cwjax.base import (
    Attack,
    Candidate,
    Knob,
    LabelGoal,
    Number,
    Progress,
    Spread,
    State,
    closer,
    continued,
    seldom,
    select,
    shapes,
    untouched,
)


class SpreadState(NamedTuple):
    key: PRNGKeyArray  # []: of the first version; the others' are made from it
    knobs: Knob  # one entry a version
    version: Int[Array, ""]  # int32: the one that runs
    kept: Candidate  # of the versions so far
    inner: State  # of the attack on the version that runs
    progress: Progress  # of all versions together


def best_of(attack: Attack, spread: Spread) -> Attack:
    """The attack on every version of the problem: of all the examples found, the closest.

    Args:
      attack: any.
      spread: the versions.

    Example:
      >>> spread = cw.Spread(
      ...     init=lambda key, problem: jnp.array([0.5, 1.0]), ask=lambda problem, scale: problem._replace(scale=scale)
      ... )
      >>> attack = cw.best_of(cw.attacks.fgsm(epsilon=0.4), spread)
      >>> print(cw.batched(attack)(model, keys, x, goal).distance)  # the shorter step suffices
      [0.20000002 0.2       ]
    """

    def choose(problem, kept, after, last):
        kept = closer(kept, after.best)
        return kept, kept, last | (kept.distance == 0)

    return _in_turn(attack, spread, choose, nothing=jnp.inf)


def worst_of(attack: Attack, spread: Spread) -> Attack:
    """The attack on every version of the problem: of the examples found for each, the farthest.

    It fails as soon as it fails on one version, and until all have ended it has nothing to return.

    Args:
      attack: any.
      spread: the versions.

    Example:
      >>> spread = cw.Spread(
      ...     init=lambda key, problem: jnp.array([0.5, 1.0]), ask=lambda problem, scale: problem._replace(scale=scale)
      ... )
      >>> attack = cw.worst_of(cw.attacks.fgsm(epsilon=0.4), spread)
      >>> print(cw.batched(attack)(model, keys, x, goal).distance)  # that of the longer step
      [0.4        0.40000004]
    """

    def choose(problem, kept, after, last):
        kept = select(after.done & (after.best.distance > kept.distance), after.best, kept)
        failed = (kept.distance == jnp.inf) | ~after.finite
        return kept, select(last & ~failed, kept, untouched(problem).best), last | failed

    return _in_turn(attack, spread, choose, nothing=-jnp.inf)


def restarted(attack: Attack, n: int, radius: Number) -> Attack:
    """The attack from n starting points, the closest example kept.

    Section VI-A calls it "multiple starting-point gradient descent".

    The first start is the plain one, so the result is never worse than the attack's own; the others are drawn uniformly
    from the L2 ball of the given radius around it. They may lie outside the box: each box moves its start inside. An
    element that showed no slope from the starts before, while others did, stays at its clean value.

    Args:
      attack: any.
      n: starting points, >= 1.
      radius: of the ball, >= 0, in the unit of x, as distances are; may be traced. The paper takes the distance of the
        closest example known so far.

    Example:
      >>> attack = cw.restarted(cw.attacks.fgsm(epsilon=0.3), n=3, radius=0.2)
      >>> result = cw.batched(attack)(model, keys, x, goal)
      >>> result.success.tolist(), result.forwards.tolist()  # two points from each start
      ([True, True], [6, 6])

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-A,
        https://arxiv.org/abs/1608.04644
    """
    check_count("n, the number of starting points,", n)
    check_number("radius", radius, least=0)

    def init(key, problem):
        # Drawn once: `ask` is called at every step.
        ball = jax.random.ball(key, problem.x.size, shape=(n,), dtype=problem.scale.dtype)
        return radius * ball.at[0].set(0).reshape(n, *problem.x.shape)

    def ask(problem, offset):
        return problem._replace(start=(problem.start + offset).astype(problem.start.dtype))

    return best_of(attack, Spread(init=init, ask=ask))


def best_target(attack: Attack, num_classes: int) -> Attack:
    """The attack towards every class but the label, the closest example kept: the paper's best case.

    Takes untargeted goals, which say what the label is. An example with a targeted goal is reported as not finite.

    Args:
      attack: any.
      num_classes: K, how many logits the model has.

    Example:
      >>> attack = cw.best_target(cw.attacks.fgsm(epsilon=0.4), num_classes=3)
      >>> result = cw.batched(attack)(model, keys, x, goal)
      >>> result.forwards.tolist()  # two classes to go to
      [4, 4]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", Table IV,
        https://arxiv.org/abs/1608.04644
    """
    return best_of(attack, _every_target(num_classes))


def worst_target(attack: Attack, num_classes: int) -> Attack:
    """The attack towards every class but the label, the farthest example kept: the paper's worst case.

    It fails if one target cannot be reached.

    Takes untargeted goals; arguments as for `best_target`.

    Args:
      attack: any.
      num_classes: K, how many logits the model has.

    Example:
      >>> attack = cw.worst_target(cw.attacks.fgsm(epsilon=0.2), num_classes=3)
      >>> result = cw.batched(attack)(model, keys, x, goal)
      >>> result.success.tolist()  # neither example reaches both classes
      [False, False]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", Table IV,
        https://arxiv.org/abs/1608.04644
    """
    return worst_of(attack, _every_target(num_classes))


def average_target(attack: Attack, num_classes: int) -> Attack:
    """The attack towards one class other than the label, drawn uniformly: the paper's average case.

    The example's key draws it.

    Takes untargeted goals; arguments as for `best_target`.

    Args:
      attack: any.
      num_classes: K, how many logits the model has.

    Example:
      >>> attack = cw.average_target(cw.attacks.fgsm(epsilon=0.4), num_classes=3)
      >>> result = cw.batched(attack)(model, keys, x, goal)
      >>> result.forwards.tolist()  # one class for each example: as many passes as the attack alone
      [2, 2]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", Table IV,
        https://arxiv.org/abs/1608.04644
    """
    _check_classes(num_classes)

    def init(key, problem):
        return jax.random.randint(key, (1,), 1, num_classes, jnp.int32)  # the same ones with 64 bits

    return best_of(attack, Spread(init=init, ask=_towards(num_classes)))


def _every_target(num_classes: int) -> Spread:
    _check_classes(num_classes)
    return Spread(init=lambda key, problem: jnp.arange(1, num_classes), ask=_towards(num_classes))


def _towards(num_classes: int) -> Callable:
    """The problem of reaching the class that comes `away` after the label that is to be left."""

    def ask(problem, away):
        goal = problem.goal
        if not isinstance(goal, LabelGoal):
            raise TypeError(
                "best_target, worst_target and average_target go from class to class: they need a goal of labels, from "
                f"cwjax.untargeted, got {shapes(goal)}"
            )
        label = jnp.where(goal.sign < 0, (goal.label + away) % num_classes, -1)  # -1 is no class: not finite
        known = (goal.label >= 0) & (goal.label < num_classes)
        label = jnp.where(known, label, -1).astype(goal.label.dtype)
        return problem._replace(goal=goal._replace(label=label, sign=jnp.ones_like(goal.sign)))

    return ask


def _check_classes(num_classes: int) -> None:
    check_count("num_classes", num_classes, least=2)


def _in_turn(attack: Attack, spread: Spread, choose: Callable, *, nothing: float) -> Attack:
    """The attack on one version of the problem after the other.

    Args:
      attack: any.
      spread: the versions.
      choose: (problem, kept, the version's progress, whether it was the last and has ended) -> what is kept, what is
        returned for now, and whether nothing more can change that.
      nothing: the distance kept before the first version has ended.
    """
    check_part("attack", attack, Attack)
    check_part("spread", spread, Spread)

    def at(knobs, version):
        return jax.tree.map(lambda leaf: leaf[version], knobs)

    def init(key, problem):
        knobs, progress = spread.init(key, problem), untouched(problem)
        return SpreadState(
            key=key,
            knobs=knobs,
            version=jnp.zeros((), jnp.int32),
            kept=progress.best._replace(distance=jnp.full_like(progress.best.distance, nothing)),
            inner=attack.init(key, spread.ask(problem, at(knobs, 0))),
            progress=progress,
        )

    def step(model, problem, state):
        inner = attack.step(model, spread.ask(problem, at(state.knobs, state.version)), state.inner)
        before, after = state.inner.progress, inner.progress

        versions = jax.tree.leaves(state.knobs)[0].shape[0]
        last = after.done & (state.version == versions - 1)
        kept, best, over = choose(problem, state.kept, after, last)
        version = jnp.where(after.done, state.version + 1, state.version)
        following = spread.ask(problem._replace(live=after.live), at(state.knobs, version))
        key = jax.random.fold_in(state.key, version)
        return SpreadState(
            key=state.key,
            knobs=state.knobs,
            version=version,
            kept=kept,
            inner=seldom(after.done, attack.init, (key, following), inner),
            progress=continued(state.progress, before, after, best=best, over=over),
        )

    return attack._replace(init=init, step=step)
