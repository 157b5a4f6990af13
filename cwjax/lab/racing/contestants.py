"""Who runs in a race: an attack held to a number of propagations, and what it came to.

A *propagation* is a forward or a backward pass of one image, so that a gradient is two of them. This is how AttackBench
(Cinà et al., 2024) counts.
"""

import inspect
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.arguments import check_number
from cwjax.base import Attack, Distance, LabelGoal, Result
from cwjax.evaluation.metrics import successes
from cwjax.lab.files import compiling
from cwjax.models import Model
from cwjax.parts import distances

RACED: Mapping[str, Distance] = distances.DISTANCES | {"l0_elements": distances.l0(per_pixel=False)}
"""What can be raced for, by name. L0 counts pixels, as everywhere; "l0_elements" counts elements, as most other
libraries do.
"""

AT_ONCE = 256  # examples


class Task(NamedTuple):
    """What every contestant is given: B examples, each answered rightly."""

    model: Model
    x: np.ndarray  # float32 [B, *S]
    label: np.ndarray  # int32 [B]
    target: np.ndarray  # int32 [B]; -1: untargeted
    norm: str  # to be small: a key of RACED
    budget: int  # propagations an example
    classes: int
    seed: int
    confidence: float = 0.0  # logits by which the goal has to be met
    settings: Mapping[str, float | int] = MappingProxyType({})  # numbers of the attack, instead of its entry's own

    @property
    def targeted(self) -> bool:
        """Whether there are targets."""
        return bool((self.target >= 0).all())

    def goal(self) -> LabelGoal:
        """The goals of all examples."""
        return cw.targeted(self.target, labels=self.label) if self.targeted else cw.untargeted(self.label)

    def distance(self, x: np.ndarray) -> np.ndarray:
        """How far each of some images is from its clean one, float64 [B]; inf where it does not meet its goal."""
        model = cw.in_precision(self.model, "highest")
        met = np.asarray(successes(model, jnp.asarray(x), self.goal(), confidence=self.confidence))
        size = np.asarray(jax.vmap(RACED[self.norm].measure)(jnp.asarray(x) - self.x), np.float64)
        return np.where(met, size, np.inf)


class Outcome(NamedTuple):
    """What came of it. Passes were counted outside the attack, or found to be what an outside count says."""

    x: np.ndarray  # float32 [B, *S]: what it returned
    forwards: np.ndarray  # int64 [B]
    backwards: np.ndarray  # int64 [B]
    refused: np.ndarray  # int64 [B]: propagations that it asked for beyond the budget, and did not get
    watched: np.ndarray  # int64 [V]: the examples whose every query was looked at
    queried: np.ndarray  # float64 [V]: of these, the smallest distance among the queries that met the goal; or inf
    curve: np.ndarray  # float32 [B, T]: the best distance after each step; T = 0 where that is not known
    seconds: float  # without those of compiling
    compiling: float  # seconds


Make: TypeAlias = Callable[..., Attack]
"""(norm, steps to spend, classes, **numbers) -> the attack; each number may be left out."""

Numbers: TypeAlias = Mapping[str, float | int | None]
"""Keyword arguments of an attack that take a number, with their values; None: the attack finds its own."""

DECIDED = ("steps", "num_classes")
"""Keyword arguments that the race decides: by the budget and the data."""


class Contestant(NamedTuple):
    """An attack in a race."""

    norms: tuple[str, ...]  # that it can make small
    run: Callable[[Task], Outcome]
    kinds: tuple[str, ...] = ("untargeted", "targeted")  # of goals
    make: Make | None = None  # the attack, if it is of JAX
    source: str = ""  # the module or the library that it comes from: other results when this changes
    cost: Callable[[int], int] = lambda classes: 2  # (classes) -> propagations of a step
    numbers: Callable[[str], Numbers] = lambda norm: {}  # (norm) -> what `Task.settings` may change


class Broken(RuntimeError):  # noqa: N818 - it says what is the matter
    """A contestant's numbers are missing, or not to be believed; the message says why."""


def ours(
    make: Make,
    *norms: str,
    cost: Callable[[int], int] = lambda classes: 2,
    kinds: tuple[str, ...] = ("untargeted", "targeted"),
    source: str = "",
    numbers: Callable[[str], Numbers] | None = None,
) -> Contestant:
    """An attack of this library, or of one's own, as a contestant.

    It runs as ever, for as many steps as it can pay for. Then some examples run again, one at a time, on a model that
    counts its calls and looks at every query; the attack's own numbers must be those. Once is enough, for a norm and
    for inputs of a shape: what it is told otherwise, a number of steps, weights and goals, changes no line of it.

    Args:
      make: `(norm, steps, classes) -> attack` that is done in this number of steps.
      norms: that it can make small.
      cost: `(classes) -> propagations of a step`.
      kinds: of goals.
      source: the module that it comes from.
      numbers: `(norm) -> what can be set`; by default the keyword arguments of `make` that are numbers.
    """
    looked_over, found = set(), numbers_of(make)

    def run(task: Task) -> Outcome:
        steps = steps_of(task, cost)
        attack = cw.confident(make(task.norm, steps, task.classes, **task.settings), task.confidence)
        model, goal = cw.in_precision(task.model, "highest"), task.goal()
        keys = jax.random.split(jax.random.key(task.seed), len(task.x))
        began = time.monotonic()
        with compiling.timed() as compiled:
            runner = jax.jit(cw.chunked(cw.traced(attack, steps), AT_ONCE))
            result, trace = jax.tree.map(np.asarray, runner(model, keys, jnp.asarray(task.x), goal))
        seconds = time.monotonic() - began
        spent = result.forwards + result.backwards
        if spent.max() > task.budget:
            raise Broken(f"it took {spent.max()} propagations where it had {task.budget}")
        watched, queried = np.zeros(0, np.int64), np.zeros(0)
        course = (task.norm, task.x.shape[1:], *sorted(task.settings))
        if course not in looked_over:
            watched, queried = _looked_over(attack, steps, task, keys)
            looked_over.add(course)
        return Outcome(
            x=result.x,
            forwards=result.forwards.astype(np.int64),
            backwards=result.backwards.astype(np.int64),
            refused=np.zeros(len(task.x), np.int64),
            watched=watched,
            queried=queried,
            curve=trace.distance.astype(np.float32),
            seconds=seconds - sum(compiled),
            compiling=sum(compiled),
        )

    return Contestant(norms, run, kinds, make, source, cost, numbers or (lambda norm: found))


def steps_of(task: Task, cost: Callable[[int], int]) -> int:
    """How many steps the budget pays for. Raises ValueError where that is none."""
    steps = task.budget // cost(task.classes)
    check_number(f"what {task.budget} propagations can pay for, in steps,", steps, least=1)
    return steps


def numbers_of(function: Callable[..., Any]) -> dict[str, float | int | None]:
    """The keyword arguments of a function that take a number, with their defaults; less those that are DECIDED."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kinds = {type(parameter.default), *get_args(parameter.annotation)}
        if parameter.default is not parameter.empty and name not in DECIDED and kinds & {int, float}:
            found[name] = parameter.default
    return found


_WATCHED = 2  # examples


def _looked_over(attack: Attack, steps: int, task: Task, keys: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Some examples, and the smallest adversarial query of each, once the attack's numbers are known to be right."""
    places = np.arange(min(_WATCHED, len(task.x)))
    model, seen = watching(task.model)
    run = jax.jit(cw.traced(attack, steps))
    queried = []
    for i in places:
        goal = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], task.goal())
        seen.clear()
        result: Result = jax.tree.map(np.asarray, run(model, keys[i : i + 1], jnp.asarray(task.x[i : i + 1]), goal)[0])
        jax.effects_barrier()
        own = (int(result.forwards[0]), int(result.backwards[0]))
        if own != (seen.forwards, seen.backwards):
            raise Broken(
                f"it says that it took {own[0]} forward and {own[1]} backward passes, and took {seen.forwards} and "
                f"{seen.backwards}"
            )
        queried.append(seen.nearest(task, int(i)))
    return places, np.array(queried)


class Witness:
    """What a model that is watched was asked, one example at a time."""

    def __init__(self):
        self.clear()

    def clear(self) -> None:
        """Forgets all."""
        self.queries: list[np.ndarray] = []
        self.backwards = 0

    @property
    def forwards(self) -> int:
        """Images that it was asked about."""
        return len(self.queries)

    def forward(self, x: Any) -> None:
        """An image [1, *S] that went through."""
        self.queries.append(np.array(x[0]))

    def backward(self, slope: Any) -> None:
        """A slope that came back."""
        del slope
        self.backwards += 1

    def nearest(self, task: Task, i: int) -> float:
        """The smallest distance of a query that met the goal of example i; inf if none did."""
        if not self.queries:
            return float("inf")
        x = np.stack(self.queries).astype(np.float32)
        alike = [leaf[np.full(len(x), i)] for leaf in (task.x, task.label, task.target)]
        return float(task._replace(x=alike[0], label=alike[1], target=alike[2]).distance(x).min())


def watching(model: Model) -> tuple[Model, Witness]:
    """The model, and what it was asked since; exact for one example at a time, and slow."""
    seen = Witness()

    @jax.custom_vjp
    def watched(logits):
        return logits

    def backward(_, slope):
        jax.debug.callback(seen.backward, slope)
        return (slope,)

    watched.defvjp(lambda logits: (logits, None), backward)

    def apply(params, x):
        jax.debug.callback(seen.forward, x)
        return watched(model.apply(params, x))

    return Model(apply=apply, params=model.params), seen
