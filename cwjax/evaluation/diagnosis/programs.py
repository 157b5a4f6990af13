"""What the checks compile of an attack: it is followed step by step.

Checks are driven from the host, like `streamed`, and no caller around them could compile. So these programs, and those
of `asking`, `weaker` and `repairing`, call `jax.jit` themselves. They are made once for a shape and an attack, whatever
its numbers.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cwjax.base import AnyArray, Attack, State
from cwjax.descent import Descent
from cwjax.loop import IteratedState
from cwjax.models import Model
from cwjax.problems import problem
from cwjax.runners.batch import lanes
from cwjax.search.bisection import Bracket

_STEPS_AT_ONCE = 50


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


@functools.partial(jax.jit, static_argnums=0)
def begun(attack, numbers, keys, x, goal, allowed) -> State:
    """The states of an attack before its first step."""
    return lanes(made(attack, numbers)).begin(keys, x, goal, allowed)


def followed(model, attack, numbers, x, goal, allowed, states, *, steps=50, seeing=True) -> tuple[State, Any]:
    """The states of an attack some steps on, at most fifty, and what was seen after each of them.

    Where `seeing` is False the attack gets no slope from the model.
    """
    return _followed(model, attack, numbers, x, goal, allowed, states, jnp.int32(steps), jnp.bool_(seeing))


@functools.partial(jax.jit, static_argnums=1)
def _followed(model, attack, numbers, x, goal, allowed, states, steps, seeing):
    one_attack = made(attack, numbers)
    advance, box = lanes(one_attack).advance, one_attack.terms.box
    shown = Model(apply=_Seen(model.apply), params=(model.params, seeing))

    def step(states, place):
        states = advance(shown, x, goal, states, (place < steps).astype(jnp.int32), allowed)
        return states, jax.vmap(functools.partial(_look, box))(x, goal, allowed, states)

    return lax.scan(step, states, jnp.arange(_STEPS_AT_ONCE))


@dataclasses.dataclass(frozen=True)
class _Seen:  # a class and not a closure: equal when the inner function is, so that it compiles once
    apply: Callable[..., Array]

    def __call__(self, params: Any, x: Array, *context: Any) -> Any:
        inner, seeing = params
        return self.apply(inner, jnp.where(seeing, x, lax.stop_gradient(x)), *context)


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


def first_slopes(model, attack, numbers, keys, x, goal, allowed) -> np.ndarray:
    """The largest element by which the attack's first gradient changes when the model has none: [R]. nan where the goal
    is met at once, 0 where the model gives a NaN.
    """
    before = begun(attack, numbers, keys, x, goal, allowed)
    with_model, without = (
        jax.tree.map(
            np.asarray, followed(model, attack, numbers, x, goal, allowed, before, steps=1, seeing=seeing)[0].progress
        )
        for seeing in (True, False)
    )
    change = np.abs(with_model.last.gradient - without.last.gradient).reshape(len(x), -1).max(1)
    return np.where(with_model.last.met, np.nan, np.where(with_model.finite, change, 0))
