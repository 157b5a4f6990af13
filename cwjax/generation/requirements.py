"""What a test is to do to a network, as goals and objectives for the attacks: activate a neuron, leave a bound, reach a
pattern, flip a pair of signs, make models disagree.

    units = cw.coverage.neurons(model, x, layers="activation", value="before")
    goal  = requirements.neurons_activated(units.convention, [3, 17])          # one requirement for each input
    run   = jax.jit(cw.batched(cw.attacks.fmn(norm="linf", objective=requirements.neurons_reached(hinged=False))))
    result = run(requirements.observed(units), keys, x[:2], goal)

The nearest input that meets a requirement is what an attack finds. A requirement that it does not find is reported as
not met, by `result.success`; nothing says that no input meets it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from cwjax.arguments import check_number, check_part
from cwjax.base import AnyArray, Goal, LabelGoal, Number, Objective, Outputs, shapes, wide
from cwjax.coverage.convention import Convention, Neurons
from cwjax.coverage.profiles import Profile
from cwjax.models import Model
from cwjax.parts.objectives.classification import logit_margin
from cwjax.parts.objectives.count import outputs_margin

Places: TypeAlias = ArrayLike | Sequence[Any]


class Observed(NamedTuple):
    """What a model says of one input, and what its neurons do."""

    outputs: Outputs
    values: Float[AnyArray, "*B N"]  # of the neurons, layer after layer


class NeuronsGoal(NamedTuple):
    """Neurons that are to be on one side of a bound; read by `neurons_reached`."""

    sign: Float[Array, "..."]  # float32 [N]: +1 above the bound, -1 at most the bound, 0 whatever
    bound: Float[Array, "..."]  # float32 [N]


class SuspectsGoal(NamedTuple):
    """Neurons that are to rise until the label falls; read by `suspects_raised`."""

    label: LabelGoal
    weights: Float[AnyArray, "..."]  # float32 [N]: of each neuron in the mean; 0 where it is no suspect


def observed(neurons: Neurons) -> Model:
    """The network as a model that returns `Observed`: its outputs and the values of its neurons.

    Args:
      neurons: from `cw.coverage.neurons`. For a search by slopes take `value="before"`: after a ReLU that is off there
        is no slope.

    Example:
      >>> said = requirements.observed(units)(x[0])
      >>> print(np.asarray(said.outputs).round(1), np.asarray(said.values).round(1))
      [0.8 0. ] [ 0.8 -0.8  0.8 -0.8]
    """
    check_part("neurons", neurons, Neurons)
    return Model(apply=_observe, params=neurons)


def _observe(neurons: Neurons, x: Array, context: PyTree = None) -> Observed:
    outputs, activations = neurons(x, context)
    return Observed(outputs, activations.values)


def patterns_reached(convention: Convention, neurons: Places, on: Places, *, threshold: Number = 0.0) -> NeuronsGoal:
    """Several neurons are to be on or off, as a t-way combination of DeepCT wants them.

    Args:
      convention: of the neurons.
      neurons: integers [B, t]: their places among all neurons.
      on: boolean [B, t]: which of them are to be above the threshold; the others are to be at most at it.
      threshold: between on and off.

    Raises:
      ValueError: shapes that differ, places that there are not, or a place twice in a row.

    Example:
      >>> goal = requirements.patterns_reached(units.convention, [[0, 1]], [[True, False]])
      >>> goal.sign.tolist()  # of four neurons two count
      [[1.0, -1.0, 0.0, 0.0]]

    References:
      Ma et al. 2019, "DeepCT: tomographic combinatorial testing for deep learning systems", section III,
        https://arxiv.org/abs/1806.07723
    """
    check_number("threshold", threshold, least=-float("inf"))
    places, wanted = _places(convention, neurons), np.asarray(on, bool)
    if places.ndim != 2 or places.shape != wanted.shape:
        raise ValueError(f"neurons and on must both be [B, t], got {list(places.shape)} and {list(wanted.shape)}")
    rows = np.arange(len(places))[:, None]
    sign = np.zeros((len(places), convention.neurons), np.float32)
    sign[rows, places] = np.where(wanted, 1, -1)
    if (np.count_nonzero(sign, axis=1) != places.shape[1]).any():
        raise ValueError("a pattern names a neuron twice: its neurons must differ")
    return NeuronsGoal(jnp.asarray(sign), jnp.broadcast_to(jnp.asarray(threshold, jnp.float32), sign.shape))


def neurons_activated(convention: Convention, neurons: Places, *, threshold: Number = 0.0) -> NeuronsGoal:
    """One neuron for each input is to be above a threshold (NC of DeepConcolic: above 0, before the ReLU).

    Args:
      convention: of the neurons.
      neurons: integers [B]: their places among all neurons.
      threshold: to be exceeded.

    Raises:
      ValueError: as `patterns_reached`.

    Example:
      >>> requirements.neurons_activated(units.convention, [2, 0]).sign.tolist()
      [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]

    References:
      Sun et al. 2018, "Concolic testing for deep neural networks", https://arxiv.org/abs/1805.00089
    """
    places = _places(convention, neurons)[:, None]
    return patterns_reached(convention, places, np.ones(places.shape, bool), threshold=threshold)


def bounds_left(profile: Profile, neurons: Places, above: Places, *, offset: float | int = 0.0) -> NeuronsGoal:
    """One neuron for each input is to leave the range that it had in training (NBC of DeepGauge).

    Args:
      profile: from `cw.coverage.profiled`.
      neurons: integers [B]: their places among all neurons.
      above: boolean [B]: whether to leave the range above or below.
      offset: how far beyond, in standard deviations, >= 0.

    Raises:
      ValueError: as `patterns_reached`.

    Example:
      >>> profile = cw.coverage.profiled(units, x)
      >>> goal = requirements.bounds_left(profile, [0], [True])
      >>> goal.sign.tolist(), round(float(goal.bound[0, 0]), 2)  # above 0.8
      ([[1.0, 0.0, 0.0, 0.0]], 0.8)

    References:
      Ma et al. 2018, "DeepGauge: multi-granularity testing criteria for deep learning systems", section 3.3,
        https://arxiv.org/abs/1803.07519
    """
    check_part("profile", profile, Profile)
    check_number("offset", offset, least=0)
    places, up = _places(profile.convention, neurons), np.asarray(above, bool)
    goal = patterns_reached(profile.convention, places[:, None], up[:, None])
    beyond = offset * profile.deviation
    # the lower bound is to be left, and not only reached: below 0, too, which rounding leaves as it is
    least = np.asarray(profile.low - beyond, np.float32) - np.finfo(np.float32).tiny
    most = np.asarray(profile.high + beyond, np.float32)
    return goal._replace(bound=jnp.asarray(np.where(up[:, None], most[None], least[None])))


def signs_paired(values: ArrayLike, convention: Convention, condition: Places, decision: Places) -> NeuronsGoal:
    """A neuron of one layer is to change its sign, alone in its layer, and one of the next layer too.

    Sign-sign cover of DeepConcolic.

    Args:
      values: [N] or [B, N]: of all neurons before the ReLU, for the input that the search starts from.
      convention: of the neurons, with `value="before"`.
      condition: integers [B]: the places among all neurons of those that decide.
      decision: integers [B]: of those that are decided, each in the layer after its condition's.

    Raises:
      ValueError: places that there are not, or a decision that is not in the next layer.

    Example:
      >>> values = np.array([0.8, -0.8, 0.8, -0.8])
      >>> requirements.signs_paired(values, units.convention, [0], [2]).sign.tolist()  # 0 and 2 turn, 1 stays
      [[-1.0, -1.0, -1.0, 0.0]]

    References:
      Sun et al. 2018, "Concolic testing for deep neural networks", https://arxiv.org/abs/1805.00089
    """
    first, second = _places(convention, condition), _places(convention, decision)
    shape = (len(first), convention.neurons)
    on = np.broadcast_to(np.asarray(values) > 0, shape)
    layer = np.concatenate([np.full(each.neurons, i) for i, each in enumerate(convention.layers)])
    if (layer[second] != layer[first] + 1).any():
        raise ValueError("a decision must be a neuron of the layer after that of its condition")
    rows = np.arange(len(first))
    flips = np.zeros(shape, bool)
    flips[rows, first] = flips[rows, second] = True
    counted = (layer[None] == layer[first][:, None]) | flips
    sign = np.where(counted, np.where(on != flips, 1, -1), 0).astype(np.float32)
    return NeuronsGoal(jnp.asarray(sign), jnp.zeros(shape, jnp.float32))


def neurons_reached(confidence: Number = 0.0, *, hinged: bool = True) -> Objective:
    """Every neuron that counts is to be on its side of its bound:

        f = mean over those neurons of max(s_i·(b_i - v_i) + kappa, 0)

    0 exactly where the requirement is met. Outputs are `Observed`, goals come from the functions above.

    Args:
      confidence: kappa >= 0, in the unit of the neurons, raised against rounding.
      hinged: whether the loss stays at 0 where the requirement is met. Attacks that want a loss that goes on falling,
        such as FMN, come nearer without.

    Raises:
      ValueError: a confidence out of range; at the runner, a goal of other neurons.

    Example:
      >>> goal = jax.tree.map(lambda leaf: leaf[0], requirements.neurons_activated(units.convention, [1]))
      >>> said = requirements.Observed(jnp.zeros(2), jnp.array([0.8, -0.8, 0.8, -0.8]))
      >>> round(float(requirements.neurons_reached().loss(said, goal)), 3)
      0.8

    References:
      Sun et al. 2018, "Concolic testing for deep neural networks", https://arxiv.org/abs/1805.00089
    """
    check_number("confidence", confidence, least=0)

    def lags(outputs, goal):
        values = outputs.values.astype(wide(outputs.values))
        behind = goal.sign * (goal.bound.astype(values.dtype) - values)
        margin = outputs_margin(values)
        # a neuron that is exactly at the bound is off, and 0 after a ReLU has no rounding
        margin = jnp.where(goal.sign > 0, margin, jnp.where(values == 0, 0, margin))
        return behind + jnp.asarray(confidence, values.dtype) + margin, goal.sign != 0

    def loss(outputs, goal):
        behind, counted = lags(outputs, goal)
        lack = jnp.sum(jnp.where(counted & ~(behind <= 0), behind, 0)) / jnp.maximum(jnp.sum(counted), 1)
        worst = jnp.max(jnp.where(counted, behind, -jnp.inf))
        return jnp.where(worst <= 0, 0 if hinged else worst, lack)

    def met(outputs, goal):
        behind, counted = lags(outputs, goal)
        return jnp.all(~counted | (behind <= 0))

    def check(outputs: Outputs, goal: Goal) -> None:
        if not isinstance(goal, NeuronsGoal):
            raise TypeError(f"neurons_reached reads a goal of neurons, from requirements, got {shapes(goal)}")
        _check_observed("neurons_reached", outputs, goal.sign)

    return _objective(loss, met, check, confidence)


def suspects(labels: LabelGoal, convention: Convention, neurons: Places) -> SuspectsGoal:
    """The same few neurons are to rise for every input, until it leaves its label.

    Args:
      labels: from `cw.untargeted`, for each input.
      convention: of the neurons.
      neurons: integers [k], at least one: the suspects' places among all neurons.

    Raises:
      ValueError: no suspect, or places that there are not.

    Example:
      >>> goal = requirements.suspects(cw.untargeted(labels), units.convention, [0, 3])
      >>> goal.weights.tolist()
      [[0.5, 0.0, 0.0, 0.5], [0.5, 0.0, 0.0, 0.5]]

    References:
      Eniser et al. 2019, "DeepFault: fault localization for deep neural networks", algorithm 2,
        https://arxiv.org/abs/1902.05974
    """
    places = _places(convention, neurons)
    if not places.size:
        raise ValueError("no neuron is suspected: there is nothing to raise")
    weights = np.zeros(convention.neurons, np.float32)
    weights[places] = 1 / len(np.unique(places))
    rows = (len(labels.label), convention.neurons)
    return SuspectsGoal(labels, jnp.broadcast_to(jnp.asarray(weights)[None], rows))


def suspects_raised(confidence: Number = 0.0) -> Objective:
    """The mean value of the suspects is to rise; the goal is met where the model leaves the label.

        f = -mean of the suspects' values

    The loss never looks at the label, as DeepFault's does not. Outputs are `Observed` with logits.

    Args:
      confidence: kappa >= 0, of the margin by which the label is left.

    Example:
      >>> goal = requirements.suspects(cw.untargeted(labels), units.convention, [0, 3])
      >>> said = requirements.Observed(jnp.array([1.0, 0.0]), jnp.array([0.8, -0.8, 0.8, -0.4]))
      >>> one = jax.tree.map(lambda leaf: leaf[0], goal)
      >>> round(float(requirements.suspects_raised().loss(said, one)), 3)  # minus the mean of 0.8 and -0.4
      -0.2

    References:
      Eniser et al. 2019, "DeepFault: fault localization for deep neural networks", algorithm 2,
        https://arxiv.org/abs/1902.05974
    """
    label = logit_margin(confidence)

    def check(outputs: Outputs, goal: Goal) -> None:
        if not isinstance(goal, SuspectsGoal):
            raise TypeError(f"suspects_raised reads a goal from requirements.suspects, got {shapes(goal)}")
        _check_observed("suspects_raised", outputs, goal.weights)
        label.check(outputs.outputs, goal.label)

    def loss(outputs, goal):
        return -jnp.sum(goal.weights * outputs.values)

    return _objective(loss, lambda outputs, goal: label.met(outputs.outputs, goal.label), check, confidence)


def _objective(loss: Any, met: Any, check: Any, confidence: Number) -> Objective:
    def reaches(goal: Goal) -> Bool[Array, ""]:
        del goal
        return jnp.array(True)

    return Objective(loss=loss, met=met, confidence=confidence, check=check, reaches=reaches, logits=None)


def _check_observed(name: str, outputs: Outputs, like: Any) -> None:
    if not isinstance(outputs, Observed) or outputs.values.shape != like.shape:
        raise ValueError(
            f"{name} reads a model from requirements.observed with the {like.shape[0]:,} neurons of the goal, got "
            f"{shapes(outputs)}"
        )


def _places(convention: Convention, neurons: Places) -> np.ndarray:
    """Places among all neurons, checked."""
    check_part("convention", convention, Convention)
    places = np.asarray(neurons)
    if places.size and not np.issubdtype(places.dtype, np.integer):
        raise ValueError(f"neurons must be whole numbers, their places among all, got {places.dtype}")
    if places.size and not 0 <= places.min() <= places.max() < convention.neurons:
        raise ValueError(
            f"neurons must be from 0 to {convention.neurons - 1}, their places among all, got {places.min()} to "
            f"{places.max()}"
        )
    return places.astype(int)
