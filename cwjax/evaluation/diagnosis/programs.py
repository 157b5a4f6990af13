"""What the checks compile.

Checks are driven from the host, like `streamed`, and no caller around them could compile. So these programs
call `jax.jit` themselves. They are made once for a shape and an attack, whatever its numbers.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from cwjax.attacks.fgsm import fgsm
from cwjax.attacks.pgd import pgd
from cwjax.base import AnyArray, Attack, Goal, LabelGoal, Result, State, answered, wide
from cwjax.descent import Descent
from cwjax.loop import IteratedState
from cwjax.models import Model
from cwjax.parts.losses import label_cross_entropy, negative_margin
from cwjax.parts.norms import NORMS
from cwjax.parts.objectives import margin
from cwjax.problems import clip, problem
from cwjax.runners.batch import by_rows, lanes, looped, result_of
from cwjax.runners.fast_convolutions import canonical
from cwjax.runners.rounding import Rounding, discretised
from cwjax.search.bisection import Bracket

WEAKER: dict[str, Callable[..., Attack]] = {
    "fgsm": fgsm,
    "pgd": functools.partial(pgd, steps=20, relative_step=0.1),
}
"""What should not win, by name: attacks of a given radius."""

_STEPS_AT_ONCE = 50


class Slopes(NamedTuple):
    """What the model does at the clean inputs; every field has the axis B."""

    margin: Float[Array, "B"]  # by how many logits the goal is met
    slope: Float[Array, "B *S"]  # of the margin
    entropy: Float[Array, "B"]  # the largest element of the slope of the cross-entropy of the model's answer


class Followed(NamedTuple):
    """An attack on R examples as seen from outside, after each of its T steps: axes [T, R] everywhere, in NumPy
    once it is read.
    """

    loss: Float[AnyArray, "T R"]
    distance: Float[AnyArray, "T R"]  # of the point of this step
    met: Bool[AnyArray, "T R"]  # whether the goal was met there
    best: Float[AnyArray, "T R"]  # the best distance so far
    done: Bool[AnyArray, "T R"]
    saturated: Float[AnyArray, "T R"]  # share of the elements inside the box whose variable has no slope left
    lower: Float[AnyArray, "T R"]  # of the bracket around c; nan without one
    upper: Float[AnyArray, "T R"]
    rounds: Int[AnyArray, "T R"]  # of the search over c

    def last(self) -> Int[np.ndarray, "R"]:
        """The last step of each example."""
        return np.minimum((~np.asarray(self.done)).sum(0), len(self.done) - 1)


def made(attack: Attack | Callable[..., Attack], numbers: Mapping[str, Any]) -> Attack:
    """The attack of these numbers."""
    return attack if isinstance(attack, Attack) else attack(**numbers)


def _parts(state: State, kind: type) -> list[Any]:
    """The parts of an attack's state that are of a kind, wherever they lie in it."""
    found = jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, kind))
    return [part for part in found if isinstance(part, kind)]


@jax.jit
def slopes(model: Model, x: Array, goal: Goal, context: PyTree = None) -> Slopes:
    """What the model does at x [B, *S]: one forward and two backward passes each."""

    @canonical
    def one(x, goal, context):
        logits, pull = jax.vjp(lambda x: model(x, context), x)
        lead, away = jax.value_and_grad(margin)(logits, goal)
        answer = LabelGoal(label=jnp.argmax(logits).astype(jnp.int32), sign=-jnp.ones_like(goal.sign))
        blind = jax.grad(label_cross_entropy().loss)(logits, answer)
        slope, entropy = (pull(each.astype(logits.dtype))[0].astype(wide(x)) for each in (away, blind))
        return Slopes(margin=lead, slope=slope, entropy=jnp.max(jnp.abs(entropy)))

    return by_rows(one, x, goal, context)


@functools.partial(jax.jit, static_argnums=0)
def begun(attack, numbers, keys, x, goal, allowed) -> State:
    """The states of an attack before its first step."""
    return lanes(made(attack, numbers)).begin(keys, x, goal, allowed)


@functools.partial(jax.jit, static_argnums=1)
def followed(model, attack, numbers, x, goal, allowed, states) -> tuple[State, Any]:
    """The states of an attack some steps on, and what was seen after each of them."""
    one_attack = made(attack, numbers)
    advance, box = lanes(one_attack).advance, one_attack.terms.box

    def step(states, _):
        states = advance(model, x, goal, states, 1, allowed)
        return states, jax.vmap(functools.partial(_look, box))(x, goal, allowed, states)

    return lax.scan(step, states, length=_STEPS_AT_ONCE)


def _look(box, x, goal, allowed, state) -> Followed:
    progress, none = state.progress, jnp.full((), jnp.nan, jnp.float32)
    descents = [loop for loop in _parts(state, IteratedState) if isinstance(loop.memory, Descent)]
    brackets = _parts(state, Bracket)
    saturated = _saturated(box, problem(x, goal, allowed), descents[0].w) if descents else none
    knob = brackets[0] if brackets else Bracket(none, lower=none, upper=none, rounds=jnp.zeros((), jnp.int32))
    return Followed(
        loss=progress.last.loss,
        distance=progress.last.distance,
        met=progress.last.met & progress.finite,
        best=progress.best.distance,
        done=progress.done,
        saturated=saturated,
        lower=knob.lower,
        upper=knob.upper,
        rounds=knob.rounds,
    )


def _saturated(box, given, w):
    """The share of the elements inside the box, by more than a thousandth, that a change of w no longer moves.

    One on a bound starts without a slope worth the name (`change_of_variables`), and is meant to.
    """
    bounds = given.low, given.high
    at = box.encode(given.x, *bounds)
    slope, clean = (jax.jvp(lambda w: box.decode(w, *bounds).inside, (v,), (jnp.ones_like(v),))[1] for v in (w, at))
    share = box.in_variable(given.widths, *bounds) / given.widths
    inside = given.mask & (jnp.abs(clean) * share > 1e-3)
    return jnp.sum(inside & (jnp.abs(slope) * share < 1e-6)) / jnp.maximum(jnp.sum(inside), 1)


@functools.partial(jax.jit, static_argnums=1)
def first_slopes(model, attack, numbers, keys, x, goal, allowed):
    """The largest element by which the attack's first gradient changes when the model has none: [R]. nan where the goal
    is met at once, 0 where the model gives a NaN.
    """
    one_attack = looped(made(attack, numbers))
    still = Model(apply=_Still(model.apply), params=model.params)

    def one(key, x, goal, allowed):
        given = problem(x, goal, allowed)
        state = one_attack.init(key, given)
        with_model, without = (one_attack.step(each, given, state).progress for each in (model, still))
        slope = jnp.max(jnp.abs(with_model.last.gradient - without.last.gradient))
        return jnp.where(with_model.last.met, jnp.nan, jnp.where(with_model.finite, slope, 0))

    return by_rows(one, keys, x, goal, allowed)


@dataclasses.dataclass(frozen=True)
class _Still:  # a class and not a closure: equal when the inner function is, so that it compiles once
    apply: Callable[..., Array]

    def __call__(self, params: Any, x: Array, *context: Any) -> Any:
        return lax.stop_gradient(self.apply(params, x, *context))


@functools.partial(jax.jit, static_argnames=("name", "norm"))
def within(model, keys, x, goal, allowed, radius, confidence, *, name, norm) -> Result:
    """A weaker attack on every example, each within a radius [R] of its own."""
    attack = looped(WEAKER[name](epsilon=1.0, norm=norm, objective=negative_margin(confidence)))

    def one(key, x, goal, allowed, radius):
        given = problem(x, goal, allowed)._replace(scale=radius.astype(wide(x)))
        state = attack.init(key, given)
        end = lax.while_loop(lambda state: ~state.progress.done, lambda state: attack.step(model, given, state), state)
        return result_of(end.progress)

    return by_rows(one, keys, x, goal, allowed, radius)


@functools.partial(jax.jit, static_argnames=("attack", "count"))
def drawn(model, attack, numbers, keys, x, goal, allowed, radius, *, count):
    """Noise within a radius [R] around every example: margins (nan where the model gives one) and distances, both
    [R, count].
    """
    distance = made(attack, numbers).terms.distance

    def one(key, given, radius):
        clean = given.x.astype(wide(given.x))
        if distance.norm == "l0":
            change = _few_pixels(key, clean, radius, given.low, given.high, distance.channels(clean.shape))
        else:
            change = radius * NORMS[distance.norm].draw(key, clean)
        image = jnp.where(given.mask, clip(given, clean + change), clean).astype(given.x.dtype)
        logits = model(image, given.context)
        lead = jnp.where(answered(logits), margin(logits, given.goal), jnp.nan)
        return lead, distance.measure(image.astype(clean.dtype) - clean)

    def draws(key, x, goal, allowed, radius):
        given = problem(x, goal, allowed)
        return lax.map(lambda key: one(key, given, radius), jax.random.split(key, count), batch_size=250)

    return lax.map(lambda row: draws(*row), (keys, x, goal, allowed, radius))


def _few_pixels(key, clean, radius, low, high, axis):
    """As many pixels as the radius says, each to one of its bounds: the change. Channels are along that axis."""
    where, values = jax.random.split(key)
    pixels = clean.shape if axis is None else (*clean.shape[:axis], 1, *clean.shape[axis + 1 :])
    order = jax.random.permutation(where, math.prod(pixels)).reshape(pixels)
    chosen = order < radius
    extreme = jnp.where(jax.random.bernoulli(values, jnp.float32(0.5), clean.shape), high, low)
    return jnp.where(chosen, extreme - clean, 0)


@functools.partial(jax.jit, static_argnames="attack")
def rounded(model, attack, numbers, keys, x, goal, allowed, hull, result) -> tuple[Result, Rounding]:
    """A result with 8-bit values between the bounds of the hull, repaired."""
    run = discretised(lambda *_, **bounds: result, between=hull, terms=made(attack, numbers).terms)
    return run(model, keys, x, goal, **allowed._asdict())
