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

from cwjax.lab import functions
from cwjax.lab.attacking.presets import norm_of
from cwjax.lab.attacking.rows import places_of
from cwjax.lab.console import tables
from cwjax.lab.console.progress import progress, say
from cwjax.lab.data import Dataset
from cwjax.lab.files import store
from cwjax.lab.subjects import AUTO, data_for, model_of
from cwjax.lab.sweeps import units
from cwjax.lab.verifying import claims
from cwjax.lab.verifying.claims import Claims
from cwjax.models import Model

FILE = "verification.parquet"

_AT_ONCE = 100  # images
_TOLERANCE = 1e-5  # of a distance, relative
_FOUND = ("found_", "agrees")  # how the columns begin that are added

Logits = Callable[[np.ndarray], np.ndarray]  # float32 [B, *S] -> [B, K]

NORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "l0": lambda delta: (delta != 0).any(-1).reshape(len(delta), -1).sum(1),  # pixels: images are [B, H, W, C]
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
    found = list(claims.read(folder))
    models = {name: model_of(name) for name in dict.fromkeys(claim.model for claim in found)}
    more = {"torch_": twin(torch)} if torch else {}
    looked = []
    with progress("rows verified", sum(len(claim.table) for claim in found)) as advance:
        for claim in found:
            model, card = models[claim.model]
            named = data_for(claim.data if data == AUTO else data, claim.model, model, card)
            dataset = units.data_named(named, data_folder)
            looked.append(_looked_at(claim, {"": plain(model, claim.model)} | more, dataset, advance))
    try:
        table = pa.concat_tables(looked, promote_options="permissive")
    except pa.ArrowException as error:
        raise store.CorruptFile(f"the rows in {folder} do not fit together ({error}): run it again") from error
    with store.atomically(folder / FILE) as temporary:
        pq.write_table(table, temporary)
    wrong = table.filter(pa.array(~table["agrees"].to_numpy()))
    say(f"{len(table) - len(wrong)} of {len(table)} rows agree: {folder / FILE}")
    told = ("attack", "index", "target", "success", "distance", "found_success", "found_distance")
    for attack, index, target, *both in tables.cells(wrong.slice(0, 5).select(told)):
        claimed, true = (f"{'success' if hit else 'failure'} at {far:.6g}" for hit, far in (both[:2], both[2:]))
        say(f"  {attack}, example {index}, target {target}: claims {claimed}; found {true}")
    return len(wrong)


def plain(model: Model, name: str) -> Logits:
    """The model without jit, at the highest precision. `name` is for the error where it does not take the images."""

    def logits(x: np.ndarray) -> np.ndarray:
        with functions.blamed("--model", name), jax.disable_jit(), jax.default_matmul_precision("highest"):
            return np.asarray(model.apply(model.params, jnp.asarray(x)), np.float64)

    return logits


def twin(name: str) -> Logits:
    """A model of PyTorch: see `verify`."""
    function = functions.named("--torch", name)
    with functions.blamed("--torch", name):
        import torch  # pyright: ignore[reportMissingImports]

        network = function().eval()

    def logits(x: np.ndarray) -> np.ndarray:
        with functions.blamed("--torch", name), torch.no_grad():
            return network(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).double().numpy()

    return logits


def _looked_at(claim: Claims, ways: dict[str, Logits], dataset: Dataset, advance: Any) -> pa.Table:
    """The rows, with what was found of each."""
    table = claim.table.drop_columns([name for name in claim.table.column_names if name.startswith(_FOUND)])
    label, target, success = (table[name].to_numpy() for name in ("label", "target", "success"))
    if claim.adversarial.shape[1:] != dataset.images.shape[1:]:
        shapes = [list(images.shape[1:]) for images in (dataset.images, claim.adversarial)]
        raise ValueError(f"{dataset.name} has images of shape {shapes[0]}, and those of {claim.name} are {shapes[1]}")
    clean = dataset.images[places_of(table, dataset)]
    distance = NORMS[norm_of(claim.attack)](claim.adversarial.astype(np.float64) - clean)
    unchanged = (claim.adversarial == clean).reshape(len(clean), -1).all(1)
    columns, met, most = {}, np.ones(len(clean), bool), max(label.max(), target.max())
    for prefix, logits in ways.items():
        margin = np.empty(len(clean))
        for first in range(0, len(clean), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            answers = logits(claim.adversarial[some])
            if answers.ndim != 2 or len(answers) != len(margin[some]) or answers.shape[1] <= most:
                which = "the model of --torch" if prefix else f"--model {claim.model}"
                raise ValueError(
                    f"{which} answers {len(margin[some])} images with shape {list(answers.shape)}, where the rows have "
                    f"classes up to {most}: it is another model, or its folder was changed"
                )
            margin[some] = margins(answers, label[some], target[some])
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
