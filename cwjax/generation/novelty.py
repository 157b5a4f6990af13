"""What is new to a search that keeps what is new: DeepTest's greedy search, and fuzzing."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool

from cwjax.arguments import check_number, check_part
from cwjax.base import Number
from cwjax.coverage.convention import Activations
from cwjax.coverage.criterion import Criterion


class Novelty(NamedTuple):
    """What is new to a queue.

    Example:
      >>> from cwjax.generation import fuzzing
      >>> novelty = fuzzing.far_outputs()
      >>> state, new = novelty.update(novelty.init(), units(x[:1])[1], np.array([[0.5, 0.0]]))
      >>> state, again = novelty.update(state, units(x[:1])[1], np.array([[0.6, 0.0]]))
      >>> new.tolist(), again.tolist()
      ([True], [False])
    """

    init: Callable[[], Any]
    # (state, activations and outputs of one input, as a batch of one) -> (state, [whether it is new])
    update: Callable[[Any, Activations, np.ndarray], tuple[Any, Bool[np.ndarray, "1"]]]

    def after(self, state: Any, activations: Activations, outputs: np.ndarray, row: int) -> tuple[Any, bool]:
        """The state after one input of a batch, and whether that input is new."""
        own = jax.tree.map(lambda leaf: leaf[row : row + 1], activations)
        state, [new] = self.update(state, own, np.asarray(outputs[row : row + 1]))
        return state, bool(new)


def new_coverage(criterion: Criterion) -> Novelty:
    """New is what covers something that nothing before it covered.

    Args:
      criterion: of packed bits, such as `neuron_coverage` or `section_coverage`.

    Example:
      >>> from cwjax.generation import fuzzing
      >>> novelty = fuzzing.new_coverage(cw.coverage.top_neuron_coverage(units.convention, k=1))
      >>> state, new = novelty.update(novelty.init(), units(x[:1])[1], np.zeros((1, 2)))
      >>> state, again = novelty.update(state, units(x[:1])[1], np.zeros((1, 2)))
      >>> new.tolist(), again.tolist()
      ([True], [False])
    """
    check_part("criterion", criterion, Criterion)
    see = criterion.update if criterion.on_host else jax.jit(criterion.update)

    def update(state, activations, outputs):
        del outputs
        after = see(state, activations)
        before, now = jax.tree.leaves(state), jax.tree.leaves(after)
        new = any(not np.array_equal(old, new) for old, new in zip(before, now, strict=True))
        return after, np.array([new])

    return Novelty(criterion.init, update)


def far_outputs(threshold: Number = 1.0) -> Novelty:
    """TensorFuzz's rule: new is an input whose logits are far from those of all that were kept.

    With exact neighbours (Odena et al. 2019, section 3.4).

    Args:
      threshold: of the squared L2 distance, > 0.

    Example:
      >>> from cwjax.generation import fuzzing
      >>> novelty = fuzzing.far_outputs(threshold=1.0)
      >>> state, new = novelty.update(novelty.init(), units(x[:1])[1], np.array([[0.5, 0.0]]))
      >>> [novelty.update(state, units(x[:1])[1], np.array([[logit, 0.0]]))[1].item() for logit in (1.0, 2.0)]
      [False, True]

    References:
      Odena et al. 2019, "TensorFuzz: debugging neural networks with coverage-guided fuzzing", section 3.4,
        https://arxiv.org/abs/1807.10875
    """
    check_number("threshold", threshold, least=0, above=True)

    def update(state, activations, outputs):
        del activations
        [row] = outputs
        if len(state) and ((np.stack(state) - row) ** 2).sum(-1).min() <= threshold:
            return state, np.array([False])
        return (*state, row), np.array([True])

    return Novelty(tuple, update)
