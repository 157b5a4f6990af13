"""What the experiments beyond classes share: their results looked at again with NumPy, their tables and their pictures.

Nothing in here asks the attack: images are taken as they came out, put through the plain model in another program, and
judged by formulas in NumPy.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

import cwjax as cw
from cwjax.base import Attack, Goal
from cwjax.lab.console.progress import progress, say
from cwjax.lab.files import environment, store
from cwjax.lab.reporting.pictures import BLUE, GREEN, INK, ORANGE, plain
from cwjax.models import Model

__all__ = ["BLUE", "GREEN", "INK", "ORANGE", "Row", "picture", "plain"]

# Of labels of pixels: background, and a colour for each digit.
COLOURS = ("#000000", "#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231")
COLOURS += ("#911eb4", "#46f0f0", "#f032e6", "#bcf60c", "#fabebe")


def outputs_of(model: Model, images: np.ndarray, *, at_once: int = 100) -> Any:
    """What the model returns of the images, as NumPy arrays [B, ...]."""
    apply = jax.jit(model.apply)
    parts = [apply(model.params, images[i : i + at_once]) for i in range(0, len(images), at_once)]
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts)


def first_of(right: np.ndarray, count: int) -> np.ndarray:
    """The places of the first images that the network gets right. Raises RuntimeError where there is none."""
    if not right.any():
        raise RuntimeError(f"the network gets none of {len(right)} images right: train it for more updates")
    return np.flatnonzero(right)[:count]


def misread(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Where another class has a larger logit than the label, [B]."""
    own = np.take_along_axis(logits, labels[:, None], -1)[:, 0]
    others = np.where(np.arange(logits.shape[-1]) == labels[:, None], -np.inf, logits)
    return others.max(-1) > own


def wrong(model: Model, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which inputs the network gets wrong, [B]: see `misread`."""
    return misread(outputs_of(model, x), labels)


def eight_bits(x: Any) -> np.ndarray:
    """The images as a file holds them."""
    return (np.round(255 * np.clip(np.asarray(x), 0, 1)) / 255).astype(np.float32)


def flipped(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many of several labels are said otherwise, [B]; an output above 0 says yes."""
    return ((outputs > 0) != labels).sum(-1)


def off(outputs: np.ndarray, value: np.ndarray) -> np.ndarray:
    """How far the numbers are from the value, in float64."""
    return np.abs(outputs.astype(np.float64) - value.astype(np.float64))


def share_of(outputs: np.ndarray, is_so: Callable[[np.ndarray], np.ndarray], counted: np.ndarray) -> np.ndarray:
    """The share of the counted pixels of which something is so, given the class [B, H, W] that each is labelled as."""
    return (is_so(outputs.argmax(-1)) & counted).sum((1, 2)) / counted.sum((1, 2))


def lengths(clean: np.ndarray, adversarial: np.ndarray) -> np.ndarray:
    """The L2 norm of each change, in float64."""
    return np.linalg.norm((adversarial.astype(np.float64) - clean).reshape(len(clean), -1), axis=1)


def stretched(clean: np.ndarray, adversarial: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The changes at another length, within [0, 1]; as they are where there is none."""
    length = lengths(clean, adversarial)
    factors = np.divide(wanted, length, out=np.ones_like(length), where=length > 0)
    axes = (len(clean),) + (1,) * (clean.ndim - 1)
    return np.clip(clean + factors.astype(clean.dtype).reshape(axes) * (adversarial - clean), 0, 1)


def checked(result: Any, clean: np.ndarray, met: np.ndarray) -> dict[str, float]:
    """The numbers of one attack for a table, after a second look at what it reports.

    Args:
      result: the attack's.
      clean: the images that it was given.
      met: whether its images meet their goal, by NumPy.

    Raises:
      RuntimeError: a success that is none, a distance that is another, or a pixel out of [0, 1].
    """
    success, saved = np.asarray(result.success), np.asarray(result.x)
    distance = lengths(clean, saved)
    if (success & ~met).any():
        raise RuntimeError(f"{(success & ~met).sum()} of {success.sum()} reported successes are none")
    if not np.allclose(distance[success], np.asarray(result.distance)[success], rtol=1e-4):
        raise RuntimeError("a reported distance is not that of its image")
    if saved.min() < 0 or saved.max() > 1:
        raise RuntimeError("an image leaves [0, 1]")
    found = distance[success]
    return {
        "examples": len(clean),
        "success": float(success.mean()),
        "verified": float((met & success).mean()),
        "mean L2": float(found.mean()) if found.size else float("nan"),
        "median L2": float(np.median(found)) if found.size else float("nan"),
    }


class Attacked(NamedTuple):
    """What an attack came to for one goal."""

    result: Any
    outputs: Any  # of the network on its images, in NumPy
    numbers: dict[str, Any]  # a row of a table


def attacked(
    model: Model,
    attack: Attack,
    x: np.ndarray,
    asked: Mapping[str, Goal],
    met: Mapping[str, Callable[[Any], np.ndarray]],
) -> dict[str, Attacked]:
    """The attack on the images for each of several goals, by one program, since goals are data.

    Args:
      model: to fool.
      attack: for all goals.
      x: the clean images.
      asked: the goals, by name.
      met: by the same names, from the network's outputs to whether the goal is met, in NumPy.
    """
    run, keys, found = jax.jit(cw.batched(attack)), jax.random.split(jax.random.key(0), len(x)), {}
    with progress("goals", len(asked), first="compiling") as advance:
        for name, goal in asked.items():
            result = run(model, keys, x, goal)
            advance(1, f"{name}: {result.success.mean():.0%}", now=True)
            outputs = outputs_of(model, np.asarray(result.x))
            found[name] = Attacked(result, outputs, {"goal": name} | checked(result, x, met[name](outputs)))
    return found


def in_words(clean: np.ndarray, adversarial: np.ndarray) -> str:
    """The size of a change, for somebody who does not think in norms."""
    change = np.abs(adversarial - clean)
    length, whole = np.sqrt((change**2).sum()), np.sqrt((clean**2).sum())
    return (
        f"length {length:.2f}, {length / whole:.0%} of the image's own\nno pixel by more than {change.max():.2f} of 1"
    )


def coloured(classes: np.ndarray) -> np.ndarray:
    """The class of each pixel [H, W] as its colour, [H, W, 3]."""
    return np.array([to_rgb(colour) for colour in COLOURS], np.float32)[classes]


class Row(NamedTuple):
    """One line of a picture."""

    left: str  # what was asked for
    images: Sequence[np.ndarray]  # [H, W]: gray in [0, 1], a difference, or int classes of pixels
    below: Sequence[str]  # what stands below each


def compared(left: str, clean: np.ndarray, adversarial: np.ndarray, before: str, after: str) -> Row:
    """A row of the clean image, the adversarial one and their difference."""
    clean, adversarial = clean[..., 0], adversarial[..., 0]
    images = (clean, adversarial, adversarial - clean)
    return Row(left, images, (before, after, in_words(clean, adversarial)))


COMPARED = ("the image", "what the attack\nmade of it", "the difference\n(red: brighter, blue: darker)")


def picture(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    chart: Callable[[Axes], None] | None = None,
    *,
    classes: bool = False,
) -> Figure:
    """Images with what they are above, what the network says below, and what was asked for at the left; a chart beside.

    Args:
      title: one sentence.
      columns: what stands above each column.
      rows: at least one.
      chart: draws on axes.
      classes: whether the colours of pixels' classes are to be told.
    """
    high, wide = rows[0].images[0].shape
    cell = 1.55 * wide / high if wide > high else 1.9
    width, height = 1.5 + (cell + 0.6) * len(columns), 1.3 + 2.35 * len(rows) + 0.4 * classes
    beside = 5.2 if chart else 0
    figure = Figure(figsize=(width + beside, max(height, 4.6)), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.08))
    figure.suptitle(title, color=INK, fontsize=12)
    left, *right = figure.subfigures(
        1, 1 + bool(chart), width_ratios=[width, beside][: 1 + bool(chart)], squeeze=False
    )[0]
    for line, (row, axes) in enumerate(zip(rows, left.subplots(len(rows), len(columns), squeeze=False), strict=True)):
        axes[0].set_ylabel(row.left, rotation=0, ha="right", va="center", color=INK, fontsize=9, labelpad=8)
        for heading, image, words, axis in zip(columns, row.images, row.below, axes, strict=True):
            _drawn(axis, np.asarray(image))
            axis.set_xlabel(words, color=INK, fontsize=9)
            if not line:
                axis.set_title(heading, color=INK, fontsize=10)
    if classes:
        names = ("background", *map(str, range(len(COLOURS) - 1)))
        patches = [Patch(facecolor=colour, label=name) for colour, name in zip(COLOURS, names, strict=True)]
        left.legend(handles=patches, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    if chart:
        chart(right[0].subplots())
    return figure


def _drawn(axis: Axes, image: np.ndarray) -> None:
    if np.issubdtype(image.dtype, np.integer):
        axis.imshow(image, cmap=ListedColormap(COLOURS), vmin=-0.5, vmax=len(COLOURS) - 0.5, interpolation="nearest")
    elif image.min() < 0:
        axis.imshow(image, cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    else:
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_color("#bbbbbb")


def write(
    name: str, title: str, rows: Sequence[dict[str, Any]], figure: Figure, arguments: Any, *, told: Sequence[str] = ()
) -> None:
    """NAME.csv, NAME.md and NAME.png in the folder `arguments.out`, each whole or not at all.

    Args:
      name: of the files.
      title: of the table.
      rows: with the same keys.
      figure: for the picture.
      arguments: what the experiment was asked, with a field `out`.
      told: sentences below the table.
    """
    out: Path = arguments.out
    with store.atomically(out / f"{name}.csv") as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    lines = [f"# {title}", "", "| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    lines += ["| " + " | ".join(map(_cell, row.values())) + " |" for row in rows]
    for sentence in (*told, f"{arguments}", f"{environment.describe()}"):
        lines += ["", sentence]
    with store.atomically(out / f"{name}.md") as temporary:
        temporary.write_text("\n".join([*lines, ""]))
    with store.atomically(out / f"{name}.png") as temporary:
        figure.savefig(temporary)
    say(f"Results: {out / name}.md")


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else f"{value:.3g}"
    return str(value)
