"""What the inputs of a data set are where they are features: which values each may have, where it may go, what a change
costs, and what it is called.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

import cwjax as cw
from cwjax.base import Distance
from cwjax.parts.lattices import Lattice, check_on, lattice

ARRAYS = ("features", "low", "high", "levels", "steps", "rises", "cost", "implies")
"""Of a file .npz; one of them makes its inputs features."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Of vectors [N, F] in their own units. `Features.of` makes one of arrays."""

    names: tuple[str, ...]  # F of them
    low: np.ndarray  # float32 [F]
    high: np.ndarray  # float32 [F]
    lattice: Lattice | None  # None: any value between low and high
    rises: np.ndarray  # bool [F]: these may only rise
    cost: np.ndarray  # float64 [F]
    told: Mapping[str, np.ndarray]  # the arrays that it was made of

    @classmethod
    def of(cls, name: str, x: np.ndarray, told: Mapping[str, np.ndarray]) -> "Features":
        """Of the arrays ARRAYS, of which any may be missing.

        Args:
          name: of the data; it begins every error.
          x: the inputs, float [N, F].
          told: the arrays by name, see docs/data.md.

        Raises:
          ValueError: arrays that are not that, or inputs that are out of them, in one line.
        """
        if x.ndim != 2:
            raise ValueError(f"{name}: {', '.join(told)} are for vectors [N, F], got inputs {list(x.shape)}")
        count = x.shape[1]
        names = tuple(map(str, np.asarray(told.get("features", np.arange(count))).ravel()))
        if len(names) != count:
            raise ValueError(f"{name}: features names {len(names)} of them, and inputs have {count}")
        low, high = (_of_each(name, told, key, count, value) for key, value in (("low", 0.0), ("high", 1.0)))
        if not (low <= high).all():
            place = int(np.argmax(low > high))
            raise ValueError(f"{name}: low is {low[place]:g} and high is {high[place]:g} for feature {names[place]}")
        rises = np.asarray(told.get("rises", False))
        if rises.dtype != bool or rises.shape not in ((), (count,)):
            raise ValueError(f"{name}: rises must be booleans, one or {count}, got {rises.dtype} {list(rises.shape)}")
        cost = _of_each(name, told, "cost", count, 1.0, least=0.0)
        found = cls(
            names=names,
            low=low.astype(np.float32),
            high=high.astype(np.float32),
            lattice=_lattice(name, told, count),
            rises=np.broadcast_to(rises, (count,)),
            cost=cost,
            told=dict(told),
        )
        found.check(name, x)
        return found

    def check(self, name: str, x: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Raises ValueError where inputs leave their bounds or lattice, or where nothing may change in any of them."""
        bad = ~((x >= self.low) & (x <= self.high))
        if bad.any():
            row, place = map(int, np.argwhere(bad)[0])
            bounds = f"[{self.low[place]:g}, {self.high[place]:g}]"
            raise ValueError(
                f"{name}: feature {self.names[place]} of input {row} is {x[row, place]:g}, outside {bounds}"
            )
        if self.lattice is not None:
            try:
                check_on(self.lattice, x.astype(np.float32), mask)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        free = self.high > np.where(self.rises, x, self.low)
        if not (free & (True if mask is None else mask)).any():
            raise ValueError(f"{name}: no feature of any input may change")

    def bounds(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """`low` [N, F] and `high` [F] for a runner on inputs x [N, F]."""
        return {"low": np.where(self.rises, x, self.low).astype(np.float32), "high": self.high}

    def distance(self, norm: str) -> Distance:
        """That norm with the costs of the features. Raises ValueError where it takes none."""
        return cw.distances.named(norm, per_pixel=False, cost=self.cost if self.priced else 1.0)

    @property
    def priced(self) -> bool:
        """Whether features have costs."""
        return bool((self.cost != 1).any())

    def changes(self, before: np.ndarray, after: np.ndarray) -> str:
        """What changed in one input, in words: "INTERNET 0 → 1, SEND_SMS 0 → 1"."""
        places = np.flatnonzero(before != after)
        return ", ".join(f"{self.names[i]} {before[i]:g} → {after[i]:g}" for i in places)


def _of_each(name, told, key: str, count: int, usual: float, *, least: float = -np.inf) -> np.ndarray:
    """Finite numbers for each feature, float64 [F]."""
    values = np.asarray(told.get(key, usual))
    if not np.issubdtype(values.dtype, np.number) or values.shape not in ((), (count,)):
        raise ValueError(f"{name}: {key} must be a number, or one for each of {count} features, got {_came(values)}")
    values = np.broadcast_to(values.astype(np.float64), (count,))
    bad = ~(np.isfinite(values) & (values >= least))
    if bad.any():
        more = "" if least == -np.inf else f", and at least {least:g}"
        raise ValueError(f"{name}: {key} must be finite{more}, got {values[bad][0]:g} for feature {np.argmax(bad)}")
    if key == "cost" and not values.any():
        raise ValueError(f"{name}: cost is 0 for every feature, so that nothing is to be kept small")
    return values


def _lattice(name: str, told: Mapping[str, np.ndarray], count: int) -> Lattice | None:
    """Of `levels` [L] or [F, L], filled up with NaN at the end; `steps`, a number or [F]; and `implies` [P, 2]."""
    if not {"levels", "steps", "implies"} & told.keys():
        return None
    if not {"levels", "steps"} & told.keys():
        raise ValueError(f"{name}: implies is about features on levels: say levels, such as [0, 1], or steps")
    levels: Any = np.asarray(told.get("levels", [0.0, 1.0]))
    if levels.ndim not in (1, 2) or not np.issubdtype(levels.dtype, np.number):
        raise ValueError(f"{name}: levels must be numbers [L], or [F, L] with {count} rows, got {_came(levels)}")
    if levels.ndim == 2:
        ends = [int(np.max(np.flatnonzero(~np.isnan(row)), initial=-1)) + 1 for row in levels.astype(np.float64)]
        levels = [row[:end] for row, end in zip(levels, ends, strict=True)]
    implies = np.asarray(told.get("implies", np.zeros((0, 2), int)))
    try:
        return lattice(levels, steps=np.asarray(told.get("steps", 0.0)), implies=implies, shape=(count,))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _came(values: np.ndarray) -> str:
    return f"{values.dtype} {list(values.shape)}"
