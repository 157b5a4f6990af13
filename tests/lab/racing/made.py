"""Tasks, subjects and contestants for the tests of races."""

import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.lab import data
from cwjax.lab.racing import contestants, racing
from cwjax.loop import Rule, iterated
from tests import problems
from tests.problems import CLASSES

GRADIENTS = 10


def a_task(**changes) -> contestants.Task:
    """Three examples of a tiny network, each to leave the class that it answers."""
    model, x = cw.bind(problems.mlp, problems.mlp_params()), problems.inputs(3)
    answers = np.asarray(model.apply(model.params, jnp.asarray(x))).argmax(1).astype(np.int32)
    nowhere = np.full(len(x), -1, np.int32)
    task = contestants.Task(model, x, answers, nowhere, "l2", 2 * GRADIENTS, classes=CLASSES, seed=0)
    return task._replace(**changes)


def a_subject() -> racing.Subject:
    task = a_task()
    images, labels = np.concatenate([task.x, task.x]), np.concatenate([(task.label + 1) % CLASSES, task.label])
    names = tuple(map(str, range(CLASSES)))
    return racing.Subject("tiny", task.model, data.Dataset("six", "test", images, labels, names, np.arange(6) + 100))


def returning(x) -> contestants.Outcome:
    """Images for five gradients each."""
    passes, none = np.full(len(x), 5), np.zeros(0, np.int64)
    return contestants.Outcome(
        x=x,
        forwards=passes,
        backwards=passes,
        refused=0 * passes,
        watched=none,
        queried=none.astype(float),
        curve=np.zeros((len(x), 0), np.float32),
        seconds=1.0,
        compiling=0.0,
    )


def stepping(norm: str, steps: int, classes: int, *, step=1e-3, turns=3) -> cw.Attack:
    """A plain descent along the slope: at its own step length it gets nowhere."""
    del classes, turns

    def move(problem, memory, seen):
        return seen.x - step * seen.slope / jnp.sqrt(jnp.sum(seen.slope**2) + 1e-20), memory

    rule, objective = Rule(init=lambda key, problem: (problem.start, ()), move=move), cw.losses.negative_margin()
    return iterated(rule, objective=objective, distance=cw.distances.DISTANCES[norm], steps=steps)


def unwilling(norm: str, steps: int, classes: int) -> cw.Attack:
    raise ValueError(f"not in {norm}")


def no_attack(norm: str, steps: int, classes: int) -> str:
    return "an attack"


def too_few(steps: int) -> None:
    del steps


HERE = "tests.lab.racing.made"
MINE = f"{HERE}:stepping"


def a_large_subject() -> racing.Subject:
    """Forty inputs, each with the label that the model gives it, but for the first four."""
    model, x = cw.bind(problems.mlp, problems.mlp_params()), problems.inputs(40)
    labels = np.asarray(model.apply(model.params, jnp.asarray(x))).argmax(1).astype(np.int32)
    labels[:4] = (labels[:4] + 1) % CLASSES
    names = tuple(map(str, range(CLASSES)))
    return racing.Subject("tiny", model, data.Dataset("forty", "test", x, labels, names, np.arange(40) + 100))
