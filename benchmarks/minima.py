"""The exact distance to the nearest adversarial example of a small dense ReLU network, in L-infinity and L1.

As long as each neuron either stays at work or stays at rest, the network is affine. Which neurons work is a vector of
zeros and ones, so the nearest example solves a mixed-integer linear program. HiGHS solves it, through SciPy.

An example that an attack found says how far to look. In a small ball many neurons always work or always rest, and need
no variable: interval arithmetic tells some of them, linear programs tell more.

    known = nearest_example(layers, x, label, example, norm="linf")
    known.distance, known.bound          # how far the nearest example is, and how far it is at least: a proof

References:
  Tjeng, Xiao, Tedrake, "Evaluating Robustness of Neural Networks with Mixed Integer Programming", ICLR 2019, section 4:
  https://arxiv.org/abs/1711.07356.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, sparse

from benchmarks.dense import Array, Layer, Minimum, Norm, check_example, of_example

SLACK = 1e-4  # by which the ball is larger than the example that is known: rounding must not put that outside
INFEASIBLE = 2  # the status of SciPy's `milp`


def nearest_example(
    layers: Sequence[Layer],
    x: Float[Array, "I"],
    label: int,
    example: Float[Array, "I"],
    *,
    norm: Norm,
    seconds: float = 60.0,
    gap: float = 1e-6,
) -> Minimum:
    """The nearest input in [0, 1] where another logit is as high as the label's: one program for each other class.

    Args:
      layers: of the network.
      x: the clean input, in [0, 1], which the network gets right.
      label: of it.
      example: an adversarial example, such as an attack found; the nearer, the faster.
      norm: "linf" or "l1".
      seconds: for all programs together. When they are over, `bound` stays below `distance`.
      gap: what a program may leave between the two, as a share of the distance.

    Raises:
      ValueError: the example is not adversarial, or the norm is another.
    """
    check_example(layers, label, example)
    began, best = time.monotonic(), of_example(layers, x, label, example, norm)
    network = _Network(layers, x, norm, best.distance * (1 + SLACK))
    bounds = {target: network.relaxed(label, target) for target in _others(layers, label)}
    for target in sorted(bounds, key=bounds.__getitem__):
        if bounds[target] >= best.distance:
            continue
        left = max(seconds - (time.monotonic() - began), 0.01)
        solved = network.solve(label, target, best.distance * (1 + SLACK), time_limit=left, mip_rel_gap=gap)
        proved = np.inf if solved.status == INFEASIBLE else solved.mip_dual_bound or 0.0
        bounds[target] = max(bounds[target], proved)
        if solved.x is not None:
            found = of_example(layers, x, label, network.exactly(label, target, solved.x), norm)
            best = min(best, found, key=lambda each: each.distance)
    bound = min(best.distance, *bounds.values())
    return best._replace(bound=float(bound), seconds=time.monotonic() - began)


def excluded(
    layers: Sequence[Layer], x: Float[Array, "I"], label: int, *, norm: Norm, radius: float, seconds: float = 60.0
) -> bool:
    """Whether it is proved that no example is within a radius. A check of a minimum: its programs have other bounds.

    Args:
      layers: of the network.
      x: the clean input, in [0, 1].
      label: of it.
      norm: "linf" or "l1".
      radius: how far to look.
      seconds: for the program of each other class.
    """
    network = _Network(layers, x, norm, radius)
    return all(
        network.relaxed(label, target) > radius
        or network.solve(label, target, radius, time_limit=seconds).status == INFEASIBLE
        for target in _others(layers, label)
    )


def _others(layers: Sequence[Layer], label: int) -> list[int]:
    return [target for target in range(len(layers[-1].bias)) if target != label]


class _Rows(NamedTuple):
    """low <= the sum of the terms <= high. A term is some variables, by number, and their coefficients."""

    terms: Sequence[tuple[Int[Array, "V"], Float[Array, "R V"]]]
    low: Array
    high: Array


class _Network:
    """The network within a ball, as the rows of a linear program.

    An input is x plus what its moves say: in L-infinity each element has one move, in L1 one up and one down. Other
    variables are the norm of the moves, what each neuron gives, and for an unstable neuron whether it works.
    """

    def __init__(self, layers: Sequence[Layer], x: Array, norm: Norm, radius: float):
        if norm not in ("linf", "l1"):
            raise ValueError(f'norm must be "linf" or "l1", got {norm!r}: for "l2" see benchmarks/regions.py')
        self.low, self.high, self.whole = np.zeros(0), np.zeros(0), np.zeros(0, bool)
        self.rows: list[_Rows] = []
        self.x, each = x, np.eye(len(x))
        up, down = np.minimum(1 - x, radius), np.minimum(x, radius)
        if norm == "linf":
            self.to_input, self.moves = each, self._variables(-down, up)
            sides = [each, -each]
        else:
            self.to_input, self.moves = np.vstack([each, -each]), self._variables(np.zeros(2 * len(x)), np.r_[up, down])
            sides = [np.ones((1, 2 * len(x)))]
        self.norm = self._variables(np.zeros(1), np.full(1, radius))
        for side in sides:
            self._between([(self.moves, side), (self.norm, -np.ones((len(side), 1)))], -np.inf, 0)
        inputs, layer = self.moves, Layer(self.to_input @ layers[0].kernel, x @ layers[0].kernel + layers[0].bias)
        for following in layers[1:]:
            first = inputs is self.moves
            low, high = self._reach(layer, radius, norm) if first else self._tightened(inputs, layer)
            inputs, layer = self._activated(inputs, layer, low, high), following
        self.top, self.last = inputs, layer

    def relaxed(self, label: int, target: int) -> float:
        """A lower bound of the distance, by a linear program; inf where the ball has no example."""
        solved = self._solved(self._distance(), [self._reached(label, target)], whole=False)
        return np.inf if solved.status == INFEASIBLE else solved.fun

    def solve(self, label: int, target: int, radius: float, **options: Any) -> optimize.OptimizeResult:
        """The program itself, for examples within a radius that is at most the ball's."""
        high = self.high.copy()
        high[self.norm] = radius
        return self._solved(self._distance(), [self._reached(label, target)], high=high, **options)

    def exactly(self, label: int, target: int, solution: Array) -> Array:
        """The input of a solution, once more with its neurons held at work or at rest: HiGHS lets them be 1e-6 off."""
        low, high = self.low.copy(), self.high.copy()
        low[self.whole] = high[self.whole] = solution[self.whole].round()
        solved = self._solved(self._distance(), [self._reached(label, target)], low=low, high=high, whole=False)
        moves = (solution if solved.x is None else solved.x)[self.moves]
        return np.clip(self.x + moves @ self.to_input, 0, 1)

    def _distance(self) -> Array:
        return np.eye(1, len(self.low), self.norm[0])[0]

    def _reached(self, label: int, target: int) -> _Rows:
        kernel, bias = self.last
        difference = (kernel[:, target] - kernel[:, label])[None]
        return _Rows([(self.top, difference)], bias[[label]] - bias[[target]], np.full(1, np.inf))

    def _variables(self, low: Array, high: Array, *, whole: bool = False) -> Int[Array, "V"]:
        first = len(self.low)
        self.low, self.high = np.r_[self.low, low], np.r_[self.high, high]
        self.whole = np.r_[self.whole, np.full(len(low), whole)]
        return np.arange(first, len(self.low))

    def _between(self, terms: Sequence[tuple[Array, Array]], low: Any, high: Any) -> None:
        count = len(terms[0][1])
        self.rows.append(_Rows(terms, np.broadcast_to(low, count), np.broadcast_to(high, count)))

    def _activated(self, inputs: Array, layer: Layer, low: Array, high: Array) -> Int[Array, "O"]:
        """The variables of a layer's neurons, whose inputs to ReLU are known to be between `low` and `high`."""
        outputs = self._variables(np.maximum(low, 0), np.maximum(high, 0))
        each, kernel, bias = np.eye(len(outputs)), -layer.kernel.T, layer.bias
        stays, varies = low >= 0, (low < 0) & (high > 0)
        self._between([(outputs, each[stays]), (inputs, kernel[stays])], bias[stays], bias[stays])
        works = self._variables(np.zeros(varies.sum()), np.ones(varies.sum()), whole=True)
        both = [(outputs, each[varies]), (inputs, kernel[varies])]
        self._between(both, bias[varies], np.inf)
        self._between([*both, (works, -np.diag(low[varies]))], -np.inf, (bias - low)[varies])
        self._between([(outputs, each[varies]), (works, -np.diag(high[varies]))], -np.inf, 0)
        return outputs

    def _reach(self, layer: Layer, radius: float, norm: Norm) -> tuple[Array, Array]:
        """Between which values the first layer's inputs to ReLU are, without error. In L1 the elements with the
        steepest slopes move first, each as far as it can.
        """
        ends, least, most = [], self.low[self.moves], self.high[self.moves]
        for sign in (-1, 1):
            slopes = sign * layer.kernel
            gains = np.maximum(slopes * most[:, None], slopes * least[:, None]).sum(0)
            if norm == "l1":
                order = np.argsort(-slopes, axis=0)
                room = most[order]
                moved = np.clip(radius - (room.cumsum(0) - room), 0, room)
                gains = (moved * np.maximum(np.take_along_axis(slopes, order, 0), 0)).sum(0)
            ends.append(layer.bias + sign * gains)
        return ends[0], ends[1]

    def _tightened(self, inputs: Array, layer: Layer) -> tuple[Array, Array]:
        """Between which values a layer's inputs to ReLU are: by intervals, and by linear programs where those differ
        in sign.
        """
        kernel, bias = layer
        falls, rises = np.minimum(kernel, 0), np.maximum(kernel, 0)
        low = bias + self.low[inputs] @ rises + self.high[inputs] @ falls
        high = bias + self.high[inputs] @ rises + self.low[inputs] @ falls
        for neuron in np.flatnonzero((low < 0) & (high > 0)):
            for sign, ends in ((1, low), (-1, high)):
                cost = np.zeros(len(self.low))
                cost[inputs] = sign * kernel[:, neuron]
                solved = self._solved(cost, [], whole=False)
                if solved.status == 0:
                    ends[neuron] = bias[neuron] + sign * solved.fun
        return low, high

    def _solved(self, cost, extra, *, low=None, high=None, whole=True, **options) -> optimize.OptimizeResult:
        rows = [each for each in (*self.rows, *extra) if len(each.low)]
        matrix = np.zeros((sum(len(each.low) for each in rows), len(cost)))
        first = 0
        for each in rows:
            for variables, coefficients in each.terms:
                matrix[first : first + len(each.low), variables] += coefficients
            first += len(each.low)
        ends: Any = [np.concatenate([getattr(each, end) for each in rows]) for end in ("low", "high")]
        box: Any = (self.low if low is None else low, self.high if high is None else high)
        return optimize.milp(
            cost,
            constraints=optimize.LinearConstraint(sparse.csr_array(matrix), *ends),
            bounds=optimize.Bounds(*box),
            integrality=self.whole.astype(int) * whole,
            options=options,
        )
