"""What a system is asked for, as a plan: a number of rows, and a function that makes some of them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cwjax.lab.generating.subject import Subject


class Asked(NamedTuple):
    """What a system is told."""

    system: str
    subject: Subject
    settings: dict[str, Any]  # complete, see `settings.resolved`
    asked_for: int  # how many seeds or requirements: --count
    batch: int  # rows at once
    seed: int
    training: Callable[[], np.ndarray]  # what gives neurons their ranges


class Made(NamedTuple):
    """Some rows, in their order."""

    place: list[int]  # of the seed, among the seeds
    asked: list[str]  # what the test is to do, in words
    x: np.ndarray  # float32 [R, *S]: the test; where there is none, the seed
    found: list[bool]  # whether the system found a test
    more: dict[str, list[Any]]  # the system's own columns, which `judging` reads


class Plan(NamedTuple):
    """What a run consists of."""

    total: int  # rows
    make: Callable[[range, Sequence[Made]], Made]  # the rows of these numbers, given those of all batches before
    about: dict[str, str]  # what else a reader has to know


def tests_before(before: Sequence[Made], seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The tests that were found in earlier batches, each once, and the seed of each; None where there are none."""
    rows = [(x, place) for made in before for x, place, hit in zip(made.x, made.place, made.found, strict=True) if hit]
    kept = {x.tobytes(): (x, place) for x, place in rows if not np.array_equal(x, seeds[place])}
    if not kept:
        return None
    x, places = zip(*kept.values(), strict=True)
    return np.stack(x), np.asarray(places)


def filled(rows: range | np.ndarray, batch: int) -> np.ndarray:
    """The numbers of the rows, the first ones again until there are as many as a batch has: so that one program serves
    all batches.
    """
    return np.resize(np.asarray(rows), batch)


def keys_of(seed: int, rows: np.ndarray) -> jax.Array:
    """A random key for each row, of the seed and its number alone."""
    key = jax.random.key(seed)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows.astype(np.uint32))


def in_eight_bits(x: Any) -> np.ndarray:
    """The nearest images of bytes."""
    return np.rint(np.clip(np.asarray(x, np.float64), 0, 1) * 255).astype(np.float32) / np.float32(255)
