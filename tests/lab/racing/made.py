"""Tasks, subjects and contestants for the tests of races."""

import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.lab import data
from cwjax.lab.racing import contestants, racing
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


HERE = "tests.lab.racing.test_racing"
MINE = f"{HERE}:stepping"


def a_large_subject() -> racing.Subject:
    """Forty inputs, each with the label that the model gives it, but for the first four."""
    model, x = cw.bind(problems.mlp, problems.mlp_params()), problems.inputs(40)
    labels = np.asarray(model.apply(model.params, jnp.asarray(x))).argmax(1).astype(np.int32)
    labels[:4] = (labels[:4] + 1) % CLASSES
    names = tuple(map(str, range(CLASSES)))
    return racing.Subject("tiny", model, data.Dataset("forty", "test", x, labels, names, np.arange(40) + 100))
