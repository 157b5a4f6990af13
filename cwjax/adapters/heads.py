"""What stands at the end of a classifier: logits, which attacks need, or probabilities made of them."""

from typing import Any, Literal

import numpy as np

from cwjax.adapters.checking import NotConvertible

Softmax = Literal["refuse", "cut"]

_ROUNDING = 1e-3  # how far sums of probabilities may lie from 1: float16 among them


def check_softmax(choice: str) -> None:
    """Raises ValueError unless it is one of the two ways to treat a softmax at the end."""
    if choice not in ("refuse", "cut"):
        raise ValueError(f'softmax must be "refuse" or "cut", got {choice!r}')


def ends_in(name: str, end: str, softmax: Softmax) -> bool:
    """Whether to cut that end off.

    Args:
      name: of the model, for an error.
      end: what it ends in, such as "the softmax of layer 'predictions'".
      softmax: what the caller wants.

    Raises:
      NotConvertible: it is to be refused.
    """
    if softmax == "refuse":
        raise NotConvertible(
            f"{name} ends in {end}, and attacks need the logits before it, because probabilities near 0 and 1 have no "
            'slope: say softmax="cut"'
        )
    return True


def check_no_probabilities(answers: np.ndarray, name: str) -> None:
    """Raises NotConvertible where the answers [B, K] of a model look like probabilities."""
    several = answers.ndim == 2 and answers.shape[1] > 1 and len(answers) > 1
    if several and answers.min() >= 0 and np.abs(answers.sum(1) - 1).max() < _ROUNDING:
        raise NotConvertible(
            f"{name} returns probabilities (at least 0, with the sum 1), and its end is none that can be cut: change "
            "the model so that it returns the logits"
        )


def two_logits(scores: Any) -> Any:
    """Logits [B, 2] of the scores [B, 1] of a yes-or-no classifier: no, yes. Their softmax is the score's sigmoid.
    Other scores stay as they are.
    """
    if scores.shape[-1] != 1:
        return scores
    signs = np.array([[-0.5, 0.5]], scores.dtype)
    return scores * signs
