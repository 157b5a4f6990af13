"""What the checks are given: the attack and its result, and what several checks need, computed once and counted.

Checks are driven from the host, like `streamed`, and nobody stands around them who could compile: so the programs here
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
from jaxtyping import Array, Bool, Float, Int

from cwjax.attacks.balls import BALLS
from cwjax.attacks.fgsm import fgsm
from cwjax.attacks.pgd import pgd
from cwjax.base import AnyArray, Attack, Box, Goal, Result, State, problem, wide
from cwjax.boxes import Bound
from cwjax.canonical import canonical
from cwjax.descent import DescentState
from cwjax.distances import DISTANCES
from cwjax.lattice import Rounding, discretised
from cwjax.losses import label_cross_entropy, negative_margin
from cwjax.models import Model
from cwjax.objectives import logit_margin, margin
from cwjax.runners import by_rows, lanes, result_of
from cwjax.searches import Bracket

SHARE, LEAST = 0.05, 8  # the subset that a longer attack is run on: a share of the examples, and at least so many
RADII = (0.9, 1.5, 3.0, 6.0)  # that PGD is run within, of the distance found; the first is where it should fail
_RUNS, _STEPS_AT_ONCE = 5, 50
WEAKER = {"fgsm": functools.partial(fgsm), "pgd": functools.partial(pgd, steps=20, relative_step=0.1)}


class Slopes(NamedTuple):
    """What the model does at the clean inputs; every field has the axis B."""

    margin: Float[Array, "B"]  # by how many logits the goal is met
    slope: Float[Array, "B *S"]  # of the margin
    entropy: Float[Array, "B"]  # the largest element of the slope of the cross-entropy of the model's answer


class Seen(NamedTuple):
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


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """What every check is given."""

    model: Model
    attack: Attack | Callable[..., Attack]
    numbers: Mapping[str, Any]  # of the attack
    longer: Mapping[str, Any]  # of the attack made longer; empty: nobody said how
    x: Array  # [B, *S]
    goal: Goal
    result: Result  # as NumPy arrays
    key: Array
    norm: str
    confidence: float
    lower: Bound
    upper: Bound
    box: Box | None
    largest_c: float | None
    spent: dict[str, int] = dataclasses.field(default_factory=lambda: {"forwards": 0, "backwards": 0})

    def spend(self, forwards: Any, backwards: Any = 0) -> None:
        """Counts passes."""
        self.spent["forwards"] += int(forwards)
        self.spent["backwards"] += int(backwards)

    def rows(self, places: np.ndarray, size: int | None = None) -> tuple[Array, Array, Goal]:
        """Keys, inputs and goals of some examples; of so many, if a size is given, the first ones again. So the shapes
        of the programs depend on the number of examples alone.
        """
        places = np.resize(places, size or len(places))
        keys = jax.random.split(self.key, len(self.x))
        return jax.tree.map(lambda leaf: leaf[jnp.asarray(places)], (keys, self.x, self.goal))

    @functools.cached_property
    def bounds(self) -> tuple[Array, Array]:
        """The lower and the upper bound of every element: [*S], in x's dtype."""
        lower, upper = (np.broadcast_to(np.asarray(bound), self.x.shape[1:]) for bound in (self.lower, self.upper))
        return jnp.asarray(lower, self.x.dtype), jnp.asarray(upper, self.x.dtype)

    @functools.cached_property
    def everyone(self) -> np.ndarray:
        """The places of all examples."""
        return np.arange(len(self.x))

    @functools.cached_property
    def slopes(self) -> Slopes:
        """Of all examples: one forward and two backward passes each."""
        self.spend(len(self.x), 2 * len(self.x))
        return jax.tree.map(np.asarray, _slopes(self.model, self.x, self.goal))

    @functools.cached_property
    def answers(self) -> np.ndarray:
        """What the model says of a few, five times, not compiled: [5, R, K]."""
        x = self.rows(self.few, self.size_of_few)[1]
        self.spend(_RUNS * len(x))
        answers = [np.asarray(self.model.apply(self.model.params, x)) for _ in range(_RUNS)]
        return np.stack(answers)[:, : len(self.few)]

    @functools.cached_property
    def open(self) -> np.ndarray:
        """Which examples did not meet their goal to begin with: bool [B]."""
        lead = np.asarray(self.slopes.margin)
        return ~((lead > 0) & (lead >= self.confidence))

    @functools.cached_property
    def some(self) -> np.ndarray:
        """The subset, drawn from the examples that have something to be attacked for; from all if there are none."""
        pool = np.flatnonzero(self.open) if self.open.any() else self.everyone
        order = np.asarray(jax.random.permutation(self.key, len(pool)))
        return pool[order[: self.size_of_some]]

    @property
    def few(self) -> np.ndarray:
        """A few of the subset, however large it is."""
        return self.some[:LEAST]

    @property
    def size_of_some(self) -> int:
        """How many `some` are where that many examples have something to be attacked for."""
        return min(max(LEAST, math.ceil(SHARE * len(self.x))), len(self.x))

    @property
    def size_of_few(self) -> int:
        """Likewise of `few`."""
        return min(LEAST, len(self.x))

    @functools.cached_property
    def path(self) -> Seen:
        """The attack on a few, step by step."""
        return self._followed(self.numbers, self.few, self.size_of_few)

    @functools.cached_property
    def longer_path(self) -> Seen:
        """The longer attack on the subset."""
        return self._followed(self.longer, self.some, self.size_of_some)

    def _followed(self, numbers: Mapping[str, Any], places: np.ndarray, size: int) -> Seen:
        keys, x, goal = self.rows(places, size)
        states, parts = _begun(self.attack, dict(numbers), keys, x, goal), []
        while not parts or not parts[-1].done[-1].all():
            states, part = _followed(self.model, self.attack, dict(numbers), self.box, x, goal, states)
            parts.append(jax.tree.map(np.asarray, part))
        self.spend(states.progress.forwards.sum(), states.progress.backwards.sum())
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:, : len(places)], *parts)

    @functools.cached_property
    def first_slopes(self) -> np.ndarray:
        """The largest element of what the model adds to the attack's own gradient at its first step, on a few; nan
        where there is nothing to do.
        """
        keys, x, goal = self.rows(self.few, self.size_of_few)
        self.spend(2 * len(x), len(x))
        slopes = _first_slopes(self.model, self.attack, dict(self.numbers), keys, x, goal)
        return np.asarray(slopes)[: len(self.few)]

    def within(self, name: str, places: np.ndarray, radius: np.ndarray, norm: str, size: int) -> np.ndarray:
        """What a weaker attack comes to on some examples, each within a radius: distances [R], inf where it fails.

        Args:
          name: a key of WEAKER.
          places: [R]: which examples.
          radius: [R].
          norm: of the radius.
          size: see `rows`.
        """
        keys, x, goal = self.rows(places, size)
        radius = np.resize(radius.astype(np.float32), size)
        result = _within(
            self.model, keys, x, goal, jnp.asarray(radius), self.confidence, self.bounds, name=name, norm=norm
        )
        self.spend(result.forwards.sum(), result.backwards.sum())
        return np.asarray(result.distance)[: len(places)]

    def drawn(self, places: np.ndarray, radius: np.ndarray, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Noise within a radius around some examples, `count` draws each: margins and distances, both [R, count]."""
        keys, x, goal = self.rows(places, size)
        radius = np.resize(radius, size)
        self.spend(count * len(x))
        drawn = _drawn(self.model, keys, x, goal, jnp.asarray(radius), self.bounds, norm=self.norm, count=count)
        lead, distance = (np.asarray(each)[: len(places)] for each in drawn)
        return lead, distance

    def rounded(self, places: np.ndarray) -> tuple[Result, Rounding]:
        """Some of the results with 8-bit values, repaired."""
        keys, x, goal = self.rows(places, self.size_of_few)
        result = jax.tree.map(lambda leaf: jnp.asarray(leaf[np.resize(places, self.size_of_few)]), self.result)
        after, cost = _rounded(self.model, keys, x, goal, result, self.confidence, self.bounds, norm=self.norm)
        self.spend((after.forwards - result.forwards).sum(), (after.backwards - result.backwards).sum())
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(places)], (after, cost))

    @functools.cached_property
    def reach(self) -> np.ndarray:
        """The distance of each example; where it was not fooled, half the size of the box: float32 [B]."""
        lower, upper = (bound.astype(wide(self.x)) for bound in self.bounds)
        extent = float(DISTANCES[self.norm].measure(upper - lower))
        return np.where(self.result.success, self.result.distance, extent / 2).astype(np.float32)

    @functools.cached_property
    def climbs(self) -> np.ndarray:
        """What PGD comes to on a few within each of RADII: distances [4, R], inf where it fails."""
        radius = np.concatenate([share * self.reach[self.few] for share in RADII])
        places = np.tile(self.few, len(RADII))
        found = self.within("pgd", places, radius, self.norm, len(RADII) * self.size_of_few)
        return found.reshape(len(RADII), -1)


def _made(attack: Attack | Callable[..., Attack], numbers: dict[str, Any]) -> Attack:
    return attack if isinstance(attack, Attack) else attack(**numbers)


def _parts(state: State, kind: type) -> list[Any]:
    """The parts of an attack's state that are of a kind, wherever they lie in it."""
    found = jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, kind))
    return [part for part in found if isinstance(part, kind)]


@jax.jit
def _slopes(model: Model, x: Array, goal: Goal) -> Slopes:
    @canonical
    def one(x, goal):
        logits, pull = jax.vjp(model, x)
        lead, away = jax.value_and_grad(margin)(logits, goal)
        answer = Goal(label=jnp.argmax(logits).astype(jnp.int32), sign=-jnp.ones_like(goal.sign))
        blind = jax.grad(label_cross_entropy().loss)(logits, answer)
        slope, entropy = (pull(each.astype(logits.dtype))[0].astype(wide(x)) for each in (away, blind))
        return Slopes(margin=lead, slope=slope, entropy=jnp.max(jnp.abs(entropy)))

    return by_rows(one, x, goal)


@functools.partial(jax.jit, static_argnums=0)
def _begun(attack, numbers, keys, x, goal) -> State:
    return lanes(_made(attack, numbers)).begin(keys, x, goal)


@functools.partial(jax.jit, static_argnums=(1, 3))
def _followed(model, attack, numbers, box, x, goal, states) -> tuple[State, Any]:
    """Some steps on, and what was seen after each of them."""
    advance = lanes(_made(attack, numbers)).advance

    def step(states, _):
        states = advance(model, x, goal, states, 1)
        return states, jax.vmap(lambda x, state: _look(box, x, state))(x, states)

    return lax.scan(step, states, length=_STEPS_AT_ONCE)


def _look(box, x, state) -> Seen:
    progress, none = state.progress, jnp.full((), jnp.nan, jnp.float32)
    descents, brackets = _parts(state, DescentState), _parts(state, Bracket)
    saturated = _saturated(box, x, descents[0].w) if descents and box is not None else none
    knob = brackets[0] if brackets else Bracket(c=none, lower=none, upper=none, rounds=jnp.zeros((), jnp.int32))
    return Seen(
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


def _saturated(box, x, w):
    """The share of the elements inside the box, by more than a thousandth, that a change of w no longer moves.

    One on a bound starts without a slope worth the name (`change_of_variables`), and is meant to.
    """
    _, slope = jax.jvp(lambda w: box.decode(w).inside, (w,), (jnp.ones_like(w),))
    _, clean = jax.jvp(lambda w: box.decode(w).inside, (box.encode(x),), (jnp.ones_like(w),))
    inside = jnp.abs(clean) > 1e-3
    return jnp.sum(inside & (jnp.abs(slope) < 1e-6)) / jnp.maximum(jnp.sum(inside), 1)


@functools.partial(jax.jit, static_argnums=1)
def _first_slopes(model, attack, numbers, keys, x, goal):
    """By how much the attack's first gradient changes when the model has none."""
    made = _made(attack, numbers)
    still = Model(apply=_Still(model.apply), params=model.params)

    def one(key, x, goal):
        given = problem(x, goal)
        state = made.init(key, given)
        with_model, without = (canonical(made.step)(each, given, state).progress for each in (model, still))
        slope = jnp.max(jnp.abs(with_model.last.gradient - without.last.gradient))
        return jnp.where(with_model.last.met, jnp.nan, jnp.where(with_model.finite, slope, 0))

    return by_rows(one, keys, x, goal)


@dataclasses.dataclass(frozen=True)
class _Still:  # a class and not a closure: equal when the inner function is, so that it compiles once
    apply: Callable[..., Array]

    def __call__(self, params: Any, x: Array) -> Array:
        return lax.stop_gradient(self.apply(params, x))


@functools.partial(jax.jit, static_argnames=("name", "norm"))
def _within(model, keys, x, goal, radius, confidence, bounds, *, name, norm) -> Result:
    lower, upper = bounds
    objective = negative_margin(confidence)
    attack = WEAKER[name](epsilon=1.0, norm=norm, objective=objective, lower=lower, upper=upper)
    step = canonical(attack.step)

    def one(key, x, goal, radius):
        given = problem(x, goal)._replace(scale=radius.astype(wide(x)))
        state = attack.init(key, given)
        end = lax.while_loop(lambda state: ~state.progress.done, lambda state: step(model, given, state), state)
        return result_of(end.progress)

    return by_rows(one, keys, x, goal, radius)


@functools.partial(jax.jit, static_argnames=("norm", "count"))
def _drawn(model, keys, x, goal, radius, bounds, *, norm, count):
    lower, upper = (bound.astype(wide(x)) for bound in bounds)

    def one(key, x, goal, radius):
        clean = x.astype(wide(x))
        change = (
            _few_pixels(key, clean, radius, lower, upper) if norm == "l0" else radius * BALLS[norm].draw(key, clean)
        )
        image = jnp.clip(clean + change, lower, upper).astype(x.dtype)
        logits = model(image)
        lead = jnp.where(jnp.isfinite(logits).all(), margin(logits, goal), jnp.nan)
        return lead, DISTANCES[norm].measure(image.astype(clean.dtype) - clean)

    def draws(key, x, goal, radius):
        return lax.map(lambda key: one(key, x, goal, radius), jax.random.split(key, count), batch_size=250)

    return lax.map(lambda row: draws(*row), (keys, x, goal, radius))


def _few_pixels(key, clean, radius, lower, upper):
    """As many pixels as the radius says, each to one of its bounds: the change."""
    where, values = jax.random.split(key)
    pixels = clean.shape[:-1] if clean.ndim == 3 else clean.shape  # as `distances.l0` counts them
    order = jax.random.permutation(where, math.prod(pixels)).reshape(pixels)
    chosen = order < radius
    extreme = jnp.where(jax.random.bernoulli(values, 0.5, clean.shape), upper, lower)
    return jnp.where(chosen[..., None] if clean.ndim == 3 else chosen, extreme - clean, 0)


@functools.partial(jax.jit, static_argnames="norm")
def _rounded(model, keys, x, goal, result, confidence, bounds, *, norm) -> tuple[Result, Rounding]:
    lower, upper = bounds
    parts = {"objective": logit_margin(confidence), "distance": DISTANCES[norm], "lower": lower, "upper": upper}
    return discretised(lambda *_: result, **parts)(model, keys, x, goal)
