"""A task: a model that need not be a classifier, its examples, their goals, and how to read what the model says.

The command line, sweeps and reports take one where they take a model: `cwjax attack --model mytask:task`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, PyTree

from cwjax.base import Goal, Number, Objective, Outputs, shapes
from cwjax.models import Model
from cwjax.parts.distances import MOST_CHANNELS

_MOST = 6  # numbers that are shown of an array
_BARS = 240  # of a vector's picture, at the most


def in_short(tree: PyTree) -> str:
    """Arrays in a few words: their first numbers to three digits, "0.113, -2, 7.5"; "true" and "false" of booleans."""
    return "; ".join(_numbers(np.asarray(leaf).ravel()) for leaf in jax.tree.leaves(tree))


def _numbers(values: np.ndarray) -> str:
    words = [str(bool(each)).lower() if values.dtype == bool else f"{float(each):.3g}" for each in values[:_MOST]]
    return ", ".join(words) + (", …" if len(values) > _MOST else "")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What is attacked, what counts as a success, and how a report shows it.

    Args:
      name: to read: "two digits side by side".
      model: from `cwjax.bind`, `joined` or `averaged`.
      x: the clean inputs, float [N, *S] in [0, 1]: pictures [N, H, W, C] with at most 4 channels, or vectors [N, F].
      goal: of each input, from `cwjax.goals`, or what the objective reads; a pytree of arrays with N in front.
      objective: a `cwjax.Objective`, or a function of a confidence and of `hinged` that makes one, such as
        `cwjax.objectives.several_labels`. The function is better: `--confidence` works, and each attack says whether it
        wants a loss that stays at 0 where the goal is met.
      context: what the model is told besides, a pytree of arrays with N in front; None: nothing.
      mask: boolean, broadcasts to one input: which elements may change. None: all.
      read: the model's outputs of one example, as NumPy arrays -> a few words: "left: 3, right: 5".
      wanted: the goal of one example, as NumPy arrays -> a few words.
      draw: one input, and the outputs of it -> a picture [H, W, 1] or [H, W, 3] in [0, 1]. None: the input itself.
      elements: what an input consists of, to read, such as "samples"; by default "pixels" of pictures, and "values".
      second: a second opinion for `cwjax verify`: (outputs, goal) of one example, as NumPy arrays -> whether the goal
        is met. A transcript may be looked at by `cwjax.objectives.beam_search`. None: the objective decides alone.

    Raises:
      TypeError, ValueError: a model that `bind` did not make; inputs of another shape or dtype, or outside [0, 1]; a
        goal or a context for another number of inputs; an objective that is none.

    Example:
      >>> import jax.numpy as jnp, numpy as np
      >>> import cwjax as cw
      >>> task = cw.Task(
      ...     name="the mean",
      ...     model=cw.bind(lambda params, x: x.mean(1)),
      ...     x=np.full((4, 3), 0.5),
      ...     goal=cw.goals.value_left(jnp.full(4, 0.5), 0.1),
      ...     objective=cw.objectives.tolerance,
      ... )
      >>> task.objective_of(hinged=False).confidence
      0.0
    """

    name: str
    model: Model
    x: Float[np.ndarray, "N *S"]
    goal: Goal
    objective: Objective | Callable[..., Objective]
    context: PyTree = None
    mask: Bool[np.ndarray, "..."] | None = None
    read: Callable[[Outputs], str] = in_short
    wanted: Callable[[Goal], str] = in_short
    draw: Callable[[np.ndarray, Outputs], np.ndarray] | None = None
    second: Callable[[Outputs, Goal], bool] | None = None
    elements: str = ""

    def __post_init__(self):
        if not isinstance(self.model, Model):
            raise TypeError(f"a task's model must be what cwjax.bind returns, got a {type(self.model).__name__}")
        if not (isinstance(self.objective, Objective) or callable(self.objective)):
            raise TypeError(f"a task's objective must be a cwjax.Objective or make one, got {self.objective!r}")
        x = np.asarray(self.x)
        if not np.issubdtype(x.dtype, np.floating) or x.ndim not in (2, 4) or not x.size:
            raise ValueError(
                "a task's x must be floats, pictures [N, H, W, C] or vectors [N, F], got "
                f"{shapes(x)}: give inputs of other shapes an axis, and take it off in the model"
            )
        if x.ndim == 4 and x.shape[-1] > MOST_CHANNELS:
            raise ValueError(f"a task's pictures [N, H, W, C] have at most {MOST_CHANNELS} channels, got {shapes(x)}")
        if not ((x >= 0) & (x <= 1)).all():
            raise ValueError(f"a task's x must lie in [0, 1], got values from {x.min():g} to {x.max():g}")
        for what, tree in (("goal", self.goal), ("context", self.context)):
            lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
            if lengths - {(len(x),)} or (what == "goal" and not lengths):
                raise ValueError(f"a task of {len(x)} inputs needs a {what} for each, got {shapes(tree)}")
        elements = self.elements or ("pixels" if x.ndim == 4 else "values")
        goal = jax.tree.map(np.asarray, self.goal)
        for field, value in (("x", x.astype(np.float32)), ("goal", goal), ("elements", elements)):
            object.__setattr__(self, field, value)
        object.__setattr__(self, "context", jax.tree.map(np.asarray, self.context))

    def objective_of(self, confidence: Number = 0.0, *, hinged: bool = True) -> Objective:
        """The objective with that confidence; with a loss that stays at 0 where the goal is met, or one that falls on.
        One that is fixed is returned as it is, with its own confidence and loss.
        """
        return self.objective if isinstance(self.objective, Objective) else self.objective(confidence, hinged=hinged)

    @property
    def fixed_confidence(self) -> float | None:
        """That of a fixed objective; None where the objective is made for a confidence."""
        return float(self.objective.confidence) if isinstance(self.objective, Objective) else None

    def picture(self, x: np.ndarray, outputs: Any) -> Float[np.ndarray, "H W C"]:
        """What a report shows of one input. A vector is bars, as bright as its elements or means of them."""
        if self.draw is not None:
            return np.asarray(self.draw(x, outputs), np.float32)
        if x.ndim == 3:
            return x
        bars = np.array([part.mean() for part in np.array_split(x, min(x.size, _BARS))], np.float32)
        return np.repeat(bars[None, :, None], max(1, bars.size // 6), 0)
