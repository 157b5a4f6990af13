"""What undoing changes came to, for a report: `cwjax attack --restored`."""

from typing import Any

import numpy as np

from cwjax.lab.reporting.findings import Run, columns_of

COLUMNS = {"unrestored_distance", "changed", "undone"}  # where changes were to be undone


def row(run: Run) -> dict[str, Any] | None:
    """What undoing took off the examples, heading -> value; None if nobody asked. Means are over the successes."""
    if not set(run.table.column_names) >= COLUMNS:
        return None
    columns = columns_of(run) | {name: run.table[name].to_numpy() for name in COLUMNS}
    hit = columns["success"]

    def mean(values: np.ndarray) -> float:
        return float(values[hit].mean(dtype=np.float64)) if hit.any() else float("nan")

    return {
        "attack": run.name,
        "successes": int(hit.sum()),
        "values changed before": mean(columns["changed"]),
        "values undone": mean(columns["undone"]),
        "mean distance before": mean(columns["unrestored_distance"]),
        "mean distance after": mean(columns["distance"]),
    }
