"""The command line as tests call it, and models of a user's own that are attacked through it."""

import jax.numpy as jnp
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
