"""Adversarial images as files for other programs, looked at again as they are on disk."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import cwjax as cw
from cwjax.lab.attacking import judging
from cwjax.lab.attacking.rows import Attacked, places_of
from cwjax.lab.data import Dataset
from cwjax.lab.files import store
from cwjax.models import Model
from cwjax.words import shortened

KINDS = ("png", "npz")
_FOLDER = "images"  # of PNG files, below the folder of the run
_NAMED = 5  # images on a line

_Saved = tuple[Path, np.ndarray, list[str]]  # where they are, the images as read back, and what each is called


def check(kinds: Sequence[str]) -> None:
    """Raises ValueError where a kind is named twice."""
    if len(set(kinds)) != len(kinds):
        raise ValueError(f"--save {' '.join(kinds)} names a kind twice")


def check_pictures(kinds: Sequence[str], dataset: Dataset) -> None:
    """Raises ValueError where the inputs are no pictures that a PNG file can hold."""
    if "png" in kinds and (dataset.images.ndim != 4 or dataset.images.shape[-1] not in (1, 3)):
        raise ValueError(
            f"--save png takes images [H, W, 1] or [H, W, 3], and {dataset.name} has {list(dataset.images.shape[1:])}"
        )
    if kinds and dataset.task:
        raise ValueError(f"--save is for images with labels, and {dataset.name!r} is a task: see OUT/adversarial.npz")


def save(kind: str, attacked: Sequence[Attacked], dataset: Dataset, model: Model, out: Path) -> Iterator[str]:
    """Writes the successes of each attack, and says where they are, and which are none when read back.

    Args:
      kind: "png": OUT/images/ATTACK/CLASS/INDEX-PREDICTION.png, of 8-bit levels; "npz": OUT/ATTACK.npz, which `--data`
        takes.
      attacked: what became of the examples.
      dataset: the examples.
      model: that was attacked.
      out: the folder of the run.
    """
    for each in attacked:
        hit = np.flatnonzero(each.table["success"].to_numpy())
        if not len(hit):
            yield f"{each.attack} attack: there is no success to save as {kind}"
            continue
        some, images = each.table.take(hit), each.adversarial[hit]
        write = _write_png if kind == "png" else _write_npz
        where, again, called = write(each.attack, some, images, dataset, out)
        survived = _met(model, dataset, some, again, float(each.settings.get("confidence") or 0.0))
        yield f"{each.attack} attack: {len(hit)} successes in {where}"
        if lost := [name for name, still in zip(called, survived, strict=True) if not still]:
            which = ", ".join(shortened(lost, _NAMED))
            how = "as they are on disk, in 8 bits" if kind == "png" else "when they are read back"
            repair = "; --rounded repairs such images" if kind == "png" else ""
            yield f"  {len(lost)} of {len(hit)} are none {how}: {which}{repair}"


def _met(model: Model, dataset: Dataset, table: Any, images: np.ndarray, confidence: float) -> np.ndarray:
    """Which images meet their goals still: bool [R]."""
    label, target = (table[name].to_numpy() for name in ("label", "target"))
    goal = cw.untargeted(label) if (target < 0).all() else cw.targeted(target, labels=label)
    said = judging.said(cw.in_precision(model, "highest"), dataset, places_of(table, dataset), images)
    margin = judging.judged(dataset, said, goal).margin
    return (margin > 0) & (margin >= confidence)


def _write_png(attack: str, table: Any, images: np.ndarray, dataset: Dataset, out: Path) -> _Saved:
    from PIL import Image

    folder, again, called = out / _FOLDER / attack, [], []
    columns = zip(*(table[name].to_pylist() for name in ("index", "label", "target", "prediction")), strict=True)
    for image, (index, label, target, answer) in zip(images, columns, strict=True):
        aimed = f"-to-{target}" if target >= 0 else ""
        file = folder / f"class-{label:04d}" / f"{index:06d}{aimed}-is-{answer}.png"
        levels = np.round(255 * image).astype(np.uint8)
        called.append(file.relative_to(folder).as_posix())
        with store.atomically(file) as temporary:
            Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(temporary, format="PNG")
        with Image.open(file) as picture:
            again.append(np.asarray(picture).reshape(levels.shape))
    return folder, np.stack(again) / np.float32(255), called


def _write_npz(attack: str, table: Any, images: np.ndarray, dataset: Dataset, out: Path) -> _Saved:
    file, places = out / f"{attack}.npz", places_of(table, dataset)
    names = [dataset.names[place] if dataset.names else str(dataset.index[place]) for place in places]
    labels, called = table["label"].to_numpy(), {"names": np.array(names), "classes": np.array(dataset.classes)}
    with store.atomically(file) as temporary, temporary.open("wb") as handle:
        own: dict[str, Any] = dict(dataset.features.told) if dataset.features else {}
        np.savez_compressed(handle, images=images, labels=labels, **called, **own)
    with np.load(file) as found:
        return file, found["images"], names
