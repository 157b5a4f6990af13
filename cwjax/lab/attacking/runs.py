"""What `cwjax attack` leaves beside its rows and images, so that the report can be made again: `run.json`.

from cwjax.lab.attacking import runs
from cwjax.lab.reporting import run_report

run_report.write(*runs.read(Path("runs/first")), Path("runs/first"))
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cwjax.lab.attacking.presets import norm_of
from cwjax.lab.attacking.rows import DRAWN, Attacked
from cwjax.lab.data import Dataset
from cwjax.lab.files import outputs, store
from cwjax.lab.reporting.findings import About, Run

FILE = "run.json"


def runs_of(attacked: Sequence[Attacked], dataset: Dataset) -> list[Run]:
    """What was attacked, for a report, and of which data."""
    return [
        Run(
            attack=each.attack,
            norm=norm_of(each.attack),
            settings=each.settings,
            table=each.table,
            clean=each.clean,
            adversarial=each.adversarial,
            classes=dataset.classes,
            seconds=each.seconds,
            task=dataset.task.name if dataset.task else "",
            drawn=each.drawn,
            features=dataset.features.names if dataset.features else (),
            elements=elements(dataset),
        )
        for each in attacked
    ]


def elements(dataset: Dataset) -> str:
    """What the inputs consist of, to read."""
    return "features" if dataset.features else dataset.task.elements if dataset.task else "pixels"


def record(runs: Sequence[Run], about: About, folder: Path) -> None:
    """Writes down what the runs' rows and images do not say."""
    told = [{"attack": run.attack, "norm": run.norm, "settings": run.settings, "seconds": run.seconds} for run in runs]
    common = {"about": about._asdict(), "classes": list(runs[0].classes), "task": runs[0].task}
    common |= {"features": list(runs[0].features)} if runs[0].features else {}
    common |= {"elements": runs[0].elements}
    store.write_json(folder / FILE, common | {"attacks": told})


def read(folder: Path) -> tuple[list[Run], About]:
    """The runs of a folder that `cwjax attack` wrote, and what they have in common.

    Raises:
      FileNotFoundError: there is no run in the folder.
      store.CorruptFile: what it consists of cannot be read, or does not fit together.
    """
    if not (folder / FILE).is_file():
        raise outputs.none_there(folder, "attack", "run")
    told = store.read_json(folder / FILE)
    try:
        table = pq.read_table(folder / "results.parquet")
        with np.load(io.BytesIO((folder / "adversarial.npz").read_bytes())) as arrays:
            images = {name: arrays[name] for name in arrays.files if name.startswith(("clean", "adversarial", *DRAWN))}
            for name in ("attack", "index", "target"):
                if arrays[name].tolist() != table[name].to_pylist():
                    raise ValueError(f"adversarial.npz has another {name} than results.parquet")
        about, classes = About(**told["about"]), tuple(told["classes"])
        if sorted(each["attack"] for each in told["attacks"]) != sorted(set(table["attack"].to_pylist())):
            raise ValueError("results.parquet has rows of other attacks than run.json names")
        task, features = str(told.get("task", "")), tuple(map(str, told.get("features", ())))
        elements = str(told.get("elements", "features" if features else "pixels"))
        runs = [_run(each, table, images, classes, task) for each in told["attacks"]]
        runs = [run._replace(features=features, elements=elements) for run in runs]
    except Exception as error:  # whatever a damaged table or archive may raise
        raise store.CorruptFile(f"the run in {folder} is damaged ({error}): run it again") from error
    return runs, about


def _run(
    told: dict[str, Any], table: pa.Table, images: dict[str, np.ndarray], classes: tuple[str, ...], task: str
) -> Run:
    """One attack, with its own of all rows."""
    mine = np.array(table["attack"].to_pylist()) == told["attack"]
    return Run(
        **told,
        table=table.filter(pa.array(mine)),
        clean=images["clean"][mine],
        adversarial=images["adversarial"][mine],
        classes=classes,
        task=task,
        drawn=_drawn(images, told["attack"]) if task else None,
    )


def _drawn(images: dict[str, np.ndarray], attack: str) -> tuple[np.ndarray, np.ndarray]:
    clean, adversarial = (images[f"{when}_{attack}"] for when in DRAWN)
    return clean, adversarial
