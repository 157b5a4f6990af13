"""Attacks whose results are kept in a sweep's store, each under the hash of all that decides it.

The sweeps of the command line know the attacks that have settings there. The experiments on the paper's tables need
its rivals too, so they keep their results here, in the same store (`cwjax.lab.sweeps.vault`). A run that was stopped
goes on with the next attack. A result is computed again when the attack, the network, the images or the library change.
"""

import functools
import inspect
import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

import cwjax as cw
from cwjax.base import Attack, LabelGoal
from cwjax.lab.files import store
from cwjax.lab.sweeps import units
from cwjax.lab.sweeps.vault import Vault
from cwjax.models import Model
from experiments import shown

FILE = "found.npz"
CHUNK = 45  # rows in one program at once


class Found(NamedTuple):
    """What an attack came to, a row for each image and goal."""

    x: np.ndarray  # float32 [R, *S]: the clean image where the attack failed
    success: np.ndarray  # bool [R]
    distance: np.ndarray  # float32 [R], in the attack's norm; inf where it failed
    unrounded: np.ndarray  # float32 [R]: the distance before any rounding
    backwards: np.ndarray  # int32 [R]: gradients


def attacked(
    vault: Vault,
    make: Callable[..., Attack],
    settings: Mapping[str, Any],
    model: Model,
    x: np.ndarray,
    goal: LabelGoal,
    *,
    numbers: Mapping[str, float] | None = None,
    rounded: bool = False,
) -> Found:
    """The attack on every image, or what was kept of it; every success has been looked at again.

    Args:
      vault: where results are kept.
      make: a function of a module, from settings and numbers to an attack.
      settings: what JSON can say; another value is another program.
      model: to fool.
      x: float32 [R, *S], in [0, 1].
      goal: fields [R].
      numbers: settings that are traced, so that another value is the same program.
      rounded: whether images are of 8 bits, and repaired.

    Raises:
      RuntimeError: a reported success is none.
    """
    numbers = dict(numbers or {})
    digest = store.fingerprint(
        {
            "attack": inspect.getsource(make),
            "settings": dict(settings) | numbers,
            "rounded": rounded,
            "model": content(model.params),
            "input": content((x, goal)),
            "code": units.code(),
        }
    )
    if (files := vault.get(digest)) is None:
        run = _program(make, tuple(settings.items()), rounded)
        found = run(model, jax.random.split(jax.random.key(0), len(x)), x, goal, numbers)
        found = Found(*map(np.asarray, found))
        check(model, found, goal)
        packed = io.BytesIO()
        np.savez_compressed(packed, **found._asdict())
        files = {FILE: packed.getvalue()}
        vault.put(digest, files, {"settings": dict(settings) | numbers, "rows": len(x)})
    with np.load(io.BytesIO(files[FILE])) as kept:
        return Found(**kept)


def check(model: Model, found: Found, goal: LabelGoal) -> None:
    """Raises RuntimeError where an image that is said to meet its goal does not, or leaves [0, 1]."""
    outputs = shown.outputs_of(model, found.x)
    several = outputs if isinstance(outputs, tuple) else (outputs,)
    none = found.success & ~np.all([met(logits, goal) for logits in several], 0)
    if none.any():
        raise RuntimeError(f"{none.sum()} of {found.success.sum()} reported successes are none")
    if found.x.min() < 0 or found.x.max() > 1:
        raise RuntimeError("an image leaves [0, 1]")


def met(logits: np.ndarray, goal: LabelGoal) -> np.ndarray:
    """Whether images with these logits [R, K] are read as their target, or not as the label that they are to leave."""
    label = np.asarray(goal.label)
    return np.where(np.asarray(goal.sign) > 0, logits.argmax(-1) == label, shown.misread(logits, label))


def mean(values: np.ndarray) -> float:
    """The mean of those that are finite; NaN where there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def content(tree: Any) -> list[Any]:
    """The hashes of a tree's arrays, and its structure."""
    leaves = [store.fingerprint(np.asarray(leaf)) for leaf in jax.tree.leaves(tree)]
    return [leaves, str(jax.tree.structure(tree))]


@functools.cache
def _program(make: Callable[..., Attack], settings: tuple[tuple[str, Any], ...], rounded: bool) -> Callable[..., Any]:
    @jax.jit
    def run(model, keys, x, goal, numbers):
        runner = cw.chunked(cw.batched(make(**dict(settings), **numbers)), CHUNK)
        if not rounded:
            result = runner(model, keys, x, goal)
            return result.x, result.success, result.distance, result.distance, result.backwards
        result, cost = cw.discretised(runner)(model, keys, x, goal)
        return result.x, result.success, result.distance, cost.distance, result.backwards

    return run
