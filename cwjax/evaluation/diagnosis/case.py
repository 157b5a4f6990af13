"""What the checks are given: the attack and its result, and what several checks need, computed once and counted."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree

from cwjax.base import AnyArray, Attack, Goal, LabelGoal, Objective, Outputs, Result, Terms, answered, wide
from cwjax.evaluation.diagnosis import asking, programs, repairing, weaker
from cwjax.evaluation.diagnosis.asking import Slopes
from cwjax.evaluation.diagnosis.programs import Followed
from cwjax.goals import targeted
from cwjax.models import Model
from cwjax.problems import Allowed
from cwjax.runners.rounding import Rounding

FEW = 8  # examples for what costs little
RERUN = (2, 256, 0.05)  # examples that a longer attack is run on: at least, at most, and which share of all
RADII = (0.9, 1.5, 3.0, 6.0)  # that PGD is run within, of the distance found; the first is where it should fail
_ROUNDING = 1e-5  # of answers, as a share of the largest
DRAWS = 100  # of noise, for checks of the model
_RUNS = 5
_AT_ONCE = 256  # examples that a model is asked about that is not compiled


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
        keys = jax.random.wrap_key_data(jnp.asarray(self._keys[places]), impl=jax.random.key_impl(self.key))
        return keys, *jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[places]), (self.x, goal, allowed))

    @functools.cached_property
    def _keys(self) -> np.ndarray:
        return np.asarray(jax.random.key_data(jax.random.split(self.key, len(self.x))))

    @functools.cached_property
    def repeatable(self) -> bool:
        """Whether a compiled program says of the model what its Python code would say: see `asking.repeatable`."""
        _, x, _, allowed = self.rows(self.few, self.block)
        return asking.repeatable(self.model, x, allowed.context, _RUNS)

    def outputs(self, model: Model, x: ArrayLike, places: np.ndarray) -> np.ndarray:
        """What the model, or that of the view, says of some inputs [R, *S], all arrays of it in one row: [R, N]. It is
        told the context of the examples at these places [R].

        The model alone is asked, at the highest precision: one compiled program for all inputs, in blocks. One whose
        Python code does not repeat itself is not compiled, so that nothing that it draws is frozen.
        """
        allowed = self.allowed if model is self.model else self.view.allowed
        context, size = jax.tree.map(lambda leaf: np.asarray(leaf)[places], allowed.context), self.block
        if self.repeatable:
            self.spend(self.filled(len(places)))
            ask = functools.partial(asking.outputs, model)
        else:
            self.spend(len(places))
            ask, size = lambda x, context: model.of_batch(jnp.asarray(x), context), min(len(places), _AT_ONCE)
        with jax.default_matmul_precision("highest"):
            leaves = jax.tree.leaves(asking.by_blocks(ask, size, x, context))
        return np.concatenate([leaf.reshape(len(places), -1) for leaf in leaves], -1)

    def leads(self, x: ArrayLike, places: np.ndarray) -> np.ndarray:
        """The margins [R] of inputs made of the examples at these places, which the view's model sees one by one; nan
        where it gives a NaN.
        """
        _, goal, allowed = self.view
        goal, context = jax.tree.map(lambda leaf: np.asarray(leaf)[places], (goal, allowed.context))
        self.spend(self.filled(len(places)))
        return asking.by_blocks(self._lead, self.block, x, goal, context)

    def _lead(self, x: AnyArray, goal: LabelGoal, context: PyTree) -> Array:
        """The margins of a block. Where it makes no difference, the program of `outputs` serves."""
        if not (self.classifier and self.separate):
            return asking.leads(self.view.model, x, goal, context)
        with jax.default_matmul_precision("highest"):
            return asking.leads_of(asking.outputs(self.model, x, context), goal)

    @functools.cached_property
    def together_and_alone(self) -> tuple[np.ndarray, np.ndarray]:
        """What the model says of a few [R, N] in a batch of them all and of their negatives, and alone."""
        low, high = map(np.asarray, self.bounds)
        x, places = np.asarray(self.rows(self.few)[1]), self.few
        together = self.outputs(self.model, np.concatenate([x, (low + high)[None] - x]), np.tile(places, 2))
        alone = [self.outputs(self.model, x[i : i + 1], places[i : i + 1]) for i in range(len(places))]
        return together[: len(places)], np.concatenate(alone)

    @property
    def separate(self) -> bool:
        """Whether a compiled batch tells of each example what the model says of it alone, up to rounding."""
        together, alone = self.together_and_alone
        close = np.abs(together - alone) <= _ROUNDING * np.abs(alone).max(-1, keepdims=True)
        return self.repeatable and bool(close.all())

    @property
    def block(self) -> int:
        """How many examples the model is asked about at once: few are four times in it."""
        return 4 * self.size_of_few

    def filled(self, count: int) -> int:
        """How many passes `count` examples cost, because blocks are filled up."""
        return -(-count // self.block) * self.block

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
        """Of all examples: two forward and two backward passes each."""
        spent = 2 * self.filled(len(self.x))
        self.spend(spent, spent)
        model, goal, allowed = self.view
        return asking.slopes(model, self.x, goal, allowed.context, block=self.block)

    @functools.cached_property
    def steepest(self) -> np.ndarray:
        """The largest element of the margin's slope at each clean input: [B]."""
        return np.abs(self.slopes.slope.reshape(len(self.x), -1)).max(1)

    @functools.cached_property
    def answers(self) -> np.ndarray:
        """What the model says of a few, five times: [5, R, N]."""
        x = self.rows(self.few)[1]
        return np.stack([self.outputs(self.model, x, self.few) for _ in range(_RUNS)])

    @functools.cached_property
    def noise(self) -> np.ndarray:
        """Shares of the box for as many images as are few, each many times: [DRAWS, R, *S] in [0, 1)."""
        seed = np.asarray(jax.random.key_data(self.key)).ravel().tolist()
        shape = (DRAWS, self.size_of_few, *self.x.shape[1:])
        return np.random.default_rng(seed).random(shape, np.float32).astype(self.x.dtype)

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
        size = min(self.size_of_few, self.size_of_some)  # that of `path`, whose program this is
        parts = []
        for first in range(0, len(self.few), size):
            rows = self.rows(self.few[first : first + size], size)
            parts.append(programs.first_slopes(self.model, self.attack, dict(self.numbers), *rows))
            self.spend(2 * size, 2 * size)
        return np.concatenate(parts)[: len(self.few)]

    def within(self, name: str, places: np.ndarray, radius: np.ndarray, norm: str) -> np.ndarray:
        """What a weaker attack comes to on some examples, each within a radius: distances [R], inf where it fails.

        It knows no costs of elements. Where the attack has some, its radius is divided by their mean, and what it finds
        is measured as what the attack finds.

        Args:
          name: "fgsm" or "pgd".
          places: [R]: which examples.
          radius: [R].
          norm: of the radius.
        """
        priced = norm == self.norm and bool(np.any(np.asarray(self.terms.distance.cost) != 1))
        length = radius / self.price if priced else radius
        given = (*self.viewed(places), length.astype(np.float32), self.confidence)
        result, asked = weaker.within(self.view.model, *given, name=name, norm=norm, block=self.block)
        self.spend(asked * self.block, asked * self.block)
        if not priced:
            return np.asarray(result.distance)
        paid = jax.vmap(self.terms.distance.measure)(jnp.asarray(result.x) - self.x[places])
        return np.where(result.success, paid, np.inf)

    @functools.cached_property
    def price(self) -> float:
        """What an element costs in the mean; 1 where elements have no costs."""
        return float(np.mean(self.terms.distance.cost))

    def drawn(self, places: np.ndarray, radius: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Noise within a radius around some examples, `count` draws each: margins and distances, both [R, count]."""
        self.spend(self.filled(count) * len(places))
        given = (self.attack, dict(self.numbers), *self.viewed(places), jnp.asarray(radius / self.price))
        lead, distance = weaker.drawn(self._lead, *given, count=count, block=self.block)
        return lead, distance

    def rounded(self, places: np.ndarray) -> tuple[Result, Rounding]:
        """Some of the results with 8-bit values, repaired."""
        size = self.block if self.classifier else self.size_of_few
        keys, x, goal, allowed = self.rows(places, size)
        result = jax.tree.map(lambda leaf: leaf[np.resize(places, size)], self.result)
        given, numbers = (x, goal, allowed, self.bounds, result), dict(self.numbers)
        if self.classifier:
            after, cost, asked = repairing.rounded(self.model, self.attack, numbers, *given)
            self.spend(asked * size, asked * size)
        else:
            after, cost = repairing.rounded_outputs(self.model, self.attack, numbers, keys, *given)
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
        found = self.within("pgd", places, radius, self.norm)
        return found.reshape(len(RADII), -1)


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
