"""The nearest input that meets a requirement and keeps the signs of all earlier neurons: a linear program."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cwjax.arguments import check_count, check_number, check_part
from cwjax.base import AnyArray
from cwjax.coverage.convention import Neurons
from cwjax.generation.requirements import NeuronsGoal, observed
from cwjax.models import Model

SLACK = 1e-4  # by how much the target is to be passed, and signs are to be kept; DeepConcolic's epsilon


class Nearest(NamedTuple):
    """What the program says."""

    x: Float[np.ndarray, "*S"]  # the input, or the start where there is none
    distance: float  # L-infinity, from the start; inf where the region has no such input
    met: bool  # whether the network itself says so of `x`
    rows: int  # of signs that the program needed


def nearest_in_region(
    neurons: Neurons,
    x: Float[AnyArray, "*S"],
    goal: NeuronsGoal,
    *,
    low: float | int = 0.0,
    high: float | int = 1.0,
    added: int = 200,
    most: int = 50,
) -> Nearest:
    """DeepConcolic's symbolic step: the nearest input at which one neuron passes its bound, by linear programs.

    In L-infinity, among the inputs that keep the sign of every neuron of the layers before it; HiGHS solves them.

    With the signs kept a ReLU network is affine, so each neuron is a row of its Jacobian. Rows of signs are added when
    the last answer violates them. The distance is an upper bound of the true one, because inputs with other signs are
    not looked at; and where there is none, nothing is proved. Max-pools are affine only while their winners stay:
    `met` is what the network itself says of the answer.

    Args:
      neurons: every element before its ReLU: `unit="element", value="before"`, of all layers up to the target's.
      x: where the signs are read.
      goal: with the target as its only neuron that counts, for one input: fields [N].
      low: the least value of an element.
      high: the largest.
      added: rows at once.
      most: programs to solve at the most; then the last answer stands, and `met` tells whether it is one.

    Raises:
      ValueError: neurons that are not elements before the activation function, or a goal of several neurons.

    Example:
      >>> from cwjax.generation import linear_program
      >>> elements = cw.coverage.neurons(network, x, value="before", unit="element")
      >>> goal = jax.tree.map(lambda leaf: leaf[0], requirements.neurons_activated(elements.convention, [1]))
      >>> found = linear_program.nearest_in_region(elements, x[0], goal)  # b - a, which is -0.8 there
      >>> round(found.distance, 2), found.met
      (0.4, True)

    References:
      Sun et al. 2018, "Concolic testing for deep neural networks", https://arxiv.org/abs/1805.00089
    """
    from scipy import optimize, sparse  # for this alone: it takes a while to load

    check_part("neurons", neurons, Neurons)
    check_count("added", added)
    check_count("most", most)
    for name, value in (("low", low), ("high", high)):
        check_number(name, value, least=-float("inf"))
    convention = neurons.convention
    if convention.value != "before" or convention.unit != "element":
        raise ValueError(
            f"a linear program reads each element before its ReLU, and these are {convention}: make the neurons with "
            'unit="element", value="before"'
        )
    sign = np.asarray(goal.sign)
    targets = np.flatnonzero(sign)
    if sign.ndim != 1 or len(targets) != 1:
        raise ValueError(f"a linear program takes the goal of one neuron, fields [N], got {len(targets)} that count")
    [target] = targets
    before = next(part.start for part in convention.slices if part.start <= target < part.stop)
    start = np.asarray(x, np.float64).ravel()
    model, at = observed(neurons), jnp.asarray(x)
    values = np.asarray(_values(model, at), np.float64)
    on = values > 0
    up, bound = float(sign[target]), float(np.asarray(goal.bound)[target])

    def slopes(places: np.ndarray) -> np.ndarray:
        rows = np.resize(places, max(added, 1))  # one shape, so that it compiles once
        return np.asarray(_rows(model, at, jnp.asarray(rows)), np.float64).reshape(len(rows), -1)[: len(places)]

    # rows a·step <= b of the step from the start; the last variable is d
    matrix = [-up * slopes(np.array([target]))]
    limits = [np.array([-up * (bound - values[target]) - SLACK])]
    held = np.zeros(0, int)
    size = len(start)
    within = sparse.vstack(
        [sparse.hstack([side * sparse.eye(size), -np.ones((size, 1))]) for side in (1, -1)], format="csr"
    )
    found, reached = start, np.inf
    for _ in range(most):
        signs = np.concatenate(matrix)
        whole = sparse.vstack([sparse.csr_matrix(np.hstack([signs, np.zeros((len(signs), 1))])), within], format="csr")
        answer = optimize.linprog(
            np.append(np.zeros(size), 1.0),
            A_ub=whole,
            b_ub=np.concatenate([*limits, np.zeros(2 * size)]),
            bounds=[*zip(low - start, high - start, strict=True), (0, None)],
            method="highs",
        )
        if answer.status != 0:
            found, reached = start, np.inf
            break
        found, reached = start + answer.x[:size], float(answer.x[size])
        now = np.asarray(_values(model, jnp.asarray(found.reshape(np.shape(x)), at.dtype)), np.float64)
        wrong = np.setdiff1d(np.flatnonzero((now > 0)[:before] != on[:before]), held)[:added]
        if not len(wrong):
            break
        each = np.where(on[wrong], 1.0, -1.0)
        matrix.append(-each[:, None] * slopes(wrong))
        # a neuron that was nearer to 0 than the slack keeps what it has
        limits.append(np.maximum(each * values[wrong] - SLACK, 0))
        held = np.append(held, wrong)
    image = found.reshape(np.shape(x)).astype(at.dtype)
    passed = np.isfinite(reached) and up * (float(_values(model, jnp.asarray(image))[target]) - bound) > 0
    return Nearest(image, reached, bool(passed), len(held))


@jax.jit
def _values(model: Model, x: Array) -> Float[Array, "N"]:
    return model(x).values


@jax.jit
def _rows(model: Model, x: Array, places: Array) -> Float[Array, "R *S"]:
    """The slopes of these neurons in the input."""
    values, pull = jax.vjp(lambda x: model(x).values, x)
    return jax.vmap(lambda place: pull(jnp.zeros_like(values).at[place].set(1))[0])(places)
