"""What an attack is to reach: goals for a batch. Each kind of goal is read by the objectives of its task."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from cwjax.arguments import check_labels, check_targets
from cwjax.base import LabelGoal
from cwjax.values import check_finite, known


class LabelsGoal(NamedTuple):
    """For several labels at once; read by `objectives.several_labels`."""

    wanted: Float[Array, "..."]  # float32 [K]: +1 yes, -1 no, 0 whatever
    least: Int[Array, "..."]  # int32 []: how many of those that are wanted have to be so


class ValueGoal(NamedTuple):
    """For outputs that are numbers; read by `objectives.tolerance`."""

    value: Float[Array, "..."]  # [] or of the shape of the outputs
    tolerance: Float[Array, "..."]  # likewise, >= 0
    sign: Float[Array, "..."]  # float32 []: +1 come within the tolerance, -1 leave it
    side: Float[Array, "..."]  # float32 []: where to leave it: +1 above, -1 below, 0 either


class PixelsGoal(NamedTuple):
    """For a class at each pixel; read by `objectives.pixels`."""

    label: Int[Array, "..."]  # int32 [H, W]
    counted: Bool[Array, "..."]  # [H, W]: the pixels that count
    share: Float[Array, "..."]  # float32 []: of them, that has to be met
    sign: Float[Array, "..."]  # float32 []: +1 reach the labels, -1 leave them


class TranscriptGoal(NamedTuple):
    """For a transcript; read by `objectives.ctc`."""

    labels: Int[Array, "..."]  # int32 [N]: its symbols, and anything behind its length
    length: Int[Array, "..."]  # int32 []
    frames: Int[Array, "..."]  # int32 []: frames of the output that count


class AlignedGoal(NamedTuple):
    """For a transcript whose alignment is known; read by `objectives.aligned_margin`.

    Example:
      >>> goal = cw.goals.aligned(cw.goals.transcript([[1]], frames=2), [[1, 0]])
      >>> goal.frames.tolist()
      [2]
    """

    transcript: TranscriptGoal
    path: Int[Array, "..."]  # int32 [T]: the symbol of each frame
    weights: Float[Array, "..."]  # float32 [T]: of the frames

    @property
    def frames(self) -> Int[Array, "..."]:
        """Frames of the output that count."""
        return self.transcript.frames


def targeted(targets: ArrayLike | Sequence[int], *, labels: ArrayLike | Sequence[int] | None = None) -> LabelGoal:
    """Make the model answer `targets`, an integer array [B] of classes in 0…K-1.

    Args:
      targets: the classes to reach.
      labels: the true classes [B], if they are to be checked to differ from the targets.

    Raises:
      ValueError: not integers, not of rank 1 (one-hot, for instance), or a target that equals its label.

    Example:
      >>> goal = cw.targeted([2, 0], labels=[0, 1])
      >>> goal.label.tolist(), goal.sign.tolist()
      ([2, 0], [1.0, 1.0])
    """
    classes = check_labels("targets", targets)
    if labels is not None:
        check_targets(check_labels("labels", labels), classes)
    return LabelGoal(label=jnp.asarray(classes, jnp.int32), sign=jnp.ones(classes.shape, jnp.float32))


def untargeted(labels: ArrayLike | Sequence[int]) -> LabelGoal:
    """Make the model answer anything but `labels`, an integer array [B] of classes in 0…K-1.

    An input that the model gets wrong already meets this goal: every attack returns it unchanged, a success at distance
    0. Give a mean distance with and without such inputs.

    Args:
      labels: the classes to leave.

    Raises:
      ValueError: not integers, or not of rank 1 (one-hot, for instance).

    Example:
      >>> goal = cw.untargeted([0, 1])
      >>> goal.label.tolist(), goal.sign.tolist()
      ([0, 1], [-1.0, -1.0])
    """
    classes = check_labels("labels", labels)
    return LabelGoal(label=jnp.asarray(classes, jnp.int32), sign=-jnp.ones(classes.shape, jnp.float32))


def labels_reached(wanted: ArrayLike, *, among: ArrayLike | None = None) -> LabelsGoal:
    """Make the model say exactly these labels.

    Args:
      wanted: boolean [B, K]: which of the labels it is to say.
      among: boolean [B, K]: the labels that matter; all, if left out.

    Raises:
      ValueError: not boolean, not of rank 2, of different shapes, or an example of which no label matters.

    Example:
      >>> goal = cw.goals.labels_reached([[True, False]])
      >>> goal.wanted.tolist(), goal.least.tolist()
      ([[1.0, -1.0]], [2])
    """
    said, matters = _boolean("wanted", wanted, 2), None if among is None else _boolean("among", among, 2)
    signs = jnp.where(said, 1.0, -1.0).astype(jnp.float32)
    if matters is not None:
        if matters.shape != said.shape:
            raise ValueError(f"wanted {list(said.shape)} and among {list(matters.shape)} differ in shape")
        signs = jnp.where(matters, signs, 0)
        _refuse_rows("among marks no label", matters)
    return LabelsGoal(wanted=signs, least=jnp.sum(signs != 0, 1).astype(jnp.int32))


def labels_flipped(labels: ArrayLike, count: int | ArrayLike = 1, *, among: ArrayLike | None = None) -> LabelsGoal:
    """Make the model say the opposite of at least `count` of these labels.

    With 1, any set other than the one it says now will do.

    Args:
      labels: boolean [B, K]: what it says, or should.
      count: how many to flip, one number or [B]; from 1 to the number of labels that matter.
      among: boolean [B, K]: the labels that matter; all, if left out.

    Raises:
      ValueError: as for `labels_reached`, or a count out of range.

    Example:
      >>> goal = cw.goals.labels_flipped([[True, False]])
      >>> goal.wanted.tolist(), goal.least.tolist()  # the opposite, of one at least
      ([[-1.0, 1.0]], [1])
    """
    goal = labels_reached(~_boolean("labels", labels, 2), among=among)
    counts = jnp.broadcast_to(jnp.asarray(count), goal.least.shape)
    if not jnp.issubdtype(counts.dtype, jnp.integer):
        raise ValueError(f"count must be a whole number, or one for each example, got {counts.dtype}")
    if known(counts, goal.least):
        bad = np.flatnonzero((np.asarray(counts) < 1) | (np.asarray(counts) > np.asarray(goal.least)))
        if bad.size:
            raise ValueError(
                f"count must be from 1 to the number of labels that matter, got {int(counts[bad[0]])} of "
                f"{int(goal.least[bad[0]])} in example {bad[0]}"
            )
    return goal._replace(least=counts.astype(jnp.int32))


def value_reached(value: ArrayLike, tolerance: ArrayLike) -> ValueGoal:
    """Bring the outputs within a tolerance of a value, all of them.

    Args:
      value: [B, ...], of the shape of the outputs.
      tolerance: a number >= 0, or an array that broadcasts to value.

    Raises:
      ValueError: not numbers, shapes that do not fit, or a tolerance that is negative or not finite.

    Example:
      >>> goal = cw.goals.value_reached([0.5], 0.1)
      >>> bool(cw.objectives.tolerance().met(jnp.float32(0.55), jax.tree.map(lambda leaf: leaf[0], goal)))
      True
    """
    return _of_value(value, tolerance, 1.0, "either")


def value_left(value: ArrayLike, tolerance: ArrayLike, *, side: str = "either") -> ValueGoal:
    """Bring the outputs out of a tolerance around a value, any of them.

    An attack that starts at the value itself goes the way it finds first. Where outputs can go no farther on one side,
    attack both sides, and keep the nearer example.

    Args:
      value: as for `value_reached`.
      tolerance: likewise.
      side: "above" the value, "below" it, or "either".

    Raises:
      ValueError: as for `value_reached`, or an unknown side.

    Example:
      >>> goal = cw.goals.value_left([0.5], 0.1, side="above")
      >>> one = jax.tree.map(lambda leaf: leaf[0], goal)
      >>> [bool(cw.objectives.tolerance().met(jnp.float32(said), one)) for said in (0.3, 0.55, 0.7)]
      [False, False, True]
    """
    return _of_value(value, tolerance, -1.0, side)


def pixels_reached(label: ArrayLike, *, share: ArrayLike = 1.0, counted: ArrayLike | None = None) -> PixelsGoal:
    """Make the model say these classes, at a share of the pixels.

    Args:
      label: classes [B, H, W] in 0…K-1.
      share: of the pixels that count, in (0, 1]; a number or [B].
      counted: boolean [B, H, W]: the pixels that count; all, if left out.

    Raises:
      ValueError: not integers, shapes that do not fit, a share out of range, or an example of which no pixel counts.

    Example:
      >>> goal = cw.goals.pixels_reached([[[0, 1], [2, 1]]], share=0.75)
      >>> goal.label.shape, goal.share.tolist()
      ((1, 2, 2), [0.75])
    """
    return _of_pixels(label, share, counted, 1.0)


def pixels_left(label: ArrayLike, *, share: ArrayLike = 1.0, counted: ArrayLike | None = None) -> PixelsGoal:
    """Make the model say anything but these classes, at a share of the pixels.

    Errors are those of `pixels_reached`.

    Args:
      label: classes [B, H, W] in 0…K-1.
      share: of the pixels that count, in (0, 1]; a number or [B].
      counted: boolean [B, H, W]: the pixels that count; all, if left out.

    Example:
      >>> goal = cw.goals.pixels_left([[[0, 1], [2, 1]]])
      >>> goal.label.shape, goal.sign.tolist()
      ((1, 2, 2), [-1.0])
    """
    return _of_pixels(label, share, counted, -1.0)


def transcript(
    labels: Sequence[Any] | ArrayLike,
    *,
    frames: int | ArrayLike,
    lengths: ArrayLike | None = None,
    silence: bool = False,
) -> TranscriptGoal:
    """Make the model say these symbols one after the other.

    Args:
      labels: a sequence of symbols for each example; or an integer array [B, N], with `lengths`.
      frames: of the output that count, one number or [B].
      lengths: integers [B]: how many of each row of `labels` are the transcript.
      silence: whether a transcript may have no symbol: the model is to hear nothing.

    Raises:
      ValueError: not integers from 0, no symbol at all unless that is allowed, or a transcript that needs more frames
        than there are: one for each symbol, and one for a blank between two that are equal.

    Example:
      >>> goal = cw.goals.transcript([[3, 1], [2]], frames=5)
      >>> goal.length.tolist()
      [2, 1]
    """
    if lengths is None:
        rows = [[int(symbol) for symbol in row] for row in labels]  # type: ignore
        size = max((len(row) for row in rows), default=0) or int(silence)  # a row of no symbols has a place for one
        symbols = np.array([row + [0] * (size - len(row)) for row in rows], np.int32).reshape(len(rows), size)
        counts = np.array([len(row) for row in rows], np.int32)
    else:
        symbols, counts = _integers("labels", labels, 2), _integers("lengths", lengths, 1)
    available = jnp.broadcast_to(jnp.asarray(frames, jnp.int32), counts.shape)
    if known(symbols, counts, available):
        _check_frames(np.asarray(symbols), np.asarray(counts), np.asarray(available), int(not silence))
    return TranscriptGoal(
        labels=jnp.asarray(symbols, jnp.int32), length=jnp.asarray(counts, jnp.int32), frames=available
    )


def aligned(goal: TranscriptGoal, path: ArrayLike, *, weights: ArrayLike = 1.0) -> AlignedGoal:
    """The transcript along an alignment.

    Args:
      goal: from `transcript`.
      path: integers [B, T]: the symbol of each frame, such as an attack by `objectives.ctc` has made of them.
      weights: of the frames, > 0: a number or an array that broadcasts to path.

    Raises:
      ValueError: not integers, shapes that do not fit, weights out of range.

    Example:
      >>> goal = cw.goals.aligned(cw.goals.transcript([[1]], frames=3), [[0, 1, 1]])
      >>> goal.path.tolist(), goal.weights.tolist()
      ([[0, 1, 1]], [[1.0, 1.0, 1.0]])
    """
    symbols = _integers("path", path, 2)
    if len(symbols) != len(goal.length):
        raise ValueError(f"path has {len(symbols)} rows, and there are {len(goal.length)} transcripts")
    values = jnp.broadcast_to(jnp.asarray(weights, jnp.float32), symbols.shape)
    if known(values) and not (np.isfinite(values).all() and (np.asarray(values) > 0).all()):
        raise ValueError("the weights of frames must be finite and more than 0")
    return AlignedGoal(transcript=goal, path=jnp.asarray(symbols, jnp.int32), weights=values)


def _boolean(name: str, values: ArrayLike, rank: int) -> Any:
    array = values if isinstance(values, jax.Array) else np.asarray(values)
    if array.dtype != bool:
        raise ValueError(f"{name} must be boolean, got {array.dtype}")
    if array.ndim != rank:
        raise ValueError(f"{name} must have {rank} axes, the first of them the batch, got shape {list(array.shape)}")
    return array


def _integers(name: str, values: Any, rank: int) -> Any:
    array = values if isinstance(values, jax.Array) else np.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"{name} must be integers, got {array.dtype}")
    if array.ndim != rank:
        raise ValueError(f"{name} must have {rank} axes, the first of them the batch, got shape {list(array.shape)}")
    return array


def _refuse_rows(what: str, marked: Any) -> None:
    """Raises ValueError where an example has nothing marked. Traced values pass."""
    if not known(marked) or not len(marked):
        return
    empty = np.flatnonzero(~np.asarray(marked).reshape(len(marked), -1).any(1))
    if empty.size:
        raise ValueError(f"{what} in {empty.size} of {len(marked)} examples, first in example {empty[0]}")


_SIDES = {"above": 1.0, "below": -1.0, "either": 0.0}


def _of_value(value: ArrayLike, tolerance: ArrayLike, sign: float, side: str) -> ValueGoal:
    if side not in _SIDES:
        raise ValueError(f"side must be one of {', '.join(_SIDES)}, got {side!r}")
    values = jnp.asarray(value, jnp.float32)
    if values.ndim == 0:
        raise ValueError("value must have one entry an example along its first axis, got one number")
    check_finite("value", values)
    try:
        allowed = jnp.broadcast_to(jnp.asarray(tolerance, jnp.float32), values.shape)
    except ValueError as error:
        shape = list(np.shape(tolerance))
        raise ValueError(f"a tolerance of shape {shape} does not broadcast to values {list(values.shape)}") from error
    if known(allowed) and not (np.isfinite(allowed).all() and (np.asarray(allowed) >= 0).all()):
        raise ValueError("a tolerance must be finite and at least 0")
    return ValueGoal(
        value=values,
        tolerance=allowed,
        sign=jnp.full(len(values), sign, jnp.float32),
        side=jnp.full(len(values), _SIDES[side], jnp.float32),
    )


def _of_pixels(label: ArrayLike, share: ArrayLike, counted: ArrayLike | None, sign: float) -> PixelsGoal:
    labels = label if isinstance(label, jax.Array) else np.asarray(label)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"label must be integers, got {labels.dtype}: pass class numbers 0…K-1")
    if labels.ndim < 2:
        raise ValueError(f"label must have a class for each pixel, [B, H, W], got shape {list(labels.shape)}")
    marked = np.ones(labels.shape, bool) if counted is None else _boolean("counted", counted, labels.ndim)
    if marked.shape != labels.shape:
        raise ValueError(f"label {list(labels.shape)} and counted {list(marked.shape)} differ in shape")
    _refuse_rows("counted marks no pixel", marked)
    shares = jnp.broadcast_to(jnp.asarray(share, jnp.float32), labels.shape[:1])
    if known(shares):
        least, most = float(jnp.min(shares)), float(jnp.max(shares))
        if not 0 < least <= most <= 1:
            raise ValueError(f"share must be more than 0 and at most 1, got {least:g}…{most:g}")
    return PixelsGoal(
        label=jnp.asarray(labels, jnp.int32),
        counted=jnp.asarray(marked),
        share=shares,
        sign=jnp.full(labels.shape[:1], sign, jnp.float32),
    )


def _check_frames(symbols: np.ndarray, counts: np.ndarray, frames: np.ndarray, least: int) -> None:
    """Raises ValueError where a transcript has fewer than `least` symbols, 0 or 1, or more than its frames can say."""
    inside = np.arange(symbols.shape[1]) < counts[:, None]
    repeats = ((symbols[:, 1:] == symbols[:, :-1]) & inside[:, 1:]).sum(1) if symbols.shape[1] > 1 else 0
    needed = counts + repeats
    if (counts < least).any():
        raise ValueError(f"the transcript of example {np.flatnonzero(counts < least)[0]} has no symbol")
    if (inside & (symbols < 0)).any():
        raise ValueError(f"symbols are numbered from 0, got {symbols[inside].min()}")
    if (counts > symbols.shape[1]).any():
        raise ValueError(f"lengths go up to {counts.max()}, and labels have {symbols.shape[1]} symbols")
    bad = np.flatnonzero(needed > frames)
    if bad.size:
        raise ValueError(
            f"the transcript of example {bad[0]} needs {needed[bad[0]]} frames, one for each symbol and one between "
            f"two equal ones, and there are {frames[bad[0]]}"
        )
