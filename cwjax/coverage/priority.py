"""The order to run tests in: by what they cover, and how good an order was."""

import heapq

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt32

from cwjax.base import AnyArray
from cwjax.coverage.convention import Activations
from cwjax.coverage.criterion import Criterion, check_finite


def covered_by_each(criterion: Criterion, activations: Activations) -> UInt32[np.ndarray, "B W"]:
    """What each input covers alone, as packed bits: what `by_additional_coverage` orders by.

    Memory is that of a state for each input.

    Args:
      criterion: whose state is bits, such as `boundary_coverage`.
      activations: of the inputs.

    Raises:
      ValueError: a criterion whose state is something else; an activation that is NaN or infinite.

    Example:
      >>> top = cw.coverage.top_neuron_coverage(units.convention, k=1)
      >>> covered = cw.coverage.priority.covered_by_each(top, units(x)[1])
      >>> np.bitwise_count(covered).sum(1).tolist()  # one neuron in each layer
      [2, 2]
    """
    bits = not criterion.on_host and all(leaf.dtype == np.uint32 for leaf in jax.tree.leaves(criterion.init()))
    if not bits:
        raise ValueError(f"the state of {criterion.name} is not of bits: order by another criterion")

    check_finite(activations, criterion.convention)
    states = jax.tree.leaves(_each_alone(criterion.update, criterion.init(), activations))
    return np.concatenate([np.asarray(leaf).reshape(leaf.shape[0], -1) for leaf in states], axis=1)


@jax.jit  # the one program of `covered_by_each`, whatever the criterion's data
def _each_alone(update, nothing, activations: Activations):
    return jax.vmap(lambda row: update(nothing, jax.tree.map(lambda leaf: leaf[None], row)))(activations)


def by_total_coverage(covered: UInt32[np.ndarray, "B W"]) -> Int[np.ndarray, "B"]:
    """Coverage-total order, CTM: inputs that cover most alone come first. Equal ones keep their order.

    Args:
      covered: from `covered_by_each`.

    Example:
      >>> covered = np.array([[0b0001], [0b0111], [0b1011]], np.uint32)  # a row of bits for each input
      >>> cw.coverage.priority.by_total_coverage(covered).tolist()
      [1, 2, 0]

    References:
      Feng et al. 2020, "DeepGini: prioritizing massive tests to enhance the robustness of deep neural networks",
        https://arxiv.org/abs/1903.00661
    """
    return np.argsort(-np.bitwise_count(covered).sum(1, dtype=np.int64), kind="stable")


def by_additional_coverage(covered: UInt32[np.ndarray, "B W"]) -> Int[np.ndarray, "B"]:
    """Coverage-additional order, CAM: always the input that covers most of what is not yet covered.

    Of equal ones the first comes first. Inputs that add nothing come last, by what they cover in total.

    A gain never grows, so it is counted again only when its input comes to the front.

    Args:
      covered: from `covered_by_each`.

    Example:
      >>> covered = np.array([[0b0111], [0b0011], [0b1000]], np.uint32)
      >>> cw.coverage.priority.by_additional_coverage(covered).tolist()  # the last one adds a bit, the second none
      [0, 2, 1]

    References:
      Feng et al. 2020, "DeepGini: prioritizing massive tests to enhance the robustness of deep neural networks",
        https://arxiv.org/abs/1903.00661
    """
    totals = np.bitwise_count(covered).sum(1, dtype=np.int64)
    queue = [(-int(total), row) for row, total in enumerate(totals)]
    heapq.heapify(queue)
    order, done = [], np.zeros(covered.shape[1], covered.dtype)
    while queue:
        _, row = queue[0]
        gain = int(np.bitwise_count(covered[row] & ~done).sum())
        if gain == 0:
            heapq.heappop(queue)
            continue
        if -gain != queue[0][0]:
            heapq.heapreplace(queue, (-gain, row))
            continue
        heapq.heappop(queue)
        order.append(row)
        done |= covered[row]
    rest = np.setdiff1d(np.arange(len(covered)), order)
    return np.concatenate([np.asarray(order, int), rest[np.argsort(-totals[rest], kind="stable")]])


def faults_found_early(order: Int[AnyArray, "B"], faulty: Bool[AnyArray, "B"]) -> float:
    """APFD, the average percentage of faults detected: 1 if all faults come first and are few.

    A random order has one half.

    For k faults among n inputs at places o_i, counted from 1, it is `1 - Σo_i/(k·n) + 1/(2n)`. The best there is with k
    faults is `1 - k/(2n)`.

    Args:
      order: of the inputs, a permutation: the first is run first.
      faulty: whether each input, in its own place, is a fault.

    Raises:
      ValueError: no faults; an order that is no permutation.

    Example:
      >>> faulty = np.array([False, False, True, False])
      >>> cw.coverage.priority.faults_found_early(np.array([2, 0, 1, 3]), faulty)  # 1 - 1/4 + 1/8
      0.875

    References:
      Rothermel et al. 2001, "Prioritizing test cases for regression testing", IEEE Transactions on Software Engineering
        27(10).
    """
    order, faulty = np.asarray(order), np.asarray(faulty, bool)
    if not np.array_equal(np.sort(order), np.arange(len(faulty))):
        raise ValueError(f"an order of {len(faulty)} inputs names each of them once")
    places = np.flatnonzero(faulty[order]) + 1
    if not len(places):
        raise ValueError("there are no faults to find: how early they are found has no meaning")
    return float(1 - places.sum() / (len(places) * len(order)) + 1 / (2 * len(order)))


def by_score(scores: Float[AnyArray, "B"]) -> Int[np.ndarray, "B"]:
    """The largest first; equal ones keep their order.

    Args:
      scores: of `uncertainty` or `surprise`.

    Example:
      >>> cw.coverage.priority.by_score(np.array([0.2, 0.9, 0.5])).tolist()
      [1, 2, 0]
    """
    return np.argsort(-np.asarray(scores), kind="stable")
