"""The folded Gaussian attacks (Césaire et al. 2021), L0: one element a step, at the best of a few random values."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from cwjax.answers import Answer, Seen, advanced, evaluated, look, moving
from cwjax.arguments import check_count, check_part
from cwjax.attacks.jsma import label_probability
from cwjax.base import Attack, Count, Distance, Objective, Problem, Progress, Terms, untouched, wide
from cwjax.parts import distances
from cwjax.parts.boxes import projected
from cwjax.problems import clip

_BOX = projected()

Trials = Callable[[Problem, Seen, Array, Array], Float[Array, "N *S"]]
"""(problem, what was seen of the point, which elements may change, N draws) -> N images, each with one changed."""


class FoldedState(NamedTuple):
    w: Float[Array, "*S"]  # at least float32: the point to ask about next
    key: PRNGKeyArray  # []: of the next draws
    taken: Int[Array, ""]  # int32: points gone through
    progress: Progress


def vfga(
    *,
    samples: int = 10,
    steps: Count = 1000,
    objective: Objective = label_probability(),
    distance: Distance = distances.l0(),
) -> Attack:
    """VFGA, L0: one element a step, the best of many random changes of the two that promise most.

    The voting folded Gaussian attack (Césaire et al. 2021, "Stochastic sparse adversarial attacks", algorithm
    2). With g the slope of what is wanted, `F_t` towards t and `-F_y` away from y, a step chooses two of the
    elements that have not changed yet, those that promise most up and down,

        i⁺ = argmax_i (high_i - x_i)·g_i          i⁻ = argmin_i (x_i - low_i)·g_i

    and asks about x with `x_{i⁺} + |n|·(high - x)_{i⁺}` or with `x_{i⁻} - |n|·(x - low)_{i⁻}`, for `samples`
    draws n of a standard normal variable each, clipped to the box. It goes on from the best of these images: one that
    meets the goal, if there is any, and of several the one with the least loss. It ends there if the goal is met, or
    when every element has changed.

    A step is a forward and a backward pass at x, and a forward pass for each of the images: 21 and 1 as published. They
    follow one another, so a step takes no more memory than one of another attack.

    An element that has shown no slope is not chosen while others have, as everywhere in this library.

    Args:
      samples: draws for each of the two elements, >= 1; ten are adv-lib's choice.
      steps: at the most, >= 1. adv-lib takes as many as there are elements.
      objective: its loss is lowered. The paper's is the label's probability, with the sign of the goal.
      distance: what is reported; `distances.l0(per_pixel=False)` counts elements, as the paper does.

    Raises:
      ValueError: a number out of its range.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.vfga()))(model, keys, x, goal)
      >>> result.success.tolist(), bool((result.distance <= 3).all())
      ([True, True], True)

    References:
      Césaire et al. 2021, "Stochastic sparse adversarial attacks", algorithm 2, https://arxiv.org/abs/2011.12423
    """
    check_count("samples", samples)

    def trials(problem, seen, free, draws):
        up, down = jnp.split(draws, 2)
        return jnp.concatenate([_raised(problem, seen, free, up), _lowered(problem, seen, free, down)])

    return _folded(trials, 2 * samples, steps=steps, objective=objective, distance=distance)


def fga(
    *,
    increasing: bool = True,
    samples: int = 10,
    steps: Count = 1000,
    objective: Objective = label_probability(),
    distance: Distance = distances.l0(),
) -> Attack:
    """The folded Gaussian attack, L0: as `vfga`, but elements are only raised, or only lowered.

    Algorithm 1 of Césaire et al. 2021, "Stochastic sparse adversarial attacks". A step is 11 forward passes and a
    backward one.

    Only to raise elements is what an attack on features may be allowed that say what a program has or calls: adding
    some does not change what the program does.

    Args:
      increasing: whether elements are raised, or lowered.
      samples: draws in a step, >= 1; ten are adv-lib's choice.
      steps: at the most, >= 1.
      objective: its loss is lowered. The paper's is the label's probability, with the sign of the goal.
      distance: what is reported; `distances.l0(per_pixel=False)` counts elements, as the paper does.

    Raises:
      ValueError: a number out of its range.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.fga()))(model, keys, x, goal)
      >>> bool((result.x >= x).all()), result.success.tolist()  # elements are only raised
      (True, [True, True])

    References:
      Césaire et al. 2021, "Stochastic sparse adversarial attacks", algorithm 1, https://arxiv.org/abs/2011.12423
    """
    check_count("samples", samples)
    return _folded(_raised if increasing else _lowered, samples, steps=steps, objective=objective, distance=distance)


def _raised(problem, seen, free, draws):
    room = problem.high - seen.x
    promised = jnp.where(free, -seen.slope * room, -jnp.inf)
    return _changed(seen.x, promised, draws, room)


def _lowered(problem, seen, free, draws):
    room = seen.x - problem.low
    promised = jnp.where(free, seen.slope * room, -jnp.inf)
    return _changed(seen.x, promised, draws, -room)


def _changed(x, promised, draws, way):
    """The point with the element that promises most changed by each of the draws, in shares of its way."""
    chosen = jnp.arange(x.size).reshape(x.shape) == jnp.argmax(promised)
    return jax.vmap(lambda draw: jnp.where(chosen, x + draw * way, x))(draws)


def _draws(key, count, dtype):
    """Folded normal variables."""
    return jnp.abs(jax.random.normal(key, (count,), dtype))


def _folded(trials: Trials, count: int, *, steps: Count, objective: Objective, distance: Distance) -> Attack:
    """The loop of both; a step tries `count` images."""
    check_part("objective", objective, Objective)
    check_part("distance", distance, Distance)
    check_count("steps", steps)

    def init(key, problem):
        start = clip(problem, problem.start.astype(wide(problem.x)))
        return FoldedState(w=start, key=key, taken=jnp.zeros((), jnp.int32), progress=untouched(problem))

    def step(model, problem, state):
        problem = problem._replace(live=state.progress.live)
        home = state.w == problem.x.astype(state.w.dtype)
        looked = look(model, problem, state.w, home, objective=objective, distance=distance, box=_BOX, aim=problem.goal)
        seen, asked = looked.seen, advanced(state.progress, looked.evaluated, over=jnp.array(False))
        problem = problem._replace(live=asked.live)
        free = problem.mask & moving(problem) & home

        key, drawn = jax.random.split(state.key)
        images = trials(problem, seen, free, _draws(drawn, count, seen.x.dtype))
        images = jax.vmap(lambda image: clip(problem, image))(images).astype(problem.x.dtype)
        told = {} if problem.context is None else {"context": problem.context}
        outputs = jax.lax.map(functools.partial(model, **told), images)
        losses = jax.vmap(lambda given: objective.loss(given, problem.goal))(outputs)
        met = jax.vmap(lambda given: objective.met(given, problem.goal))(outputs)
        # A probability's loss spans one at the most; that of another objective whatever it spans.
        best = jnp.argmin(losses - jnp.where(met, 1 + jnp.max(losses) - jnp.min(losses), 0))

        image = images[best]
        found = evaluated(
            problem,
            image,
            Answer(jax.tree.map(lambda leaf: leaf[best], outputs), losses[best], seen.slope, problem.live),
            loss=losses[best],
            gradient=seen.slope,
            away=image != problem.x,
            objective=objective,
            distance=distance,
        )
        tried = asked._replace(forwards=asked.forwards + count - 1, backwards=asked.backwards - 1)
        progress = advanced(
            tried, found, over=asked.done | seen.met | found.evaluation.met | ~free.any() | (state.taken + 1 >= steps)
        )
        return FoldedState(image.astype(state.w.dtype), key, state.taken + 1, progress)

    return Attack(init=init, step=step, terms=Terms(objective, distance, _BOX))
