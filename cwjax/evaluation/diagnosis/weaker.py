"""What should not win: FGSM, PGD and noise, each within a radius. These programs hold no network: they are told what
the model answers (`asking`).
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.answers import moving
from cwjax.attacks.pgd import pgd
from cwjax.base import Result, answered, select, wide
from cwjax.evaluation.diagnosis.asking import BLOCK, LAG, by_blocks, puller, told
from cwjax.evaluation.diagnosis.programs import made
from cwjax.parts.losses import negative_margin
from cwjax.parts.norms import NORMS
from cwjax.problems import clip, problem
from cwjax.runners.batch import looped, result_of


class Weaker(NamedTuple):
    """Numbers of `pgd`, which takes them traced: so that one program serves all."""

    steps: int  # points to ask about after the clean input
    relative_step: float
    random: float  # how far from the clean input it starts, as a share of a point drawn in the ball


WEAKER = {"fgsm": Weaker(2, 1.0, 0.0), "pgd": Weaker(20, 0.1, 1.0)}
"""What should not win, by name: attacks of a given radius."""


def within(model, keys, x, goal, allowed, radius, confidence, *, name, norm, block=BLOCK) -> tuple[Result, int]:
    """A weaker attack on every example, each within a radius [R] of its own; and how often the model was asked about a
    block. The clean input is asked about first: one that meets its goal is at distance 0.
    """
    asked, kind, numbers = 0, jax.random.key_impl(keys), WEAKER[name]
    pulled = puller(model, x, allowed.context)

    def program(keys, x, goal, allowed, radius):
        nonlocal asked
        keys, points = jax.random.wrap_key_data(keys, impl=kind), x
        given, context = (x, goal, allowed._replace(context=None), radius, np.float32(confidence)), allowed.context
        answer = pulled(points, goal, context, LAG, confidence)
        ball = _draws(norm, keys, _wide_like(x[0], len(x)))
        states, points = _tried_first(norm, numbers, ball, *given, answer.logits)
        asked += 1
        while not np.asarray(states.progress.done).all():
            answer = pulled(points, goal, context, LAG, confidence)
            states, points = _tried(norm, numbers, *given, states, answer.logits, answer.slope)
            asked += 1
        return result_of(states.progress)

    return by_blocks(program, block, jax.random.key_data(keys), x, goal, allowed, np.asarray(radius)), asked


def _weaker(norm, numbers, confidence):
    return looped(
        pgd(
            epsilon=1.0,
            norm=norm,
            relative_step=numbers.relative_step,
            steps=numbers.steps,
            random_start=False,
            objective=negative_margin(confidence),
        )
    )


@functools.partial(jax.jit, static_argnums=0)
def _tried_first(norm, numbers, ball, x, goal, allowed, radius, confidence, logits):
    """The states of a weaker attack, given what the model says of the clean inputs, and the images to ask about."""
    attack = _weaker(norm, numbers, confidence)

    def one(point, x, goal, allowed, radius, logits):
        given = _scaled(x, goal, allowed, radius)
        start = given.start + numbers.random * given.scale * point
        state = attack.init(jax.random.key(0), given._replace(start=start.astype(x.dtype)))
        progress, met = state.progress, negative_margin(confidence).met(logits, goal) & answered(logits)
        best = progress.best._replace(distance=jnp.where(met, 0, progress.best.distance))
        finite = answered(logits)
        progress = progress._replace(best=best, finite=finite, done=met | ~finite)
        return state._replace(progress=progress), _point(given, state)

    return jax.vmap(one)(ball, x, goal, allowed, radius, logits)


@functools.partial(jax.jit, static_argnums=0)
def _tried(norm, numbers, x, goal, allowed, radius, confidence, states, logits, slopes):
    """The states after a step in which the model gave these answers, and the images to ask about next."""
    attack = _weaker(norm, numbers, confidence)

    def one(x, goal, allowed, radius, state, logits, slope):
        given = _scaled(x, goal, allowed, radius)
        after = attack.step(jax.tree_util.Partial(told, logits, slope), given, state)
        after = select(state.progress.done, state, after)
        return after, _point(given, after)

    return jax.vmap(one)(x, goal, allowed, radius, states, logits, slopes)


def _scaled(x, goal, allowed, radius):
    return problem(x, goal, allowed)._replace(scale=radius.astype(wide(x)))


def _point(given, state):
    """The image that an attack in the projected box asks about next, as `answers.look` makes it."""
    moves = given.mask & moving(given._replace(live=state.progress.live))
    return jnp.where(moves, state.w, given.x.astype(state.w.dtype)).astype(given.x.dtype)


def drawn(lead, attack, numbers, keys, x, goal, allowed, radius, *, count, block=BLOCK):
    """Noise within a radius [R] around every example: margins (nan where the model gives one) and distances, both
    [R, count]. `lead` is what to ask the model with: a function of images, goals and contexts, such as a `leads`.
    """
    found = []
    for row in range(len(x)):
        one = jax.tree.map(lambda leaf, row=row: leaf[row], (x, goal, allowed, jnp.asarray(radius)))
        draws, kind = jax.random.key_data(jax.random.split(keys[row], count)), jax.random.key_impl(keys)

        def program(draws, one=one, kind=kind):
            keys = jax.random.wrap_key_data(draws, impl=kind)
            norm = made(attack, numbers).terms.distance.norm
            ball = None if norm == "l0" else _draws(norm, keys, _wide_like(one[0], len(draws)))
            images, distance, others = _noisy(attack, numbers, keys, *one, ball)
            return lead(images, *others), distance

        found.append(by_blocks(program, block, draws))
    return tuple(np.stack(each) for each in zip(*found, strict=True))


def _wide_like(x, count):
    return np.zeros((count, *x.shape), wide(x))


@functools.partial(jax.jit, static_argnums=0)
def _draws(norm, keys, like):
    """A point of the ball of radius 1 for each key, by XLA's own generator, which compiles in a third of the time."""
    data = jax.random.key_data(keys)
    words = jnp.concatenate([data] * 4, -1)[..., :4]
    return jax.vmap(NORMS[norm].draw)(jax.random.wrap_key_data(words, impl="rbg"), like)


@functools.partial(jax.jit, static_argnums=0)
def _noisy(attack, numbers, keys, x, goal, allowed, radius, ball):
    """Noise within a radius around one example, once for each key: images, distances, and the goal and the context that
    go with each image. `ball` has a point of the ball of radius 1 for each; None in L0.
    """
    distance, given = made(attack, numbers).terms.distance, problem(x, goal, allowed)
    clean = x.astype(wide(x))

    def one(key, point):
        if point is None:
            change = _few_pixels(key, clean, radius, given.low, given.high, distance.channels(clean.shape))
        else:
            change = radius * point
        image = jnp.where(given.mask, clip(given, clean + change), clean).astype(x.dtype)
        return image, distance.measure(image.astype(clean.dtype) - clean), (goal, allowed.context)

    return jax.vmap(one)(keys, ball)


def _few_pixels(key, clean, radius, low, high, axis):
    """As many pixels as the radius says, each to one of its bounds: the change. Channels are along that axis."""
    where, values = jax.random.split(key)
    pixels = clean.shape if axis is None else (*clean.shape[:axis], 1, *clean.shape[axis + 1 :])
    order = jax.random.permutation(where, math.prod(pixels)).reshape(pixels)
    chosen = order < radius
    extreme = jnp.where(jax.random.bernoulli(values, jnp.float32(0.5), clean.shape), high, low)
    return jnp.where(chosen, extreme - clean, 0)
