"""Which class to go for, where any but one will do: the one whose boundary the slopes say is nearest.

Away from a label the loss is that of the likeliest other class, and the class that is likeliest at the clean input is
often not the nearest. DeepFool (Moosavi-Dezfooli et al. 2016) compares the slopes of all classes at every step.
Trust Region (Yao et al. 2019, https://arxiv.org/abs/1812.06371) and MALT (Melamed et al. 2024,
https://arxiv.org/abs/2407.02240) compare them once, at the clean input, by the same rule: the margin over the dual norm
of its slope, among the nine likeliest classes and among a hundred. Here five are compared, once before a leg begins,
and the nearest of them is looked at again from farther on.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.answers import Seen
from cwjax.attacks.fast.aims import CLASSES, likeliest, towards
from cwjax.attacks.fast.legs import TRIES, UNIT, Leg
from cwjax.attacks.fast.slide import METRICS
from cwjax.base import Goal, Objective, Problem, select, wide
from cwjax.loop import Rule
from cwjax.parts.norms import NORMS, TINY, check_norm
from cwjax.parts.schedules import DOUBT

_CLEARLY = 0.9  # another class than the likeliest has to be nearer than this share of its distance
_PROBE = 1.5  # how many linearised distances a probe goes


class View(NamedTuple):
    """What was seen at the start of a leg, of one class."""

    loss: Float[Array, ""]
    slope: Float[Array, "*S"]


class Scouting(NamedTuple):
    """What is known before a leg begins."""

    start: Float[Array, "*S"]
    met: Bool[Array, ""]  # whether the goal is, there
    distance: Float[Array, ""]  # of the start
    likely: Int[Array, "C"]  # int32: the wrong classes there, likeliest first; -1: there are no more
    likeliest: View
    nearest: Int[Array, ""]  # int32: the class that is nearest by margin over slope; -1: the likeliest
    near: View  # of that class
    far: Float[Array, ""]  # the distance of the likeliest, by its probe
    doubted: Bool[Array, ""]  # whether slopes are not to be believed
    begun: Int[Array, ""]  # int32: points asked about when the leg began; -1: it has not
    chosen: Int[Array, ""]  # int32: the class that it goes for; -1: whichever is likeliest
    aim: Int[Array, ""]  # int32: the class of the loss at the next point; likewise


class ScoutedMemory(NamedTuple):
    """What a rule with a look around carries from step to step."""

    known: Scouting
    rule: Any
    other: Any


def scouted(
    norm: str,
    leg: Leg,
    objective: Objective,
    rule: Rule,
    other: Rule | None = None,
    *,
    instead: bool | Bool[Array, ""] = False,
    swapped: bool | Bool[Array, ""] = False,
) -> Rule:
    """The rule, after a look around at the five likeliest classes.

    They are looked at from the start, and two of them from farther on, in a leg away from a label that begins at the
    clean input.

    The first look is at the likeliest class, and the next at its probe: a point farther down the slope than the
    boundary would be if the model were linear. Where that is still on this side of it, slopes are doubted, and the leg
    goes by the other rule, if there is one. Where it kept less than a third of what the slope promised, as on most
    digits of a network that was trained to be robust, slopes say so little that the leg begins at once. Else the other
    classes are looked at from the start, and the one that is nearest by margin over slope from a probe of its own, if
    it is not the likeliest. It is gone for where it is clearly nearer as Newton's steps from the two probes have it.
    The leg begins at the start, with the slope there of the class that it goes for. An example of any class counts.

    So two to seven points are spent, the start itself included. With less than 60 steps, or an objective that knows no
    logits of classes, there is no look at classes; only a leg that has another rule asks about the first probe.

    Args:
      norm: to be small: "l2" or "linf".
      leg: of the run.
      objective: of the attack, a margin.
      rule: an `aim` of its own is not asked for, and of the logits at the start it is told NaN.
      other: in its place where slopes are doubted,
      instead: and in this leg as a whole, which does not look around.
      swapped: whether it is the other way about in this leg: the rule where slopes are doubted, else the other one.

    Raises:
      ValueError: an unknown norm.

    Example:
      >>> from cwjax.attacks.fast import legs, scout, slide
      >>> margin = cw.losses.softened_margin()
      >>> def rule_of(leg):
      ...     return scout.scouted("linf", leg, margin, slide.slide("linf", leg, margin))
      >>> rule = legs.in_legs(rule_of, steps=60, legs=1)
      >>> attack = cw.loop.iterated(rule, objective=margin, distance=cw.distances.linf(), steps=60)
      >>> print(np.asarray(jax.jit(cw.batched(attack))(model, keys, x, goal).distance).round(2))
      [0.1  0.15]
    """
    check_norm(norm, tuple(METRICS))
    metric = METRICS[norm]

    def distance_of(view):
        return view.loss / jnp.maximum(NORMS[norm].dual(view.slope), TINY)

    def probe(start, view):
        return start - _PROBE * distance_of(view) * metric.towards(view.slope)

    def look(problem, known, seen):
        """What is known now, what a rule is to know of the point, and the next point unless the leg has begun."""
        choosing = (problem.start == problem.x).all() & (leg.steps >= UNIT) & (objective.logits is not None)
        looks = (
            ~objective.reaches(problem.goal)
            & (choosing | (other is not None))
            & (leg.rival < 0)
            & ~jnp.asarray(instead)
        )
        view, place = View(seen.loss, seen.slope), seen.taken
        known = select(place == 0, _begun_with(known, seen, _likely(objective, seen, problem.goal)), known)
        classes = jnp.sum(known.likely >= 0)

        waits = known.begun < 0
        probed = waits & (place == 1)
        blind = (known.likeliest.loss > 0) & (view.loss > (1 - _PROBE / DOUBT) * known.likeliest.loss)
        doubted = jnp.where(probed, view.loss > 0, known.doubted)
        newton = distance_of(view)  # from a probe, on
        far = jnp.where(probed, _PROBE * distance_of(known.likeliest) + newton, known.far)
        looked = waits & (place > 1) & (place <= classes) & (known.aim >= 0)
        nearer = looked & (distance_of(view) < distance_of(known.near))
        nearest, near = select(nearer, (known.aim, view), (known.nearest, known.near))

        last = waits & (place == classes + 1)
        preferred = last & (_PROBE * distance_of(near) + newton < _CLEARLY * far)
        sighted = (probed & (blind | ~choosing)) | ((place == classes) & (nearest < 0)) | last
        begins = waits & jnp.where(place == 0, ~looks, sighted)
        begun = jnp.where(begins, place, known.begun)
        chosen = jnp.where(begins, jnp.where(preferred, nearest, -1), known.chosen)

        there = _at_start(problem, known, seen, select(preferred, near, known.likeliest))
        told = select(begins & (place > 0), there, seen)._replace(taken=jnp.where(begins, 0, place - begun))

        going = jnp.where(TRIES * place < leg.steps, chosen, -1)
        class_of = jnp.where(place == classes, nearest, known.likely[jnp.minimum(place, classes - 1)])
        after = known._replace(
            nearest=nearest,
            near=near,
            far=far,
            doubted=doubted,
            begun=begun,
            chosen=chosen,
            aim=jnp.where(begun >= 0, going, jnp.where(place == 0, -1, class_of)),
        )
        x = jnp.where(place == 0, probe(known.start, known.likeliest), known.start)
        return after, told, jnp.where(place == classes, probe(known.start, near), x)

    def init(key, problem):
        start, first = rule.init(key, problem)
        return start, ScoutedMemory(_nothing_known(problem), first, other.init(key, problem)[1] if other else ())

    def move(problem, memory, seen):
        known, told, x = look(problem, memory.known, seen)
        (there, after), later = rule.move(problem, memory.rule, told), ()
        if other:
            elsewhere, later = other.move(problem, memory.other, told)
            there = jnp.where(instead | (known.doubted ^ swapped), elsewhere, there)
        begun = known.begun >= 0
        after, later = select(begun, (after, later), (memory.rule, memory.other))
        return jnp.where(begun, there, x.astype(there.dtype)), ScoutedMemory(known, after, later)

    def aim(problem, memory):
        return problem.goal if objective.logits is None else towards(memory.known.aim, problem.goal)

    return Rule(init=init, move=move, aim=aim)


def _nothing_known(problem: Problem) -> Scouting:
    """What is known before the first point was asked about."""
    start = problem.start.astype(wide(problem.x))
    none, zero, no = jnp.int32(-1), jnp.zeros_like(start, shape=()), jnp.array(False)
    unseen = View(loss=zero, slope=jnp.zeros_like(start))
    return Scouting(
        start=start,
        met=no,
        distance=zero,
        likely=jnp.full(CLASSES, -1, jnp.int32),
        likeliest=unseen,
        nearest=none,
        near=unseen,
        far=zero,
        doubted=no,
        begun=none,
        chosen=none,
        aim=none,
    )


def _at_start(problem: Problem, known: Scouting, seen: Seen, view: View) -> Seen:
    """The start, as if it had been asked about now, and about the class of that view."""
    return seen._replace(
        w=known.start,
        x=known.start,
        delta=known.start - problem.x.astype(known.start.dtype),
        loss=view.loss,
        slope=view.slope,
        total=view.loss,
        gradient=view.slope,
        outputs=jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), seen.outputs),
        met=known.met,
        distance=known.distance,
    )


def _begun_with(known: Scouting, seen: Seen, likely: Int[Array, "C"]) -> Scouting:
    """What is known of the start once it was asked about."""
    view = View(seen.loss, seen.slope)
    return known._replace(
        start=seen.x,
        met=seen.met,
        distance=seen.distance,
        likely=likely,
        likeliest=view,
        near=view,
    )


def _likely(objective: Objective, seen: Seen, goal: Goal) -> Int[Array, "C"]:
    if objective.logits is None:
        return jnp.full(CLASSES, -1, jnp.int32)
    return likeliest(objective.logits(seen.outputs), goal, CLASSES)
