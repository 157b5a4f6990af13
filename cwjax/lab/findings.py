"""What one attack run found: its rows, the cases of the paper, and numbers as text."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int

from cwjax.metrics import summarise

NORMS = {
    "l0": ("L0", "how many pixels changed at all"),
    "l1": ("L1", "the sum of the absolute changes"),
    "l2": ("L2", "the Euclidean norm of the change"),
    "linf": ("L∞", "the largest change of any one value"),
}
COLUMNS = {"index", "label", "target", "clean_prediction", "prediction", "success", "distance", *NORMS}
COLUMNS |= {"margin", "c", "forwards", "backwards", "finite"}


class Run(NamedTuple):
    """All that a report shows of one attack run."""

    title: str  # "Carlini-Wagner L2 on mnist5k"
    configuration: dict[str, Any]  # nested settings
    table: pa.Table  # one row (R in all) per example and target, with the columns COLUMNS; target -1: untargeted
    clean: Float32[np.ndarray, "R H W C"]  # in [0, 1]
    adversarial: Float32[np.ndarray, "R H W C"]  # in [0, 1]; the clean image where the attack failed
    classes: tuple[str, ...]  # what each label means
    norm: str  # the one the attack minimised, a key of NORMS
    seconds: dict[str, float]  # stage -> seconds; "attack" is shown in the main table
    environment: dict[str, str]  # versions, device
    history: dict[str, list[float]] | None  # "loss", "accuracy", "validation_loss", "validation_accuracy" by epoch
    model: dict[str, Any]  # the model's card: recipe, data, accuracy


def summary_rows(run: Run) -> list[dict[str, Any]]:
    """The rows of the main table, heading -> value; `shown` makes text of them.

    One row for all attacks; if examples were attacked towards several targets each, the paper's three cases instead:
    best picks each example's easiest target, worst its hardest (a failure, if any failed), average takes all targets.
    Distances are over the successes alone, passes over all attacks of the row. A value is nan or None where there is
    nothing to say.
    """
    columns = columns_of(run)
    lengths = {run.norm: columns["distance"]} | {norm: columns[norm] for norm in NORMS if norm != run.norm}
    rows = []
    for case, picked in cases_of(columns).items():
        success = jnp.asarray(columns["success"][picked])
        summary = summarise(success, {norm: jnp.asarray(value[picked]) for norm, value in lengths.items()})
        row: dict[str, Any] = {"case": case, "attacks": summary.examples, "success %": 100 * summary.success_rate}
        for norm in lengths:
            row[f"mean {norm_name(norm)}"] = summary.mean[norm]
            if norm == run.norm:
                row[f"median {norm_name(norm)}"] = summary.median[norm]
        row |= {name: float(columns[name][picked].mean()) for name in ("forwards", "backwards")}
        rows.append({**row, "seconds": None if rows else run.seconds.get("attack")})
    return rows


def shown(row: dict[str, Any]) -> dict[str, str]:
    """A row of `summary_rows` as text."""
    return {key: _percent(value) if key == "success %" else number(value) for key, value in row.items()}


def number(value: Any, digits: int = 4) -> str:
    """A value to read: "1,234", "1.530", "–" for None and nan; anything but a number as it is."""
    if value is None or value != value:  # nan
        return "–"
    if isinstance(value, (float, np.floating)) and np.isfinite(value):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.{digits}g}".removesuffix(".")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _percent(value: float) -> str:
    """With one digit; only all is 100.0, and only none is 0.0."""
    return f"{value if value in (0, 100) else min(max(value, 0.1), 99.9):.1f}"


def norm_name(norm: str) -> str:
    return NORMS[norm][0]


def length(norm: str, distance: float) -> str:
    return f"{distance:g}" if norm == "l0" else number(distance, 3)


def columns_of(run: Run) -> dict[str, np.ndarray]:
    """The table as arrays, once it and the images are known to fit together."""
    if missing := COLUMNS - set(run.table.column_names):
        raise ValueError(f"the table of results lacks {sorted(missing)}")
    if not len(run.clean) == len(run.adversarial) == run.table.num_rows > 0:
        raise ValueError(
            f"a report needs at least one row, and one clean and one adversarial image for each; "
            f"got {run.table.num_rows} rows, {len(run.clean)} clean and {len(run.adversarial)} adversarial images"
        )
    if run.norm not in NORMS:
        raise ValueError(f"norm {run.norm!r} is none of {list(NORMS)}")
    return {name: run.table[name].to_numpy() for name in COLUMNS}


def cases_of(columns: dict[str, np.ndarray]) -> dict[str, Int[np.ndarray, "_"]]:
    """Case -> the rows of the table that it is made of."""
    everything = {"all attacks": np.arange(len(columns["index"]))}
    rows = np.flatnonzero(columns["target"] >= 0)
    index, counts = np.unique(columns["index"][rows], return_counts=True)
    targets = len(np.unique(np.stack([columns["index"][rows], columns["target"][rows]]), axis=1).T)
    if targets == len(index):
        return everything
    reach = np.where(columns["success"], columns["distance"], np.inf)[rows]
    easiest_first = rows[np.lexsort((reach, columns["index"][rows]))]
    last = np.cumsum(counts) - 1  # of each example
    each = f"all {counts[0]} targets" if (counts == counts[0]).all() else "all targets"
    cases = {
        "best case": easiest_first[last - counts + 1],
        f"average case ({each})": rows,
        "worst case": easiest_first[last],
    }
    return cases if len(rows) == len(columns["index"]) else everything | cases


def verdict(run: Run, columns: dict[str, np.ndarray]) -> str:
    hit, count = columns["success"], len(columns["success"])
    attacks = f"{count:,} attack{'s' * (count != 1)}"
    if not hit.any():
        return f"None of {attacks} succeeded."
    share = f"All of {attacks}" if hit.all() else f"{_percent(100 * hit.mean())} % of {attacks}"
    median = length(run.norm, median_of(columns, "distance"))
    words = f"{share} succeeded; the median successful perturbation has {norm_name(run.norm)} norm {median}."
    index, first = np.unique(columns["index"], return_index=True)
    wrong = int((columns["clean_prediction"] != columns["label"])[first].sum())
    if wrong:
        images = f"{wrong} of the {len(index)} images {'was' if wrong == 1 else 'were'}"
        words += f" {images} misclassified before any attack, and {'counts' if wrong == 1 else 'count'} all the same."
    return words


def median_of(columns: dict[str, np.ndarray], name: str) -> float:
    """Over the successes; nan if there are none."""
    hit = columns["success"]
    return float(np.median(columns[name][hit])) if hit.any() else float("nan")
