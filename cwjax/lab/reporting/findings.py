"""What the attacks of a report found: their rows, the cases of the paper, and numbers as text."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int

from cwjax.evaluation import comparison
from cwjax.evaluation.metrics import summarise
from cwjax.lab.console import tables

NORMS = {
    "l0": ("L0", "how many pixels changed at all"),
    "l1": ("L1", "the sum of the absolute changes"),
    "l2": ("L2", "the Euclidean norm of the change"),
    "linf": ("L∞", "the largest change of any one value"),
}
MISCLASSIFIED, WITHOUT = "misclassified", "mean without them"  # headings
MOST_WORDS = 10  # examples of a task that are told in words
MET_BEFORE = "met before"  # the heading that tasks have in the place of MISCLASSIFIED
CHANGED = "changed"  # a column of rows whose inputs are features: which changed, in words
CHANGES = ("feature", "before", "after", "how often")  # headings of the table of those that changed
MOST_FEATURES = 30  # in the table of those that changed
NAME = "name"  # a column of rows whose images have names
SAID = ("wanted", "clean_says", "says")  # columns of text that rows of a task have besides
COLUMNS = {"index", "label", "target", "clean_prediction", "prediction", "success", "distance", *NORMS}
COLUMNS |= {"margin", "c", "forwards", "backwards", "finite"}
ROUNDING = {
    "unrounded_success",
    "unrounded_distance",
    "rounded_success",
    "repairs",
}  # where 8-bit pixels were asked for


class Run(NamedTuple):
    """One attack of a report."""

    attack: str  # its name, as in results.parquet: "l2"
    norm: str  # the one it minimised, a key of NORMS
    settings: dict[str, Any]  # all that were in force; None: the attack has no such setting
    table: pa.Table  # one row (R in all) per example and target, with the columns COLUMNS; target -1: untargeted
    clean: Float32[np.ndarray, "R H W C"]  # in [0, 1]
    adversarial: Float32[np.ndarray, "R H W C"]  # in [0, 1]; the clean image where the attack failed
    classes: tuple[str, ...]  # what each label means
    seconds: dict[str, float]  # stage -> seconds; "attack" is shown in the main table
    task: str = ""  # what was asked for where it is not a class; the table then has the columns SAID too
    drawn: tuple[np.ndarray, np.ndarray] | None = None  # pictures of a task's first rows, clean and adversarial
    features: tuple[str, ...] = ()  # names of the elements, where inputs are vectors [F] of features
    elements: str = "pixels"  # what inputs consist of

    @property
    def input(self) -> str:
        """What one input is called: "image"."""
        return "image" if self.elements == "pixels" and not self.task else "input"

    @property
    def name(self) -> str:
        """The attack's name to read: "L2"."""
        return norm_name(self.attack) if self.attack in NORMS else self.attack


class About(NamedTuple):
    """What all attacks of a report have in common."""

    title: str  # "L2 attack on mnist5k"
    configuration: dict[str, Any]  # nested settings: data, targets, seed
    environment: dict[str, str]  # versions, device
    history: dict[str, list[float]] | None  # "loss", "accuracy", "validation_loss", "validation_accuracy" by epoch
    model: dict[str, Any]  # the model's card: recipe, data, accuracy


def summary_rows(run: Run) -> list[dict[str, Any]]:
    """The attack's rows of the main table, heading -> value; `shown` makes text of them.

    A row counts the images that the model gets wrong before any attack, and has a mean without them: `headed` leaves
    both out where there are none.

    One row for all its rows; if examples were attacked towards several targets each, the paper's three cases instead:
    best picks each example's easiest target, worst its hardest (a failure, if any failed), average takes all targets.
    Distances are over the successes alone, "distance" being the one in the attack's own norm; passes are over all
    attacks of the row. A value is nan or None where there is nothing to say.
    """
    columns = columns_of(run)
    rows: list[dict[str, Any]] = []
    for case, picked in cases_of(columns).items():
        row = {"attack": run.name, "case": case.removesuffix(" case"), **sums(run.norm, columns, picked)}
        rows.append({**row, "seconds": None if rows else run.seconds.get("attack")})
    return rows


def sums(norm: str, columns: dict[str, np.ndarray], picked: Int[np.ndarray, "_"]) -> dict[str, Any]:
    """How many rows succeeded among those picked, how far, and what they cost, heading -> value."""
    success = jnp.asarray(columns["success"][picked])
    lengths = {name: jnp.asarray(columns[name][picked]) for name in ("distance", *NORMS)}
    summary = summarise(success, lengths)
    median = summary.median["distance"]
    row: dict[str, Any] = {"rows": summary.examples, "success %": 100 * summary.success_rate}
    row["mean distance"] = summary.mean["distance"]
    row["median distance"] = int(median) if norm == "l0" and median % 1 == 0 else median
    right = columns["clean_prediction"][picked] == columns["label"][picked]
    row |= {
        MISCLASSIFIED: int((~right).sum()),
        WITHOUT: _mean(columns["distance"][picked], right & np.asarray(success)),
    }
    row["norm"] = norm_name(norm)
    row |= {f"mean {norm_name(norm)}": summary.mean[norm] for norm in NORMS}
    return row | {name: float(columns[name][picked].mean()) for name in ("forwards", "backwards")}


def headed(rows: Sequence[dict[str, Any]], *, task: bool = False) -> list[dict[str, Any]]:
    """The rows of one table, from `sums`, as they are shown.

    Where all have the same norm, the headings of mean and median name it ("mean L2"); else a column does. The columns
    about misclassified images are left out where there are none. Of tasks they are about inputs that meet their goal
    before any attack.
    """
    norms, wrong = {row["norm"] for row in rows}, any(row[MISCLASSIFIED] for row in rows)
    [norm, *others] = norms
    names = {} if others else {"mean distance": f"mean {norm}", "median distance": f"median {norm}"}
    names |= {MISCLASSIFIED: MET_BEFORE} if task else {}
    dropped = {*(() if others else ("norm",)), *(() if wrong else (MISCLASSIFIED, WITHOUT))}
    return [{names.get(key, key): value for key, value in row.items() if key not in dropped} for row in rows]


def of_successes(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which rows of a table the distances are of, in a sentence; empty where every attack succeeded."""
    if all(row["success %"] == 100 for row in rows):
        return ""
    return "Mean and median distances are over the successes alone: compare them together with success %."


def rounding_row(run: Run) -> dict[str, Any] | None:
    """What it cost to round the results to 8 bits, heading -> value; None if they were not rounded.

    The mean distances are over the attacks that succeeded in the end, so that they can be compared.
    """
    if not set(run.table.column_names) >= ROUNDING:
        return None
    columns = columns_of(run) | {name: run.table[name].to_numpy() for name in ROUNDING}
    hit, moved = columns["success"], columns["unrounded_success"] & ~columns["rounded_success"]
    nan = float("nan")
    return {
        "attack": run.name,
        "rows": len(hit),
        "success % before": 100 * float(columns["unrounded_success"].mean()),
        "success % rounded": 100 * float(columns["rounded_success"].mean()),
        "success % repaired": 100 * float(hit.mean()),
        "values moved": float(columns["repairs"][moved].mean()) if moved.any() else nan,
        "mean distance before": float(columns["unrounded_distance"][hit].mean()) if hit.any() else nan,
        "mean distance after": float(columns["distance"][hit].mean()) if hit.any() else nan,
    }


def word_rows(run: Run, columns: dict[str, np.ndarray]) -> list[dict[str, str]]:
    """What was wanted of the first examples of a task, and what the model says before and after: heading -> text."""
    rows = []
    for i in range(min(MOST_WORDS, len(columns["index"]))):
        wanted, clean, says = (str(columns[name][i]) for name in SAID)
        hit = bool(columns["success"][i])
        after = {"after": says if hit else "failed", norm_name(run.norm): length(run.norm, columns["distance"][i])}
        if not hit:
            after[norm_name(run.norm)] = "–"
        rows.append({"example": str(columns["index"][i]), "goal": wanted, "before": clean} | after)
    return rows


def changed_rows(run: Run, columns: dict[str, np.ndarray]) -> list[dict[str, str]]:
    """Which features the successes changed, the most frequent first: heading -> text. Before and after are medians."""
    hit = columns["success"]
    clean, after = run.clean[hit], run.adversarial[hit]
    changed = clean != after
    times = changed.sum(0)
    rows = []
    for place in np.argsort(-times, kind="stable")[:MOST_FEATURES]:
        if times[place]:
            some = changed[:, place]
            ends = (f"{np.median(values[some, place]):g}" for values in (clean, after))
            share = f"{times[place]:,} of {len(changed):,} ({percent(100 * times[place] / len(changed))} %)"
            rows.append(dict(zip(CHANGES, (run.features[place], *ends, share), strict=True)))
    return rows


def setting_rows(runs: Sequence[Run]) -> list[dict[str, str]]:
    """What every attack was told, as text: one row a setting, heading -> value."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: [run.settings.get(name) for run in runs] for name in names}
    values = {"norm": [norm_name(run.norm) for run in runs]} | values
    headings = tables.distinct(["setting", *(run.name for run in runs)])
    return [
        dict(zip(headings, [name, *map(setting, row)], strict=True))
        for name, row in values.items()
        if any(value is not None for value in row)
    ]


def setting(value: Any) -> str:
    """The value of a setting to read: "1,000", "1e-05", "–" for None."""
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else number(value)


def shown(row: dict[str, Any]) -> dict[str, str]:
    """A row of `summary_rows` as text."""
    shares = ("success %", "finite %")
    return {key: percent(value) if key.startswith(shares) else number(value) for key, value in row.items()}


def number(value: Any, digits: int = 4) -> str:
    """A value to read: "1,234", "1.530", "–" for None and nan; anything but a number as it is."""
    if value is None or value != value:  # nan
        return "–"
    if isinstance(value, (float, np.floating)) and np.isfinite(value):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.{digits}g}".removesuffix(".")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def percent(value: float) -> str:
    """With one digit; only all is 100.0, and only none is 0.0."""
    return f"{value if value in (0, 100) else min(max(value, 0.1), 99.9):.1f}"


def norms_of(elements: str) -> dict[str, tuple[str, str]]:
    """NORMS of inputs that consist of these elements."""
    return {norm: (name, meaning.replace("pixels", elements)) for norm, (name, meaning) in NORMS.items()}


def norm_name(norm: str) -> str:
    return NORMS[norm][0]


def length(norm: str, distance: float | np.floating) -> str:
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
    return arrays_of(run.table)


def arrays_of(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns COLUMNS of a table, and those of SAID and NAME that it has."""
    words = {name: np.array(table[name].to_pylist(), object) for name in (*SAID, NAME) if name in table.column_names}
    return {name: table[name].to_numpy() for name in COLUMNS} | words


def of_task(columns: dict[str, np.ndarray]) -> bool:
    """Whether rows are of a task, and not of classes."""
    return SAID[-1] in columns


def cases_of(columns: dict[str, np.ndarray]) -> dict[str, Int[np.ndarray, "_"]]:
    """Case -> the rows of the table that it is made of."""
    everything = {"all attacks": np.arange(len(columns["index"]))}
    rows = np.flatnonzero(columns["target"] >= 0)
    index = np.unique(columns["index"][rows])
    targets = len(np.unique(np.stack([columns["index"][rows], columns["target"][rows]]), axis=1).T)
    if targets == len(index):
        return everything
    reach = np.where(columns["success"], columns["distance"], np.inf)[rows]
    cases = {f"{name} case": rows[picked] for name, picked in comparison.cases(columns["index"][rows], reach).items()}
    return cases if len(rows) == len(columns["index"]) else everything | cases


def verdict(run: Run, columns: dict[str, np.ndarray]) -> str:
    """The attack's outcome in a sentence."""
    hit, count = columns["success"], len(columns["success"])
    attacks = f"{count:,} attack{'s' * (count != 1)}"
    if not hit.any():
        return f"None of {attacks} succeeded."
    share = f"All of {attacks}" if hit.all() else f"{percent(100 * hit.mean())} % of {attacks}"
    median = length(run.norm, median_of(columns, "distance"))
    return f"{share} succeeded; the median successful perturbation has {norm_name(run.norm)} norm {median}."


def two_means(norm: str, columns: dict[str, np.ndarray], called: str = "image") -> str:
    """The mean distance with and without the inputs that the model gets wrong before any attack; empty where it gets
    all of them right.
    """
    hit, distance = columns["success"], columns["distance"]
    right = columns["clean_prediction"] == columns["label"]
    wrong, rest = hit & ~right, hit & right
    if not wrong.any():
        return ""
    count, few, task = int(wrong.sum()), int(rest.sum()), of_task(columns)
    whole = f"all {hit.sum():,}" if hit.all() else f"the {hit.sum():,} that succeeded"
    counted = (
        f"count{'s' * (count == 1)} as 0" if not distance[wrong].any() else f"{'are' if count > 1 else 'is'} among them"
    )
    already = "that met their goal before" if task else "that the model already gets wrong"
    first = f"{length(norm, _mean(distance, hit))} over {whole} (the {count:,} {already} {counted})"
    if not few:
        others = "No other input reached its goal" if task else f"No {called} that the model gets right was fooled"
        return f"The mean is {first}. {others}, so there is no mean without them."
    others = "others" if task else "that it gets right"
    return f"Two means: {first}, {length(norm, _mean(distance, rest))} over the {few:,} {others}."


_LEFT_OUT = " To leave them out: cwjax attack --only-correct."


def misclassified(columns: dict[str, np.ndarray], called: str = "image") -> str:
    """How many inputs were misclassified before any attack, in a sentence; empty if none was. Of a task: how many
    inputs met their goal.
    """
    index, first = np.unique(columns["index"], return_index=True)
    wrong = int((columns["clean_prediction"] != columns["label"])[first].sum())
    if not wrong:
        return ""
    if of_task(columns):
        some = f"All {wrong}" if wrong == len(index) else f"{wrong} of the {len(index)}"
        return f"{some} inputs met their goal before any attack, and count all the same.{_LEFT_OUT}"
    if wrong == len(index):
        return (
            f"All {wrong} {called}s were misclassified before any attack, so there was nothing to attack: neither "
            "success nor distance says anything about it."
        )
    some = f"{wrong} of the {len(index)} {called}s {'was' if wrong == 1 else 'were'}"
    most = " That is most of them: is the model trained, and are pixels scaled as it takes them?"
    return (
        f"{some} misclassified before any attack, and {'counts' if wrong == 1 else 'count'} all the same."
        f"{most if 2 * wrong > len(index) else ''}{_LEFT_OUT}"
    )


def before_any_attack(runs: Sequence[Run]) -> list[str]:
    """What inputs that the model gets wrong anyway do to the numbers, in sentences; none where it gets all right."""
    columns = [columns_of(run) for run in runs]
    both = [(run.name, two_means(run.norm, found, run.input)) for run, found in zip(runs, columns, strict=True)]
    said = [f"{name}: {sentence}" if len(runs) > 1 else sentence for name, sentence in both if sentence]
    return [*([first] if (first := misclassified(columns[0], runs[0].input)) else []), *said]


def searches_c(run: Run) -> bool:
    """Whether the attack looks for a weight c; the c of others says nothing."""
    return any(run.settings.get(name) is not None for name in ("initial_c", "search_steps", "largest_c"))


def _mean(values: np.ndarray, some: np.ndarray) -> float:
    """Of those of the values; nan if there are none."""
    return float(values[some].mean(dtype=np.float64)) if some.any() else float("nan")


def median_of(columns: dict[str, np.ndarray], name: str) -> float:
    """Over the successes; nan if there are none."""
    hit = columns["success"]
    return float(np.median(columns[name][hit])) if hit.any() else float("nan")
