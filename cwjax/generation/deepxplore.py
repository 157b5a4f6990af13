"""DeepXplore: inputs on which several models disagree and that activate neurons which nothing has activated yet.

units  = [cw.coverage.neurons(model, x) for model in models]
attack = deepxplore.differential(deepxplore.occlusion(10, 10), step=10.0)
run    = jax.jit(cw.discretised(cw.batched(attack)))                # within the box, and judged after 8 bits
found  = deepxplore.explored(run, units, keys, x)
print(found.success.mean(), [str(each) for each in found.coverage])

The constraints are written in `constraints`, the objective in `differences`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from cwjax.arguments import check_count, check_number, check_part
from cwjax.base import AnyArray, Attack, Count, Number, Outputs, Result, Runner, wide
from cwjax.coverage.convention import Activations, Neurons
from cwjax.coverage.criterion import Coverage, unpacked
from cwjax.coverage.neuron_coverage import neuron_coverage
from cwjax.generation.constraints import Constraint as Constraint
from cwjax.generation.constraints import blackout as blackout
from cwjax.generation.constraints import increasing as increasing
from cwjax.generation.constraints import light as light
from cwjax.generation.constraints import occlusion as occlusion
from cwjax.generation.differences import DifferentialGoal as DifferentialGoal
from cwjax.generation.differences import answers_of
from cwjax.generation.differences import disagreement as disagreement
from cwjax.generation.requirements import observed
from cwjax.loop import Rule, iterated
from cwjax.models import Model, joined
from cwjax.parts.norms import ball


def differential(
    constraint: Constraint,
    *,
    step: Number = 10.0,
    steps: Count = 20,
    leaving_weight: Number = 1.0,
    coverage_weight: Number = 0.1,
) -> Attack:
    """DeepXplore's ascent: along the slope of `disagreement` under a constraint, until two models disagree.

    The slope is divided by its root mean square:

        x_{t+1} = x_t + s·constraint(g / (rms(g) + 1e-5))

    Points stay within the bounds that the runner is given. The released code has none: it judges images that no file
    can hold. For that variant, give the runner wide bounds, such as `low=-1e4, high=1e4`.

    Args:
      constraint: `light()`, `occlusion(…)`, `blackout(…)`, `increasing(…)`, or your own.
      step: s, > 0; 10 for MNIST, ImageNet and driving, 0.1 for PDF documents.
      steps: iterations, >= 1.
      leaving_weight: lambda1, > 0: 1 for MNIST, ImageNet and driving, 2 for PDF documents.
      coverage_weight: lambda2, >= 0.

    Example:
      >>> from cwjax.generation import deepxplore
      >>> twin = cw.coverage.neurons(cw.bind(lambda params, x: network.apply(layer, x + jnp.array([[0.0, 0.3]]))), x)
      >>> model = cw.joined([requirements.observed(units), requirements.observed(twin)])
      >>> goal = deepxplore.goals_of(keys[0], labels[:1], [np.ones(4, bool)] * 2)
      >>> attack = deepxplore.differential(lambda key, direction: direction, step=0.1)
      >>> cw.batched(attack)(model, keys[:1], x[:1], goal).success.tolist()
      [True]

    References:
      Pei et al. 2017, "DeepXplore: automated whitebox testing of deep learning systems", algorithm 1,
        https://arxiv.org/abs/1705.06640
    """
    check_number("step", step, least=0, above=True)
    check_count("steps", steps)

    def init(key, problem):
        return problem.start.astype(wide(problem.x)), key

    def move(problem, key, seen):
        del problem
        direction = -seen.slope
        direction = direction / (jnp.sqrt(jnp.mean(direction**2)) + 1e-5)
        return seen.x + step * constraint(jax.random.fold_in(key, seen.taken), direction), key

    rule = Rule(init, move, over=lambda problem, key, seen: seen.met)
    objective = disagreement(leaving_weight=leaving_weight, coverage_weight=coverage_weight)
    return iterated(rule, objective=objective, distance=ball("l2").distance, steps=steps + 1)


class Explored(NamedTuple):
    """What came of seeds, in their order.

    Example:
      >>> from cwjax.generation import deepxplore
      >>> answers, nothing = np.array([[0, 0], [1, 1]]), np.zeros(2, bool)
      >>> found = deepxplore.Explored(result, np.array([True, False]), nothing, answers, coverage=())
      >>> found.success.tolist(), found.kinds  # the models disagreed on the first seed before
      ([False, True], 1)
    """

    result: Result  # an input on which models disagree where `success`, else the seed
    already: Bool[np.ndarray, "B"]  # the models disagree on the seed itself: a success at distance 0
    misread: Bool[np.ndarray, "B"]  # the models agree on the seed, and are wrong; all False without labels
    answers: Int[np.ndarray, "M B"]  # of each model on `result.x`
    coverage: tuple[Coverage, ...]  # of each model, by the inputs on which they disagree

    @property
    def success(self) -> Bool[np.ndarray, "B"]:
        """Where an input was generated, seeds on which the models disagree already left out."""
        return np.asarray(self.result.success) & ~self.already

    @property
    def kinds(self) -> int:
        """How many different tuples of answers there are among the generated inputs."""
        return len(np.unique(self.answers[:, self.success], axis=1).T)


def goals_of(
    key: PRNGKeyArray,
    labels: Int[AnyArray, "B"],
    uncovered: Sequence[Bool[AnyArray, "_"]],
    *,
    target: int = 0,
) -> DifferentialGoal:
    """For each seed, one uncovered neuron of each model, drawn at random; any neuron where none is left.

    Args:
      key: of the draw.
      labels: what the models answer for each seed.
      uncovered: of each model, which neurons nothing has covered yet.
      target: which model is to leave the label.

    Example:
      >>> from cwjax.generation import deepxplore
      >>> left = [np.array([True, False]), np.array([False, True])]  # one neuron of each model
      >>> goal = deepxplore.goals_of(keys[0], labels, left)
      >>> [each[0].tolist() for each in goal.neurons]
      [[1.0, 0.0], [0.0, 1.0]]

    References:
      Pei et al. 2017, "DeepXplore: automated whitebox testing of deep learning systems", algorithm 1,
        https://arxiv.org/abs/1705.06640
    """
    check_count("target", target, least=0, most=len(uncovered) - 1)
    weights = []
    for place, left in enumerate(uncovered):
        chance = jnp.where(jnp.any(jnp.asarray(left)), jnp.asarray(left), True).astype(jnp.float32)
        own = jax.random.fold_in(key, place)
        drawn = jax.random.categorical(own, jnp.log(chance), shape=(len(labels),))
        weights.append(jax.nn.one_hot(drawn, len(left), dtype=jnp.float32))
    leaves = jnp.tile(jax.nn.one_hot(target, len(uncovered), dtype=jnp.float32), (len(labels), 1))
    return DifferentialGoal(jnp.asarray(labels, jnp.int32), leaves, tuple(weights))


def explored(
    runner: Runner | Callable[..., Any],
    neurons: Sequence[Neurons],
    keys: Array,
    x: Float[AnyArray, "B *S"],
    *,
    labels: Int[AnyArray, "B"] | None = None,
    target: int = 0,
    rounds: int = 1,
    threshold: Number = 0.0,
    known: Float[AnyArray, "K *S"] | None = None,
    **bounds: Any,
) -> Explored:
    """All seeds through a differential attack, in a few programs' calls.

    DeepXplore draws the neurons for a seed from those that no earlier seed has covered. Here the seeds go in `rounds`:
    those of a round know what the rounds before it have covered.

    Args:
      runner: of `differential`: `jax.jit(cw.batched(attack))`, or one that `cw.discretised` wraps.
      neurons: of two or more models of the same inputs.
      keys: [B], from `jax.random.split`.
      x: the seeds.
      labels: the true classes, if seeds that the models get wrong are to be counted apart.
      target: which model is to leave its answer.
      rounds: equal parts of the seeds; each part compiles once, if all are of one size.
      threshold: of neuron coverage, scaled as in DeepXplore.
      known: inputs that an earlier call found, whose neurons count as covered.
      **bounds: for the runner: `low`, `high`, `mask`, for all seeds or for each.

    Raises:
      ValueError: fewer than two models, models that do not fit the seeds, or more rounds than seeds.

    Example:
      >>> from cwjax.generation import deepxplore
      >>> twin = cw.coverage.neurons(cw.bind(lambda params, x: network.apply(layer, x + jnp.array([[0.0, 0.3]]))), x)
      >>> attack = deepxplore.differential(lambda key, direction: direction, step=0.1, leaving_weight=2.0)
      >>> found = deepxplore.explored(jax.jit(cw.batched(attack)), [units, twin], keys, x, target=1)
      >>> found.success.tolist(), found.answers.tolist()  # from the first seed the twin leaves class 0 sooner
      ([True, True], [[0, 0], [1, 1]])

    References:
      Pei et al. 2017, "DeepXplore: automated whitebox testing of deep learning systems",
        https://arxiv.org/abs/1705.06640
    """
    for each in neurons:
        check_part("each of neurons", each, Neurons)
    check_count("rounds", rounds, most=len(x))
    model = joined([observed(each) for each in neurons])
    clean = answers(model, x)
    criteria = [neuron_coverage(each.convention, threshold=threshold) for each in neurons]
    states, parts = [each.init() for each in criteria], []

    def covering(made: np.ndarray) -> list[Any]:
        if not len(made):
            return states
        return [
            criterion.update(state, _activations(each, jnp.asarray(made)))
            for criterion, state, each in zip(criteria, states, neurons, strict=True)
        ]

    states = covering(np.asarray([] if known is None else known))
    for number, rows in enumerate(np.array_split(np.arange(len(x)), rounds)):
        uncovered = [
            ~unpacked(state.bits, each.convention.neurons) for state, each in zip(states, neurons, strict=True)
        ]
        drawn = goals_of(jax.random.fold_in(keys[0], number), clean[0, rows], uncovered, target=target)
        own = {name: _of_rows(value, rows, x) for name, value in bounds.items()}
        said = runner(model, keys[rows], jnp.asarray(x[rows]), drawn, **own)
        parts.append(said if isinstance(said, Result) else said[0])
        states = covering(np.asarray(parts[-1].x)[np.asarray(parts[-1].success)])
    result = jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts)
    coverage = tuple(criterion.value(state) for criterion, state in zip(criteria, states, strict=True))
    already = (clean != clean[:1]).any(0)
    misread = np.zeros(len(x), bool) if labels is None else ~already & (clean[0] != np.asarray(labels))
    return Explored(result, already, misread, answers(model, result.x), coverage)


def answers(model: Model, x: Float[AnyArray, "B *S"]) -> Int[np.ndarray, "M B"]:
    """The class that each of several joined models answers.

    Args:
      model: from `cw.joined`.
      x: the inputs.

    Example:
      >>> from cwjax.generation import deepxplore
      >>> opposite = cw.bind(lambda weights, x: network.apply(weights, -x), layer)
      >>> deepxplore.answers(cw.joined([network, opposite]), x).tolist()
      [[0, 1], [1, 0]]
    """
    outputs = answers_of(_outputs(model, jnp.asarray(x)))
    if len(outputs) < 2:
        raise ValueError(f"differences need at least two models, got {len(outputs)}")
    return np.stack([np.asarray(each).argmax(-1) for each in outputs])


def _of_rows(value: Any, rows: Int[np.ndarray, "R"], x: Float[AnyArray, "B *S"]) -> Any:
    """A bound for some of the seeds: its own rows, where it has one for each seed."""
    return value[rows] if np.shape(value)[:1] == (len(x),) and np.ndim(value) == np.ndim(x) else value


@jax.jit
def _activations(neurons: Neurons, x: Array) -> Activations:
    return neurons(x)[1]


@jax.jit
def _outputs(model: Model, x: Array) -> Outputs:
    return model.of_batch(x)
