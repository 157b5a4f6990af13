"""What the checks are given: the attack and its result, and what several checks need, computed once and counted."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cwjax.base import Attack, Goal, LabelGoal, Objective, Outputs, Result, Terms, answered, wide
from cwjax.evaluation.diagnosis import programs
from cwjax.evaluation.diagnosis.programs import Followed, Slopes
from cwjax.goals import targeted
from cwjax.models import Model
from cwjax.problems import Allowed
from cwjax.runners.rounding import Rounding

FEW = 8  # examples for what costs little
RERUN = (2, 256, 0.05)  # examples that a longer attack is run on: at least, at most, and which share of all
RADII = (0.9, 1.5, 3.0, 6.0)  # that PGD is run within, of the distance found; the first is where it should fail
_RUNS = 5


class View(NamedTuple):
    """The task as a classifier's, for checks that go by a margin of logits."""

    model: Model
    goal: LabelGoal
    allowed: Allowed


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """What every check is given."""

    model: Model
    attack: Attack | Callable[..., Attack]
    numbers: Mapping[str, Any]  # of the attack
    longer: Mapping[str, Any]  # of the attack made longer; empty: nobody said how
    x: Array  # [B, *S]
    goal: Goal
    allowed: Allowed  # fields [B, *S]
    result: Result  # as NumPy arrays
    key: Array
    largest_c: float | None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # all that the attack can be told, by name
    name: str = ""  # of the attack
    index: np.ndarray | None = None  # int64 [B]: the place of every example in its source
    spent: dict[str, int] = dataclasses.field(default_factory=lambda: {"forwards": 0, "backwards": 0})

    @functools.cached_property
    def terms(self) -> Terms:
        """Of the attack: its objective, distance and box."""
        return programs.made(self.attack, self.numbers).terms

    @functools.cached_property
    def classifier(self) -> bool:
        """Whether the model returns logits of classes, and nothing else."""
        return self.terms.objective.logits is Objective._field_defaults["logits"]

    @functools.cached_property
    def view(self) -> View:
        """The task as that of a classifier: itself, if it is one. Else the two logits (0, s), of which the second is to
        be reached: s is what the attack's loss is below 0, and at least the confidence exactly where the goal is met.
        """
        objective, model = self.terms.objective, self.model
        if self.classifier:
            return View(model, self.goal, self.allowed)
        if objective.logits is not None:
            return View(Model(_Logits(model.apply, objective.logits), model.params), self.goal, self.allowed)
        allowed = self.allowed._replace(context=(self.goal, self.allowed.context))
        return View(
            Model(_TwoLogits(model.apply, objective), model.params), targeted(np.ones(len(self.x), int)), allowed
        )

    @property
    def norm(self) -> str:
        """That the attack minimises: "l0", "l1", "l2" or "linf"."""
        return self.terms.distance.norm

    @property
    def confidence(self) -> float:
        """The margin that the attack asks for, in logits or in the unit of the objective."""
        return float(self.terms.objective.confidence)

    def spend(self, forwards: Any, backwards: Any = 0) -> None:
        """Counts passes."""
        self.spent["forwards"] += int(forwards)
        self.spent["backwards"] += int(backwards)

    def rows(self, places: np.ndarray, size: int | None = None) -> tuple[Array, Array, Goal, Allowed]:
        """Keys, inputs, goals and bounds of some examples. If a size is given, examples are repeated up to that number,
        so that the shapes of the programs depend on the number of all examples alone.
        """
        return self._rows(places, size, self.goal, self.allowed)

    def viewed(self, places: np.ndarray, size: int | None = None) -> tuple[Array, Array, LabelGoal, Allowed]:
        """The same, of the view."""
        return self._rows(places, size, self.view.goal, self.view.allowed)

    def _rows(self, places: np.ndarray, size: int | None, goal: Any, allowed: Allowed) -> tuple[Any, ...]:
        places = np.resize(places, size or len(places))
        keys = jax.random.split(self.key, len(self.x))
        return jax.tree.map(lambda leaf: leaf[jnp.asarray(places)], (keys, self.x, goal, allowed))

    def outputs(self, x: Array, places: np.ndarray) -> Array:
        """What the model says of some inputs [R, *S], not compiled, all arrays of it in one row: [R, N]. They are told
        the context of the examples at these places [R].
        """
        context = jax.tree.map(lambda leaf: leaf[jnp.asarray(places)], self.allowed.context)
        leaves = jax.tree.leaves(self.model.of_batch(x, context))
        return jnp.concatenate([leaf.reshape(len(x), -1) for leaf in leaves], -1)

    def meets(self, lead: np.ndarray) -> np.ndarray:
        """Whether margins, in logits, meet their goals with the attack's confidence."""
        return (lead > 0) & (lead >= self.confidence)

    @functools.cached_property
    def names(self) -> list[str]:
        """What a message calls every example: its place in its source, and the target of a targeted one."""
        index, goal = self.everyone if self.index is None else self.index, jax.tree.map(np.asarray, self.goal)
        if not isinstance(goal, LabelGoal):
            return [str(place) for place in index.tolist()]
        targets = zip(index.tolist(), goal.label.tolist(), (goal.sign > 0).tolist(), strict=True)
        return [f"{place} (target {label})" if reach else str(place) for place, label, reach in targets]

    @functools.cached_property
    def bounds(self) -> tuple[Array, Array]:
        """The least and the largest value of every element in any example: [*S], in x's dtype."""
        low, high = jnp.min(self.allowed.low, 0), jnp.max(self.allowed.high, 0)
        return low.astype(self.x.dtype), high.astype(self.x.dtype)

    @functools.cached_property
    def free(self) -> bool:
        """Whether every element may change."""
        roomy = jnp.all(jnp.asarray(self.allowed.high) > self.allowed.low)
        return bool(roomy and (self.allowed.mask is None or jnp.all(self.allowed.mask)))

    @functools.cached_property
    def everyone(self) -> np.ndarray:
        """The places of all examples."""
        return np.arange(len(self.x))

    @functools.cached_property
    def slopes(self) -> Slopes:
        """Of all examples: one forward and two backward passes each."""
        self.spend(len(self.x), 2 * len(self.x))
        model, goal, allowed = self.view
        return jax.tree.map(np.asarray, programs.slopes(model, self.x, goal, allowed.context))

    @functools.cached_property
    def steepest(self) -> np.ndarray:
        """The largest element of the margin's slope at each clean input: [B]."""
        return np.abs(self.slopes.slope.reshape(len(self.x), -1)).max(1)

    @functools.cached_property
    def answers(self) -> np.ndarray:
        """What the model says of a few, five times, not compiled: [5, R, K]."""
        x, places = self.rows(self.few, self.size_of_few)[1], np.resize(self.few, self.size_of_few)
        self.spend(_RUNS * len(x))
        answers = [np.asarray(self.outputs(x, places)) for _ in range(_RUNS)]
        return np.stack(answers)[:, : len(self.few)]

    @functools.cached_property
    def open(self) -> np.ndarray:
        """Which examples did not meet their goal to begin with: bool [B]."""
        return ~self.meets(np.asarray(self.slopes.margin))

    @functools.cached_property
    def shuffled(self) -> np.ndarray:
        """The examples that have something to be attacked for, in an order that is drawn; all, if there are none."""
        pool = np.flatnonzero(self.open) if self.open.any() else self.everyone
        return pool[np.asarray(jax.random.permutation(self.key, len(pool)))]

    @property
    def size_of_few(self) -> int:
        """How many `few` are, where that many examples have something to be attacked for."""
        return min(FEW, len(self.x))

    @property
    def few(self) -> np.ndarray:
        """The subset for what costs little."""
        return self.shuffled[: self.size_of_few]

    @property
    def size_of_some(self) -> int:
        """Likewise of `some`."""
        least, most, share = RERUN
        return min(max(least, min(FEW, len(self.x) // FEW), math.ceil(share * len(self.x))), most, len(self.x))

    @property
    def some(self) -> np.ndarray:
        """The subset that a longer attack is run on."""
        return self.shuffled[: self.size_of_some]

    @property
    def watched(self) -> np.ndarray:
        """The subset that the attack itself is followed on: the part of `few` that is in `some`."""
        return self.some[: self.size_of_few]

    @functools.cached_property
    def path(self) -> Followed:
        """The attack on those that are watched, step by step."""
        return self._followed(self.numbers, self.watched, min(self.size_of_few, self.size_of_some))

    @functools.cached_property
    def longer_path(self) -> Followed:
        """The longer attack on the subset."""
        return self._followed(self.longer, self.some, self.size_of_some)

    def _followed(self, numbers: Mapping[str, Any], places: np.ndarray, size: int) -> Followed:
        rows = self.rows(places, size)
        states, parts = programs.begun(self.attack, dict(numbers), *rows), []
        while not parts or not parts[-1].done[-1].all():
            states, part = programs.followed(self.model, self.attack, dict(numbers), *rows[1:], states)
            parts.append(jax.tree.map(np.asarray, part))
        self.spend(states.progress.forwards.sum(), states.progress.backwards.sum())
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:, : len(places)], *parts)

    @functools.cached_property
    def first_slopes(self) -> np.ndarray:
        """The largest element of what the model adds to the attack's own gradient at its first step, on a few; nan
        where there is nothing to do.
        """
        rows = self.rows(self.few, self.size_of_few)
        self.spend(2 * self.size_of_few, self.size_of_few)
        slopes = programs.first_slopes(self.model, self.attack, dict(self.numbers), *rows)
        return np.asarray(slopes)[: len(self.few)]

    def within(self, name: str, places: np.ndarray, radius: np.ndarray, norm: str, size: int) -> np.ndarray:
        """What a weaker attack comes to on some examples, each within a radius: distances [R], inf where it fails.

        Args:
          name: "fgsm" or "pgd".
          places: [R]: which examples.
          radius: [R].
          norm: of the radius.
          size: see `rows`.
        """
        given = (*self.viewed(places, size), jnp.asarray(np.resize(radius.astype(np.float32), size)), self.confidence)
        result = programs.within(self.view.model, *given, name=name, norm=norm)
        self.spend(result.forwards.sum(), result.backwards.sum())
        return np.asarray(result.distance)[: len(places)]

    def drawn(self, places: np.ndarray, radius: np.ndarray, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Noise within a radius around some examples, `count` draws each: margins and distances, both [R, count]."""
        self.spend(count * size)
        given = (self.attack, dict(self.numbers), *self.viewed(places, size), jnp.asarray(np.resize(radius, size)))
        drawn = programs.drawn(self.view.model, *given, count=count)
        lead, distance = (np.asarray(each)[: len(places)] for each in drawn)
        return lead, distance

    def rounded(self, places: np.ndarray) -> tuple[Result, Rounding]:
        """Some of the results with 8-bit values, repaired."""
        rows = self.rows(places, self.size_of_few)
        result = jax.tree.map(lambda leaf: jnp.asarray(leaf[np.resize(places, self.size_of_few)]), self.result)
        after, cost = programs.rounded(self.model, self.attack, dict(self.numbers), *rows, self.bounds, result)
        self.spend((after.forwards - result.forwards).sum(), (after.backwards - result.backwards).sum())
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(places)], (after, cost))

    @functools.cached_property
    def reach(self) -> np.ndarray:
        """The distance of each example; where it was not fooled, half the size of the box: float32 [B]."""
        low, high = (bound.astype(wide(self.x)) for bound in self.bounds)
        extent = float(self.terms.distance.measure(high - low))
        return np.where(self.result.success, self.result.distance, extent / 2).astype(np.float32)

    @functools.cached_property
    def climbs(self) -> np.ndarray:
        """What PGD comes to on a few within each of RADII: distances [4, R], inf where it fails."""
        radius = np.concatenate([share * self.reach[self.few] for share in RADII])
        places = np.tile(self.few, len(RADII))
        found = self.within("pgd", places, radius, self.norm, len(RADII) * self.size_of_few)
        return found.reshape(len(RADII), -1)


@dataclasses.dataclass(frozen=True, eq=False)
class _Logits:
    apply: Callable[..., Outputs]
    logits: Callable[[Outputs], Array]

    def __call__(self, params: Any, x: Array, *context: Any) -> Array:
        return jax.vmap(self.logits)(self.apply(params, x, *context))


@dataclasses.dataclass(frozen=True, eq=False)
class _TwoLogits:
    apply: Callable[..., Outputs]
    objective: Objective

    def __call__(self, params: Any, x: Array, context: Any) -> Array:
        goal, inner = context
        outputs = Model(self.apply, params).of_batch(x, inner)
        lead = jax.vmap(self._lead)(outputs, goal)
        return jnp.stack([jnp.zeros_like(lead), lead], -1)

    def _lead(self, outputs: Outputs, goal: Goal) -> Array:
        lead, met = -jnp.sum(self.objective.loss(outputs, goal)), self.objective.met(outputs, goal)
        least = jnp.asarray(self.objective.confidence, lead.dtype) + 1e-6
        return jnp.where(answered(outputs), jnp.where(met, jnp.maximum(lead, 0) + least, lead), jnp.nan)
