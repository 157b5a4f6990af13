"""Whether a test does what it was made for: asked of the stored image alone, when it is made and by `cwjax verify`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.generation import deeproad, deeptest
from cwjax.generation.transforms import TRANSFORMS

Way = Callable[[np.ndarray], np.ndarray]
"""float32 [B, *S] -> [B, K]: the logits of a model, or the values of its neurons."""

BYTES = "not in 8 bits"
OUTSIDE = "outside [0, 1]"
_ROUNDING = 1e-5  # of a value, relative: two programs that compute the same
_LEVEL = 1 / 255


class Judged(NamedTuple):
    """What was found of R tests."""

    before: np.ndarray  # int32 [M, R]: what each model answers of the seed
    after: np.ndarray  # int32 [M, R]: and of the test
    met: np.ndarray  # bool [R]: the test does what was asked for
    faults: list[str]  # what is wrong with each test as an image; empty: nothing


def judged(
    system: str,
    settings: Mapping[str, Any],
    columns: Mapping[str, Sequence[Any]],
    seeds: np.ndarray,
    x: np.ndarray,
    models: Sequence[Way],
    values: Way | None = None,
) -> Judged:
    """Looks at R tests.

    Args:
      system: what made them.
      settings: what it was told.
      columns: "label", the classes of the seeds, and the system's own.
      seeds: float32 [R, *S].
      x: the tests, of the same shape.
      models: of each model, what it returns.
      values: the values of the neurons [R, N], where a test is about them.
    """
    logits = [(np.asarray(way(seeds), np.float64), np.asarray(way(x), np.float64)) for way in models]
    before, after = (np.stack([each[i].argmax(-1) for each in logits]).astype(np.int32) for i in (0, 1))
    if "neuron" in columns:
        met = _neurons_met(columns, values(x) if values else np.zeros((len(x), 0)))
    elif len(models) > 1:
        met = (after != after[0]).any(0)
    else:
        met = after[0] != np.asarray(columns["label"])
    return Judged(before, after, met, _faults(system, settings, columns, seeds, x))


def _neurons_met(columns: Mapping[str, Sequence[Any]], values: np.ndarray) -> np.ndarray:
    """Whether every neuron of a row is on its side of its bound, within the rounding of another program."""
    met = []
    for row, which, above, bound in zip(
        values.astype(np.float64), columns["neuron"], columns["above"], columns["bound"], strict=True
    ):
        lead = np.where(above, 1, -1) * (row[np.asarray(which, int)] - np.asarray(bound))
        met.append(bool((lead >= -_ROUNDING * max(np.abs(row).max(initial=0), 1)).all()))
    return np.asarray(met)


def _faults(
    system: str, settings: Mapping[str, Any], columns: Mapping[str, Sequence[Any]], seeds: np.ndarray, x: np.ndarray
) -> list[str]:
    """What each test changes that it must not."""
    change = (x.astype(np.float64) - seeds).reshape(len(x), -1)
    flat, found = x.reshape(len(x), -1).astype(np.float64), [""] * len(x)
    levels = np.abs(255 * flat - np.rint(255 * flat)) < 1e-3
    checks: dict[str, Any] = {
        BYTES: (~levels & (change != 0)).any(1),
        OUTSIDE: ~((flat >= 0) & (flat <= 1)).all(1),
    }
    farthest = np.abs(change).max(1)
    for name in ("radius", "epsilon"):
        if name in settings:
            checks[f"farther than {settings[name]:g} from its seed"] = farthest > settings[name] + _ROUNDING
    if settings.get("fuzzer") == "tensorfuzz":
        checks["farther than 0.4 from its seed"] = farthest > 0.4 + _LEVEL / 2 + _ROUNDING
    if settings.get("constraint") == "occlusion":
        side = settings["patch"]
        outside = (x != seeds).copy()
        outside[:, :side, :side] = False
        checks["changed outside of the patch"] = outside.reshape(len(x), -1).any(1)
    if settings.get("constraint") == "blackout":
        checks["brighter somewhere"] = (change > 0).any(1)
    if system in ("deeptest", "deeproad"):
        made = _weathered if system == "deeproad" else _guided if "transforms" in columns else _transformed
        checks["not its transform of the seed"] = ~made(columns, seeds, x)
    for words, wrong in checks.items():
        for row in np.flatnonzero(wrong):
            found[row] = f"{found[row]}, {words}" if found[row] else words
    return found


def _transformed(columns: Mapping[str, Sequence[Any]], seeds: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Whether each test is the transform that it names, with parameters within the limits, to a level of 8 bits."""
    good = []
    for name, parameters, seed, made in zip(columns["transform"], columns["parameters"], seeds, x, strict=True):
        if np.array_equal(made, seed):
            good.append(True)
            continue
        transform, numbers = TRANSFORMS[name], np.asarray(parameters, np.float32)
        inside = (numbers >= np.asarray(transform.low) - 1e-6) & (numbers <= np.asarray(transform.high) + 1e-6)
        with jax.disable_jit():
            again = np.clip(np.asarray(transform.apply(jnp.asarray(seed), jnp.asarray(numbers))), 0, 1)
        good.append(bool(inside.all() and np.abs(again - made).max() <= _LEVEL))
    return np.asarray(good, bool)


def _guided(columns: Mapping[str, Sequence[Any]], seeds: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Whether each test is its seed under the transforms that it names, to a level of 8 bits for each two of them."""
    good = []
    for names, parameters, seed, made in zip(columns["transforms"], columns["parameters"], seeds, x, strict=True):
        with jax.disable_jit():
            again = np.asarray(deeptest.repeated(seed, [TRANSFORMS[name] for name in names], parameters))
        good.append(bool(np.abs(again - made).max() <= _LEVEL * max(len(names) // 2, 1) + _ROUNDING))
    return np.asarray(good, bool)


def _weathered(columns: Mapping[str, Sequence[Any]], seeds: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Whether each test is its seed in the weather that it names, by its colours or by the operator."""
    good, channels = [], seeds.shape[-1]
    colours = columns.get("parameters", [None] * len(x))
    for name, numbers, seed, made in zip(columns["transform"], colours, seeds, x, strict=True):
        if numbers is None:
            again = np.asarray(deeproad.WEATHERS[name](seed[None]))[0]
        else:
            matrix, source, target = np.split(np.asarray(numbers), [channels**2, channels**2 + channels])
            moved = deeproad.Colours(matrix.reshape(channels, channels), source, target)
            again = np.asarray(moved(seed[None]))[0]
        good.append(np.array_equal(made, seed) or bool(np.abs(again - made).max() <= _LEVEL))
    return np.asarray(good, bool)
