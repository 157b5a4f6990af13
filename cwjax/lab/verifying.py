"""`cwjax verify`: what a run or a sweep claims, asked once more, by the plainest means there are.

In a process that knows nothing of the attack: every stored image through the model without jit, at the highest
precision; every distance in NumPy's float64, from the data set's own image; and, given a twin of the model in PyTorch,
the verdict by that as well.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cwjax.lab import data, runs, store
from cwjax.lab.presets import ATTACKS
from cwjax.lab.progress import progress, say
from cwjax.lab.rows import places_of
from cwjax.lab.subjects import model_of, what_failed
from cwjax.lab.sweeps import results, units, working
from cwjax.lab.sweeps.vault import Vault
from cwjax.models import Model

FILE = "verification.parquet"

_AT_ONCE = 100  # images
_TOLERANCE = 1e-5  # of a distance, relative

Logits = Callable[[np.ndarray], np.ndarray]  # float32 [B, *S] -> [B, K]

NORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "l0": lambda delta: (delta != 0).any(-1).reshape(len(delta), -1).sum(1),  # pixels: images are [B, H, W, C]
    "l1": lambda delta: np.abs(delta).reshape(len(delta), -1).sum(1),
    "l2": lambda delta: np.sqrt((delta.reshape(len(delta), -1) ** 2).sum(1)),
    "linf": lambda delta: np.abs(delta).reshape(len(delta), -1).max(1),
}
"""float64 [B, *S] -> [B]: of every image."""


class Claims(NamedTuple):
    """What one attack claims of R images."""

    name: str
    model: str
    data: str
    attack: str
    confidence: float
    table: pa.Table  # R rows
    adversarial: np.ndarray  # float32 [R, *S]


def verify(folder: Path, *, torch: str | None = None, data_folder: Path | None = None) -> int:
    """Looks at every row again, and writes FOLDER/verification.parquet: the rows with what was found, and `agrees`.

    A success has to meet its goal with the attack's confidence, and its distance has to be that of the images to 1e-5;
    an image that is claimed to be no success has to be the clean one.

    Args:
      folder: of `cwjax attack` or `cwjax sweep`.
      torch: MODULE:FUNCTION, a function without arguments that returns the model as a torch.nn.Module of images
        [B, C, H, W] in [0, 1].
      data_folder: where data is kept.

    Returns:
      How many rows do not agree.

    Raises:
      FileNotFoundError, store.CorruptFile: see `runs.read` and `sweeps.results.table`.
      ValueError: a model that is not to be had; data with other images than those that were attacked.
    """
    claims = list(_claims(folder))
    models: dict[str, Logits] = {}
    more = {"torch_": twin(torch)} if torch else {}
    looked = []
    with progress("rows verified", sum(len(claim.table) for claim in claims)) as advance:
        for claim in claims:
            if claim.model not in models:
                models[claim.model] = plain(model_of(claim.model)[0])
            ways, dataset = {"": models[claim.model]} | more, units.data_named(claim.data, data_folder)
            looked.append(_looked_at(claim, ways, dataset, advance))
    table = pa.concat_tables(looked, promote_options="permissive")
    with store.atomically(folder / FILE) as temporary:
        pq.write_table(table, temporary)
    wrong = table.filter(pa.array(~table["agrees"].to_numpy()))
    say(f"{len(table) - len(wrong)} of {len(table)} rows agree: {folder / FILE}")
    for row in wrong.slice(0, 5).to_pylist():
        claimed = f"claims {'success' if row['success'] else 'failure'} at {row['distance']:.6g}"
        found = f"found {'success' if row['found_success'] else 'failure'} at {row['found_distance']:.6g}"
        say(f"  {row['attack']}, example {row['index']}, target {row['target']}: {claimed}; {found}")
    return len(wrong)


def plain(model: Model) -> Logits:
    """The model without jit, at the highest precision."""

    def logits(x: np.ndarray) -> np.ndarray:
        with jax.disable_jit(), jax.default_matmul_precision("highest"):
            return np.asarray(model.apply(model.params, jnp.asarray(x)), np.float64)

    return logits


def twin(name: str) -> Logits:
    """A model of PyTorch: see `verify`."""
    module, _, function = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        import torch  # pyright: ignore[reportMissingImports]

        network = getattr(importlib.import_module(module), function)().eval()
    except (Exception, SystemExit) as error:  # whatever a user's code may raise
        raise ValueError(f"--torch {name}: {what_failed(error)}") from error

    def logits(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).double().numpy()

    return logits


def _claims(folder: Path) -> Iterator[Claims]:
    """Of a run one for each attack; of a sweep one for each unit that is done."""
    if not (folder / results.PLAN).is_file():
        found, about = runs.read(folder)
        if (model := about.configuration.get("model")) is None:
            raise ValueError(
                f"the run in {folder} does not name its model, as that of the demo does not: nothing to verify"
            )
        for run in found:
            confidence = run.settings.get("confidence") or 0.0
            named = (str(model), str(about.configuration["data"]))
            yield Claims(run.attack, *named, run.attack, float(confidence), run.table, run.adversarial)
        return
    vault = Vault(folder)
    for configuration, columns, digests in results.planned(folder):
        for unit in digests:
            if files := vault.get(unit):
                named = (f"{configuration} {unit[:12]}", columns["model"], columns["data"], columns["attack"])
                images = working.arrays(files)["adversarial"]
                yield Claims(*named, float(columns["confidence"] or 0.0), working.table(files), images)


def _looked_at(claim: Claims, ways: dict[str, Logits], dataset: data.Dataset, advance: Any) -> pa.Table:
    """The rows, with what was found of each."""
    table = claim.table
    label, target, success = (table[name].to_numpy() for name in ("label", "target", "success"))
    clean = dataset.images[places_of(table, dataset)]
    distance = NORMS[ATTACKS[claim.attack].norm](claim.adversarial.astype(np.float64) - clean)
    unchanged = (claim.adversarial == clean).reshape(len(clean), -1).all(1)
    columns, met = {}, np.ones(len(clean), bool)
    for prefix, logits in ways.items():
        margin = np.empty(len(clean))
        for first in range(0, len(clean), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            margin[some] = margins(logits(claim.adversarial[some]), label[some], target[some])
            if not prefix:
                advance(len(margin[some]))
        columns[f"found_{prefix}margin"] = margin
        met &= (margin > 0) & (margin >= claim.confidence * (1 - _TOLERANCE))
    near = np.abs(distance - table["distance"].to_numpy()) <= _TOLERANCE * np.maximum(distance, 1e-30)
    columns |= {"found_success": met, "found_distance": np.where(met, distance, np.inf)}
    columns["agrees"] = np.where(success, met & near, unchanged)
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column))
    return table


def margins(logits: np.ndarray, label: np.ndarray, target: np.ndarray) -> np.ndarray:
    """By how many logits each goal is met, float64 [B]: the target leads all others, or, where it is -1, any other
    class leads the label.
    """
    rows, wanted = np.arange(len(logits)), np.where(target >= 0, target, label)
    own = logits[rows, wanted]
    others = logits.copy()
    others[rows, wanted] = -np.inf
    return np.where(target >= 0, own - others.max(1), others.max(1) - own)
