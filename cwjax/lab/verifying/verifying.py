"""`cwjax verify`: what a run or a sweep claims, asked once more, by the plainest means there are.

In a process that knows nothing of the attack: every stored image through the model without jit, at the highest
precision; every distance in NumPy's float64, from the data set's own image; and, given a twin of the model in PyTorch,
the verdict by that as well.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import PyTree

from cwjax.base import answered, shapes
from cwjax.lab import functions
from cwjax.lab.attacking import judging
from cwjax.lab.attacking.presets import norm_of
from cwjax.lab.attacking.rows import places_of
from cwjax.lab.console.progress import progress, say
from cwjax.lab.data import Dataset
from cwjax.lab.files import store
from cwjax.lab.reporting import verdicts
from cwjax.lab.reporting.findings import NAME
from cwjax.lab.subjects import AUTO, model_and_data, original_of
from cwjax.lab.sweeps import results
from cwjax.lab.verifying import claims
from cwjax.lab.verifying.claims import Claims
from cwjax.models import Model
from cwjax.tasks import Task
from cwjax.words import shortened

FILE = "verification.parquet"

_AT_ONCE = 100  # images
_TOLERANCE = 1e-5  # of a distance, relative
_NAMED = 12  # attacks or configurations on a line
_FOUND = ("found_", "agrees")  # how the columns begin that are added

Way = Callable[..., Any]  # float32 [B, *S], context -> outputs [B, ...], such as logits [B, K]

NORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    # pixels of images [B, H, W, C], elements of vectors [B, F]
    "l0": lambda delta: (delta != 0 if delta.ndim == 2 else (delta != 0).any(-1)).reshape(len(delta), -1).sum(1),
    "l1": lambda delta: np.abs(delta).reshape(len(delta), -1).sum(1),
    "l2": lambda delta: np.sqrt((delta.reshape(len(delta), -1) ** 2).sum(1)),
    "linf": lambda delta: np.abs(delta).reshape(len(delta), -1).max(1),
}
"""float64 [B, *S] -> [B]: of every image."""


def verify(folder: Path, *, torch: str | None = None, data: str = AUTO, data_folder: Path | None = None) -> int:
    """Looks at every row again, and writes FOLDER/verification.parquet: the rows with what was found, and `agrees`.

    A success has to meet its goal with the attack's confidence, and its distance has to be that of the images to 1e-5;
    an image that is claimed to be no success has to be the clean one.

    Args:
      folder: of `cwjax attack` or `cwjax sweep`.
      torch: MODULE:FUNCTION, a function without arguments that returns the model as a torch.nn.Module of images
        [B, C, H, W] in [0, 1].
      data: that was attacked; "auto": what the folder names, or else what suits the model, see `subjects.data_for`.
      data_folder: where data is kept.

    Returns:
      How many rows do not agree.

    Raises:
      FileNotFoundError: there is no run or sweep, or nothing of it is done.
      store.CorruptFile: what it consists of cannot be read, or does not fit together.
      ValueError: an attack that this version does not know; a model that cannot be had, or does not take the images;
        data with other images than those that were attacked.
    """
    found, originals = list(claims.read(folder)), {}

    def asked(claim: Claims) -> tuple[str, str]:
        return claim.model, claim.data if data == AUTO else data

    known = {pair: model_and_data(*pair, data_folder, checked=False) for pair in dict.fromkeys(map(asked, found))}
    more = {"torch_": twin(torch)} if torch else {}
    for name, dataset in {name: known[name, told][3] for name, told in known}.items():
        if (way := original_of(name, dataset.images.shape[1:])) is not None:
            originals[name] = {"original_": _judged_alone(way, name)}
            say(f"{name}: every row is asked in the model's own framework as well.")
    looked = []
    with progress("rows verified", sum(len(claim.table) for claim in found)) as advance:
        for claim in found:
            model, _, _, dataset = known[asked(claim)]
            ways = {"": plain(model, claim.model)} | originals.get(claim.model, {}) | more
            looked.append(looked_at(claim, ways, dataset, advance))
    try:
        table = pa.concat_tables(looked, promote_options="permissive")
    except pa.ArrowException as error:
        raise store.CorruptFile(f"the rows in {folder} do not fit together ({error}): run it again") from error
    with store.atomically(folder / FILE) as temporary:
        pq.write_table(table, temporary)
    wrong = table.filter(pa.array(~table["agrees"].to_numpy()))
    say(f"{len(table) - len(wrong)} of {len(table)} rows agree: {folder / FILE}")
    if none := int((~table["success"].to_numpy()).sum()):
        say(f"{none} of them say that the attack failed: they agree if their image is the clean one, unchanged.")
    told = ("attack", "index", "target", "success", "distance", "found_success", "found_distance")
    for row in wrong.slice(0, 5).to_pylist():
        attack, index, target, *both = (row[name] for name in told)
        claimed, true = (f"{'success' if hit else 'failure'} at {far:.6g}" for hit, far in (both[:2], both[2:]))
        called = f" ({row[NAME]})" if row.get(NAME) else ""
        own = row.get("found_original_margin")
        more = "" if own is None else f"; margin {row['found_margin']:.3g} here, {own:.3g} in the model's own framework"
        say(f"  {attack}, example {index}{called}, target {target}: claims {claimed}; found {true}{more}")
    say(of_the_attack(folder))
    return len(wrong)


def of_the_attack(folder: Path) -> str:
    """What this does not ask: whether the attack was strong enough; and who has."""
    if (folder / results.PLAN).is_file():
        where, found = "the checks say", {f"configuration {at}": each for at, each in results.beliefs(folder).items()}
    else:
        where, found = f"{folder / verdicts.FILE} says", dict(verdicts.read(folder))
    other = "That is about the rows. Whether the attack was strong enough is another question"
    if not found:
        return f"{other}, which was not asked: --no-checks was said."
    blamed = {name: f" ({', '.join(each.blamed)})" if each.blamed else "" for name, each in found.items()}
    told = [f"{each.verdict.upper()} of {name}{blamed[name]}" for name, each in found.items()]
    return f"{other}: {where} {', '.join(shortened(told, _NAMED))}."


def plain(model: Model, name: str) -> Way:
    """The model without jit, at the highest precision. `name` is for the error where it does not take the images."""

    def outputs(x: np.ndarray, context: PyTree = None) -> Any:
        with functions.blamed("--model", name), jax.disable_jit(), jax.default_matmul_precision("highest"):
            return jax.tree.map(np.asarray, model.of_batch(jnp.asarray(x), context))

    return outputs


def _judged_alone(way: Callable[[np.ndarray], np.ndarray], name: str) -> Way:
    """The original of a model, in the shape of a `Way`."""

    def logits(x: np.ndarray, context: PyTree = None) -> np.ndarray:
        with functions.blamed("--model", name):
            if context is not None:
                raise ValueError("the task has a context, which a model of another framework is not told")
            return np.asarray(way(np.asarray(x, np.float32)))

    return logits


def twin(name: str) -> Way:
    """A model of PyTorch: see `verify`."""
    function = functions.maker("--torch", name, "a torch.nn.Module")
    with functions.blamed("--torch", name):
        import torch  # pyright: ignore[reportMissingImports]

        network = function().eval()

    def logits(x: np.ndarray, context: PyTree = None) -> np.ndarray:
        with functions.blamed("--torch", name), torch.no_grad():
            if context is not None:
                raise ValueError("the task has a context, which a model of PyTorch is not told")
            return network(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy()

    return logits


def looked_at(claim: Claims, ways: dict[str, Way], dataset: Dataset, advance: Any) -> pa.Table:
    """The rows, with what was found of each, by each way to ask the model."""
    table = claim.table.drop_columns([name for name in claim.table.column_names if name.startswith(_FOUND)])
    success = table["success"].to_numpy()
    if claim.adversarial.shape[1:] != dataset.images.shape[1:]:
        shapes = [list(images.shape[1:]) for images in (dataset.images, claim.adversarial)]
        raise ValueError(f"{dataset.name} has images of shape {shapes[0]}, and those of {claim.name} are {shapes[1]}")
    clean = dataset.images[places_of(table, dataset)]
    norm, delta = norm_of(claim.attack), claim.adversarial.astype(np.float64) - clean
    features = dataset.features
    distance = _priced(norm, delta, features.cost) if features and features.priced else NORMS[norm](delta)
    unchanged = (claim.adversarial == clean).reshape(len(clean), -1).all(1)
    columns, met = {}, np.ones(len(clean), bool)
    judge = judge_of(dataset, table, claim.confidence * (1 - _TOLERANCE))
    for prefix, way in ways.items():
        which = {"": f"--model {claim.model}", "torch_": "the model of --torch"}.get(
            prefix, f"the original of --model {claim.model}"
        )
        margin = np.empty(len(clean))
        for first in range(0, len(clean), _AT_ONCE):
            rows = np.arange(first, min(first + _AT_ONCE, len(clean)))
            margin[rows], so = judge(way, claim.adversarial[rows], rows, which)
            met[rows] &= so
            if not prefix:
                advance(len(rows))
        columns[f"found_{prefix}margin"] = margin
    near = np.abs(distance - table["distance"].to_numpy()) <= _TOLERANCE * np.maximum(distance, 1e-30)
    columns |= {"found_success": met, "found_distance": np.where(met, distance, np.inf)}
    columns["agrees"] = np.where(success, met & near, unchanged)
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column))
    return table


def _priced(norm: str, delta: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """The distance in L0 or L1 of features that have costs."""
    return ((delta != 0) if norm == "l0" else np.abs(delta)) @ cost


def judge_of(dataset: Dataset, table: pa.Table, confidence: float) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """How rows of the table are judged: (way, x, rows, which) -> their margins float64 [B], and whether they meet their
    goals with that confidence.
    """
    task, places = dataset.task, places_of(table, dataset)
    if task:
        return lambda way, x, rows, which: _of_task(task, dataset, confidence, way, x, places[rows], which)
    label, target = (table[name].to_numpy() for name in ("label", "target"))
    most = max(label.max(), target.max())

    def of_classes(way: Way, x: np.ndarray, rows: np.ndarray, which: str) -> tuple[np.ndarray, np.ndarray]:
        answers = np.asarray(way(x), np.float64)
        if answers.ndim != 2 or len(answers) != len(x) or answers.shape[1] <= most:
            raise ValueError(
                f"{which} answers {len(x)} images with shape {list(answers.shape)}, where the rows have classes up to "
                f"{most}: it is another model, or its folder was changed"
            )
        margin = margins(answers, label[rows], target[rows])
        return margin, (margin > 0) & (margin >= confidence)

    return of_classes


def _of_task(
    task: Task, dataset: Dataset, confidence: float, way: Way, x: np.ndarray, places: np.ndarray, which: str
) -> tuple[np.ndarray, np.ndarray]:
    """As `judge_of` says, of inputs of a task: one by one, without jit, by its objective and its second opinion."""
    outputs = way(x, judging.context_of(dataset, places))
    if {np.shape(leaf)[:1] for leaf in jax.tree.leaves(outputs)} != {(len(x),)}:
        raise ValueError(f"{which} answers {len(x)} inputs with {shapes(outputs)}: it is another model, or was changed")
    goal = judging.goals_of(dataset, places)
    asked, falling = task.objective_of(confidence), task.objective_of(hinged=False)
    margin, met = [], []
    for each in zip(judging.one_by_one(outputs), judging.one_by_one(goal), strict=True):
        arrays = jax.tree.map(jnp.asarray, each)
        with functions.blamed("the task", repr(task.name)):
            margin.append(-float(falling.loss(*arrays)))
            so = bool(asked.met(*arrays)) and bool(answered(arrays[0]))
            met.append(so and (task.second is None or bool(task.second(*each))))
    return np.array(margin), np.array(met)


def margins(logits: np.ndarray, label: np.ndarray, target: np.ndarray) -> np.ndarray:
    """By how many logits each goal is met, float64 [B]: the target leads all others, or, where it is -1, any other
    class leads the label.
    """
    rows, wanted = np.arange(len(logits)), np.where(target >= 0, target, label)
    own = logits[rows, wanted]
    others = logits.copy()
    others[rows, wanted] = -np.inf
    return np.where(target >= 0, own - others.max(1), others.max(1) - own)
