"""What a model says of saved inputs, and by how much each goal is met: in classes, or in the words of a task."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

import cwjax as cw
from cwjax.base import Goal, Outputs, answered, wide
from cwjax.lab import functions
from cwjax.lab.console.progress import say
from cwjax.lab.data import Dataset
from cwjax.lab.reporting.findings import SAID
from cwjax.models import Model
from cwjax.parts.distances import MOST_CHANNELS
from cwjax.tasks import Task

AT_ONCE = 500  # inputs that a model is asked about
PICTURED = 10  # inputs of a task that are drawn for the report


class Judged(NamedTuple):
    """What a model says of R inputs, held against their goals."""

    answer: np.ndarray  # int32 [R]: the class; of a task 1 where the goal is met, else 0
    # float32 [R]: by how many logits the goal is met; of a task how far its loss is below 0, nan where a NaN came
    margin: np.ndarray
    met: np.ndarray  # bool [R]: without any confidence, unless the task's objective is fixed
    outputs: Outputs  # NumPy arrays [R, ...]


def judged(dataset: Dataset, outputs: Outputs, goal: Goal) -> Judged:
    """Outputs [R, ...] of examples of the data set, held against the goals of those examples."""
    if dataset.task is None:
        margin = np.asarray(jax.vmap(cw.objectives.margin)(jnp.asarray(outputs), goal), np.float32)
        return Judged(outputs.argmax(-1).astype(np.int32), margin, margin > 0, outputs)
    met, loss = map(np.asarray, _look(dataset.task)(outputs, goal))
    return Judged(met.astype(np.int32), -loss.astype(np.float32), met, outputs)


def said(model: Model, dataset: Dataset, places: np.ndarray, x: np.ndarray) -> Any:
    """What the model returns of inputs x [R, *S] that were made of the examples at those places of the data set, with
    the context of each: NumPy arrays [R, ...], float32 or wider; at the highest precision that the device has.
    """
    context, parts = context_of(dataset, places), []
    with jax.default_matmul_precision("highest"):
        for first in range(0, len(x), AT_ONCE):
            some = slice(first, first + AT_ONCE)
            told = jax.tree.map(lambda leaf, some=some: leaf[some], context)
            parts.append(_answers(model, jnp.asarray(x[some]), told))
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf, wide(leaf)) for leaf in leaves]), *parts)


def context_of(dataset: Dataset, places: np.ndarray) -> PyTree:
    """What the model is told besides of the examples at these places; None where it is told nothing."""
    return entries_of(dataset.task.context, dataset, places) if dataset.task else None


def goals_of(dataset: Dataset, places: np.ndarray) -> Goal:
    """The goals of the task's examples at these places."""
    return entries_of(dataset.task.goal, dataset, places) if dataset.task else None


def words_of(task: Task, goal: Goal, clean: Judged, adversarial: Judged) -> dict[str, list[str]]:
    """The columns SAID: what each goal is, and what the model says before and after."""
    wanted = [_in_words(task.wanted, each) for each in one_by_one(goal)]
    says = [[_in_words(task.read, each) for each in one_by_one(judged.outputs)] for judged in (clean, adversarial)]
    return dict(zip(SAID, (wanted, *says), strict=True))


def _in_words(function: Callable[[Any], str], value: Any) -> str:
    """What the task's function says of it; or why it fails, because the rows are worth more than their words."""
    try:
        return str(function(value))
    except Exception as error:
        return f"({type(error).__name__}: {error})"


def mask_of(dataset: Dataset, mask: np.ndarray | None, places: np.ndarray) -> np.ndarray | None:
    """Which elements of the examples at these places may change: those that a mask, and the data set or its task, both
    allow; None: all. It broadcasts to one input, or has one for each place.
    """
    own = dataset.task.mask if dataset.task else dataset.mask
    if dataset.own_masks:
        own = np.asarray(own)[places]
    if mask is None or own is None:
        return own if mask is None else mask
    return np.logical_and(mask, own)


def bounds_of(dataset: Dataset, places: np.ndarray) -> dict[str, Any]:
    """`low` and `high` of the examples at these places, where they are features; else nothing, for [0, 1]."""
    return dataset.features.bounds(dataset.images[places]) if dataset.features else {}


def validate(model: Model, dataset: Dataset, mask: np.ndarray | None = None) -> None:
    """`cwjax.validate` on all examples of a data set. Of a task with its goals and the mask in force; and each of its
    functions is tried.

    Raises:
      TypeError, ValueError: what `cwjax.validate` refuses; a function of the task that fails, in one line.
    """
    task, places = dataset.task, np.arange(len(dataset.labels))
    if task is None:
        if dataset.features:
            dataset.features.check(dataset.name, dataset.images, mask_of(dataset, mask, places))
        cw.validate(model, dataset.images, cw.untargeted(dataset.labels), **bounds_of(dataset, places))
    else:
        more = {"objective": task.objective_of(hinged=False), "context": context_of(dataset, places)}
        cw.validate(model, dataset.images, goals_of(dataset, places), mask=mask_of(dataset, mask, places), **more)
        _try(task, model, dataset)


def _try(task: Task, model: Model, dataset: Dataset) -> None:
    """Calls what a report needs of a task on its first example, so that an attack does not run in vain."""
    first = slice(0, 1)
    x, places = dataset.images[first], np.arange(1)
    outputs, goal = (next(one_by_one(tree)) for tree in (said(model, dataset, places, x), goals_of(dataset, places)))
    tried = {"read": (outputs,), "wanted": (goal,), "picture": (x[0], outputs)}
    tried |= {"second": (outputs, goal)} if task.second else {}
    answers = {}
    for name, given in tried.items():
        with functions.blamed("the task", f"{task.name!r}: its {name.replace('picture', 'draw')}"):
            answers[name] = getattr(task, name)(*given)
    for name in ("read", "wanted"):
        if not isinstance(answers[name], str):
            raise ValueError(f"the task {task.name!r}: its {name} must return text, got {answers[name]!r}")
    drawn = answers["picture"]
    if drawn.ndim != 3 or not 1 <= drawn.shape[-1] <= MOST_CHANNELS:
        came = list(drawn.shape)
        raise ValueError(f"the task {task.name!r}: its draw must return a picture [H, W, 1] or [H, W, 3], got {came}")


def drawn(
    model: Model, dataset: Dataset, places: np.ndarray, clean: np.ndarray, adversarial: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of the first inputs of a task, clean and adversarial: float32 [P, H, W, C] in [0, 1], P <= PICTURED."""
    task, some = dataset.task, slice(PICTURED)
    assert task is not None
    pairs = [
        list(zip(x, one_by_one(said(model, dataset, places[some], x)), strict=True))
        for x in (clean[some], adversarial[some])
    ]
    try:
        first, second = (np.stack([task.picture(*each) for each in pair]) for pair in pairs)
    except Exception as error:  # the rows are worth more than their pictures
        say(f"The draw of the task {task.name!r} failed ({type(error).__name__}: {error}): its inputs are drawn.")
        plain = dataclasses.replace(task, draw=None)
        first, second = (np.stack([plain.picture(*each) for each in pair]) for pair in pairs)
    return first, second


def entries_of(tree: PyTree, dataset: Dataset, places: np.ndarray) -> PyTree:
    """Of a pytree with an entry for each input of a task, those of the examples at these places of the data set."""
    return jax.tree.map(lambda leaf: leaf[dataset.index[places]], tree)


def one_by_one(tree: PyTree) -> Iterator[Any]:
    """A pytree of arrays with one entry for each example, example by example, as NumPy arrays."""
    leaves, structure = jax.tree.flatten(tree)
    for row in zip(*map(np.asarray, leaves), strict=True):
        yield jax.tree.unflatten(structure, row)


@jax.jit
def _answers(model: Model, x: jax.Array, context: PyTree) -> Outputs:
    return model.of_batch(x, context)


@functools.cache
def _look(task: Task) -> Callable[..., Any]:
    """Of many outputs and goals, without a confidence: whether each is met, and a loss that falls on where it is, NaN
    where the outputs cannot be compared. A fixed objective has its own confidence and loss.
    """
    objective = task.objective_of(hinged=False)

    def look(outputs, goal):
        good = answered(outputs)
        return objective.met(outputs, goal) & good, jnp.where(good, objective.loss(outputs, goal), jnp.nan)

    return jax.jit(jax.vmap(look))
