"""Sweeps that nobody ran: their units are made up, so that a report of hundreds of configurations costs no attack."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cwjax.lab.attacking import presets
from cwjax.lab.attacking.rows import Targets
from cwjax.lab.files import store
from cwjax.lab.reporting import verdicts
from cwjax.lab.sweeps import results, units, working
from cwjax.lab.sweeps.grid import Configuration
from cwjax.lab.sweeps.vault import Vault

INF = float("inf")
FACTS = {"environment": {"device": "an abacus"}}


def configuration(
    attack: str = "fast_l2",
    model: str = "mine",
    data: str = "blobs",
    seed: int = 0,
    targets: Targets = "untargeted",
    **told,
):
    """One configuration; `told` are its settings."""
    settings = presets.resolved((attack,), presets.Settings(**told))[attack]
    return Configuration(attack, settings, targets, seed, model=model, data=data)


def sweep(
    folder: Path,
    asked: Sequence[Configuration],
    reach=lambda place, index: 1.0 + place + index,
    chunk=5,
    told: Mapping[int, dict] = MappingProxyType({}),
):
    """A sweep of the first ten examples of each configuration's data, all done.

    Args:
      folder: of the sweep.
      asked: the configurations.
      reach: of the place of a configuration, from 0, and an example's, its distance; inf: not fooled.
      chunk: examples in a unit.
      told: what was found of a configuration, by its place from 0, as `Diagnosis.to_json` says it.
    """
    plan = units.Plan(list(asked), [])
    for place, each in enumerate(asked):
        starts = range(0, 10, chunk)
        mine = [
            units.Unit(store.fingerprint([each.digest, start]), each, start, start + chunk, chunk, "auto", False, None)
            for start in starts
        ]
        plan.units.append(mine)
        for unit in mine:
            distance = np.array([reach(place, i) for i in range(unit.start, unit.stop)], float)
            found = {verdicts.FILE: json.dumps(told[place]).encode()} if place in told and not unit.start else {}
            Vault(folder).put(unit.digest, _files(unit, distance) | found, FACTS)
    results.record(plan, folder)
    return plan


def _answers(dataset) -> np.ndarray:
    """What the model says of the clean images: it gets all of them right."""
    return dataset.labels


def _files(unit: units.Unit, distance: np.ndarray) -> dict[str, bytes]:
    dataset, hit = units.examples_of(unit), np.isfinite(distance)
    count, length = len(hit), np.where(np.isfinite(distance), distance, 0)
    asked = unit.configuration
    away = (dataset.labels + 1 + asked.seed % 2) % 3
    columns = {
        "attack": [asked.attack] * count,
        "index": dataset.index,
        "label": dataset.labels,
        "target": np.where(asked.targets == "untargeted", -1, away).astype(np.int32),
        "clean_prediction": _answers(dataset),
        "prediction": np.where(hit, (dataset.labels + 1) % 3, dataset.labels).astype(np.int32),
        "success": hit,
        "distance": distance.astype(np.float32),
        **{norm: length.astype(np.float32) for norm in ("l0", "l1", "l2", "linf")},
        "margin": np.where(hit, 0.5, -1).astype(np.float32),
        "c": np.ones(count, np.float32),
        "forwards": np.full(count, asked.settings.steps, np.int32),
        "backwards": np.full(count, asked.settings.steps, np.int32),
        "finite": np.ones(count, bool),
    }
    rows, arrays = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table(columns), rows)
    moved = np.clip(dataset.images + 0.1, 0, 1) * hit[:, None, None, None] + dataset.images * ~hit[:, None, None, None]
    np.savez_compressed(arrays, adversarial=moved, index=dataset.index, target=columns["target"])
    return {working.ROWS: rows.getvalue(), working.ARRAYS: arrays.getvalue()}


def unit(configuration, start=0, stop=5, *, checks=False) -> units.Unit:
    """One that nobody has done, of the configuration's first examples unless said otherwise."""
    return units.Unit(f"{configuration.digest}{start}", configuration, start, stop, 5, "auto", checks, None)


FIRST, SECOND = (configuration(confidence=confidence) for confidence in (0.0, 5.0))  # one program
OTHER = configuration("fast_linf")


def reach(place: int, index: int) -> float:
    """Three configurations on ten examples: the second fails on the last example, the third on all but the first."""
    return INF if (place == 1 and index == 9) or (place == 2 and index > 0) else 1.0 + index + 10 * (place == 1)


def three(folder: Path) -> units.Plan:
    """Three configurations, which `reach` says the distances of."""
    asked = [configuration(steps=10 * (place + 1), model='a "model"') for place in range(3)]
    return sweep(folder, asked, reach)
