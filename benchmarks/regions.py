"""The exact distance to the nearest adversarial example of a tiny dense ReLU network, in L2, L1 and L-infinity.

The inputs at which the same neurons work are a polytope, and the network is affine there. Neurons are held at work or
at rest one after the other, layer by layer. The nearest input of the polytope so far is a lower bound, which cuts
branches. In L2 that input is a projection, found to rounding after a finite number of steps.

It takes seconds for ten inputs and thirty neurons. `minima.py` goes farther, and has no L2.

References:
  Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23: least distance programming by least squares
  that are not negative.
"""

import time
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import optimize

from benchmarks.dense import ORDERS, Array, Layer, Minimum, Norm, check_example, of_example
from benchmarks.minima import INFEASIBLE


def nearest_by_regions(
    layers: Sequence[Layer], x: Float[Array, "I"], label: int, example: Float[Array, "I"], *, norm: Norm
) -> Minimum:
    """The nearest input in [0, 1] where another logit is as high as the label's.

    Args:
      layers: of the network.
      x: the clean input, in [0, 1], which the network gets right.
      label: of it.
      example: an adversarial example, such as an attack found; the nearer, the faster.
      norm: "l2", "l1" or "linf".

    Raises:
      ValueError: the example is not adversarial.
    """
    check_example(layers, label, example)
    began, best = time.monotonic(), of_example(layers, x, label, example, norm)

    def look(depth: int, here: Layer, works: Array, held: Layer, nearest: Array) -> None:
        """Below a node of the search.

        Args:
          depth: the number of the layer that is looked at.
          here: what it computes, as a function of the network's input.
          works: which of its first neurons work; of the others nothing is held yet.
          held: the node's polytope, in which held.kernel.T @ input + held.bias >= 0.
          nearest: the nearest input in it.
        """
        nonlocal best
        if depth == len(layers) - 1:
            for target in set(range(len(here.bias))) - {label}:
                ahead = Layer(here.kernel[:, target] - here.kernel[:, label], here.bias[target] - here.bias[label])
                point = nearest_input(x, _also(held, ahead), norm)
                if point is not None:
                    found = of_example(layers, x, label, np.clip(point, 0, 1), norm)
                    best = min(best, found, key=lambda each: each.distance)
            return
        if len(works) == len(here.bias):
            given, following = Layer(here.kernel * works, here.bias * works), layers[depth + 1]
            deeper = Layer(given.kernel @ following.kernel, given.bias @ following.kernel + following.bias)
            look(depth + 1, deeper, np.zeros(0, bool), held, nearest)
            return
        neuron = Layer(here.kernel[:, len(works)], here.bias[len(works)])
        at_work = nearest @ neuron.kernel + neuron.bias > 0
        for side in (at_work, not at_work):
            sign = 1 if side else -1
            within = _also(held, Layer(sign * neuron.kernel, sign * neuron.bias))
            point = nearest if side == at_work else nearest_input(x, within, norm)
            if point is not None and np.linalg.norm(point - x, ORDERS[norm]) < best.distance:
                look(depth, here, np.append(works, side), within, point)

    each = np.eye(len(x))
    box = Layer(np.hstack([each, -each]), np.concatenate([0 * x, 0 * x + 1]))
    look(0, layers[0], np.zeros(0, bool), box, x)
    return best._replace(bound=best.distance, seconds=time.monotonic() - began)


def _also(held: Layer, row: Layer) -> Layer:
    return Layer(np.column_stack([held.kernel, row.kernel]), np.append(held.bias, row.bias))


def nearest_input(x: Float[Array, "I"], held: Layer, norm: Norm) -> Float[Array, "I"] | None:
    """The input nearest to x with held.kernel.T @ input + held.bias >= 0, or None if there is none.

    Args:
      x: where to measure from, in [0, 1].
      held: the rows, which are scaled before they are used. Those of the box [0, 1] have to be among them.
      norm: "l2", "l1" or "linf".
    """
    lengths = np.maximum(np.linalg.norm(held.kernel, axis=0), 1e-12)
    normals, limits = held.kernel / lengths, -(x @ held.kernel + held.bias) / lengths
    if norm == "l2":
        # The residual r of min |[normals; limits] w - (0, …, 0, 1)| over w >= 0 has |r|² = 1 / (1 + distance²), or 0 if
        # no input is allowed. In the box the distance² is at most the number of elements.
        ahead = np.zeros(len(x) + 1)
        ahead[-1] = 1
        matrix = np.vstack([normals, limits])
        residual = matrix @ optimize.nnls(matrix, ahead)[0] - ahead
        return None if residual @ residual < 0.5 / (1 + len(x)) else x - residual[:-1] / residual[-1]
    each = np.eye(len(x))  # |delta| <= of @ sizes: one size for every element, or one for all
    of = each if norm == "l1" else np.ones((len(x), 1))
    solved = optimize.linprog(
        np.concatenate([0 * x, np.ones(of.shape[1])]),
        A_ub=np.block([[-normals.T, np.zeros((len(limits), of.shape[1]))], [each, -of], [-each, -of]]),
        b_ub=np.concatenate([-limits, np.zeros(2 * len(x))]),
        bounds=(None, None),
    )
    return None if solved.status == INFEASIBLE else x + solved.x[: len(x)]
