"""The command line as tests call it, and models of a user's own that are attacked through it."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.lab import cli

QUICK = ["--steps", "60", "--search-steps", "2", "--initial-c", "1", "--learning-rate", "0.1"]


def call(*arguments):
    cli.main([str(argument) for argument in arguments])


def fails(capsys, *arguments) -> str:
    """The one line that a mistaken command prints."""
    with pytest.raises(SystemExit) as stop:
        call(*arguments)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("cwjax: error: ")
    return lines[0]


def brightness():
    """A user's own model: bright in one of three corners."""
    corners = [(slice(2, 7), slice(2, 7)), (slice(2, 7), slice(9, 14)), (slice(9, 14), slice(2, 7))]
    return cw.bind(lambda params, x: jnp.stack([10 * x[:, a, b, 0].mean((1, 2)) for a, b in corners], axis=1))


def dim():
    """`brightness`, but blind to images whose first pixel is dark: of those it says the first class."""
    model = brightness()
    return cw.bind(lambda params, x: jnp.where(x[:, 0, 0] < 0.1, jnp.array([[9.0, 0.0, 0.0]]), model.apply(params, x)))


def corners():
    """A task: three corners, each bright or dark, of which any two are to be told otherwise."""
    x = np.random.default_rng(0).uniform(0.3, 0.7, (12, 16, 16, 1)).astype(np.float32)
    model = brightness()
    centred = cw.bind(lambda params, x: model.apply(params, x) - 5)
    return cw.Task(
        name="bright corners",
        model=centred,
        x=x,
        goal=cw.goals.labels_flipped(np.asarray(centred.of_batch(jnp.asarray(x))) > 0, 2),
        objective=cw.objectives.several_labels,
        read=lambda outputs: " ".join("bright" if each > 0 else "dark" for each in outputs),
        wanted=lambda goal: f"{int(goal.least)} others",
    )


def weighed():
    """A task of vectors with a context: their weighted mean is to leave a tolerance; its objective is fixed."""
    rng = np.random.default_rng(1)
    x, weights = (rng.uniform(0.2, 0.8, (6, 9)).astype(np.float32) for _ in range(2))
    model = cw.bind(
        lambda params, x, context: params * (x * context["weights"]).sum(1) / context["weights"].sum(1), 2.0
    )
    context = {"weights": weights}
    value = np.asarray(model.of_batch(jnp.asarray(x), context))
    return cw.Task(
        name="a weighted mean",
        model=model,
        x=x,
        goal=cw.goals.value_left(value, 0.1),
        context=context,
        objective=cw.objectives.tolerance(0.01, hinged=False),
        mask=np.arange(9) > 0,
        draw=lambda x, outputs: np.full((4, 9, 1), min(1.0, float(outputs) / 2)) * x[None, :, None],
    )


def spoken():
    """A task of transcripts: six rows of an image are frames of four symbols; a beam search has to agree."""
    rng = np.random.default_rng(2)
    x = rng.uniform(0.2, 0.8, (5, 6, 6, 1)).astype(np.float32)
    kernel = rng.normal(size=(6, 4)).astype(np.float32)
    model = cw.bind(lambda kernel, x: 8 * jnp.tanh(3 * (x[..., 0] - 0.5) @ kernel), kernel)
    path = np.roll(np.asarray(model.of_batch(jnp.asarray(x))).argmax(-1), 1, axis=0)  # what it says of another image
    words = [[symbol for symbol, _ in itertools.groupby(row) if symbol] for row in path.tolist()]
    return cw.Task(
        name="rows that speak",
        model=model,
        x=x,
        goal=cw.goals.aligned(cw.goals.transcript(words, frames=6), path),
        objective=lambda confidence, hinged: cw.objectives.aligned_margin(confidence),
        read=lambda outputs: "".join("-abc"[symbol] for symbol in transcript(outputs)),
        wanted=lambda goal: "".join("-abc"[symbol] for symbol in asked_for(goal.transcript)),
        second=lambda outputs, goal: cw.objectives.beam_search(outputs) == asked_for(goal.transcript),
    )


def asked_for(goal) -> list[int]:
    """The symbols of a transcript."""
    return goal.labels[: goal.length].tolist()


def transcript(outputs: np.ndarray) -> list[int]:
    """Greedy decoding of logits [T, V]."""
    symbols, length = cw.objectives.greedily(jnp.asarray(outputs), len(outputs))
    return np.asarray(symbols)[: int(length)].tolist()


def broken(**change):
    """A task with a fault."""
    return dataclasses.replace(corners(), **change)


def mute():
    return broken(read=lambda outputs: outputs)


def strange():
    return broken(wanted=lambda goal: goal.no_such_field)


def flat():
    return broken(draw=lambda x, outputs: x[..., 0])
