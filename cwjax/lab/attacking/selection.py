"""Which images of a data set are attacked, and which of their elements may change."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

import cwjax as cw
from cwjax.arguments import broadcasts, check_logits
from cwjax.evaluation.metrics import margins
from cwjax.lab.attacking import judging
from cwjax.lab.data import Dataset
from cwjax.models import Model

BLOCK = judging.AT_ONCE


def right_in_block(model: Model, dataset: Dataset, start: int) -> np.ndarray:
    """The places of the images that the model gets right, int64, among the BLOCK images from place `start`: of a task,
    of those that do not meet their goal yet.

    The model computes at the highest precision that the device has.

    Raises:
      ValueError: it does not take the images.
    """
    some = slice(start, start + BLOCK)
    if dataset.task:
        places = np.arange(len(dataset.labels))[some]
        outputs = judging.said(model, dataset, places, dataset.images[some])
        goal = judging.goals_of(dataset, places)
        found = judging.judged(dataset, outputs, goal)
        return places[~found.met & ~np.isnan(found.margin)]
    check_logits(model, dataset.images[:1])
    leads = _leads(cw.in_precision(model, "highest"), dataset.images[some], cw.untargeted(dataset.labels[some]))
    return start + np.flatnonzero(np.asarray(leads) <= 0)


_leads = jax.jit(margins)  # of the best other class; nan where the model gives a NaN, which is not right


def first_right(
    model: Model,
    dataset: Dataset,
    count: int,
    in_block: Callable[[int], np.ndarray] | None = None,
    *,
    asked: str = "",
) -> np.ndarray:
    """The places of the first `count` images that the model gets right, int64 [count].

    Args:
      model: takes images [B, H, W, C].
      dataset: the images, and their labels.
      count: how many to find.
      in_block: start -> what `right_in_block` returns, for a caller who keeps the answers. By default they are asked.
      asked: the arguments that ask for them, for the error. By default --examples.

    Raises:
      ValueError: the model gets fewer right, or does not take the images.
    """
    in_block = in_block or functools.partial(right_in_block, model, dataset)
    places = np.zeros(0, np.int64)
    for start in range(0, len(dataset.labels), BLOCK):
        places = np.append(places, in_block(start))
        if len(places) >= count:
            return places[:count]
    what = (
        "inputs of {} that do not meet their goal yet"
        if dataset.task
        else "test images of {} that the model gets right"
    )
    raise ValueError(
        f"{asked or f'--examples {count}'} asks for more than the {len(places)} {what.format(dataset.name)}"
    )


def check_enough(count: int, dataset: Dataset, targets: str) -> None:
    """Raises ValueError where the data set, already without images of the class `targets`, has fewer images."""
    if count > len(dataset.labels):
        other = f" of other classes than {targets}" if targets.isdecimal() else ""
        raise ValueError(
            f"--examples {count} is more than the {len(dataset.labels)} test images of {dataset.name}{other}"
        )


def mask_of(path: Path, dataset: Dataset) -> np.ndarray:
    """The mask of a file that NumPy's `save` wrote, boolean: True where an element of an image may change.

    Args:
      path: of the file, such as mask.npy.
      dataset: whose images [H, W, C] the mask must broadcast to.

    Raises:
      ValueError: the file holds no array, or one that is no mask of these images.
      OSError: it cannot be read.
    """
    try:
        mask = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"--mask {path} holds no array: write it with numpy.save ({error})") from error
    except OSError as error:
        raise OSError(f"cannot read --mask {path}: {error.strerror or error}") from error
    shape = list(dataset.images.shape[1:])
    what = f"--mask {path} must hold one boolean array, True where an element of an image {shape} may change"
    if not isinstance(mask, np.ndarray) or mask.dtype != bool:
        came = f"an array of {mask.dtype}" if isinstance(mask, np.ndarray) else "several arrays"
        raise ValueError(f"{what}, got {came}")
    if not broadcasts(mask.shape, tuple(shape)):
        raise ValueError(
            f"{what}, got the shape {list(mask.shape)}, which does not broadcast to it: [H, W, 1] is for pixels"
        )
    if not mask.any():
        raise ValueError(f"{what}, got one that is False everywhere")
    return mask
