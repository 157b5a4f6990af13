"""DeepFault: inputs that raise the neurons which are suspected of a network's faults.

units    = cw.coverage.neurons(model, x)
suspects = deepfault.suspects_of(units, x, labels, k=10)[label]         # from the spectrum of that class
run      = jax.jit(cw.batched(deepfault.synthesis(epsilon=0.1)))
result   = run(requirements.observed(units), keys, seeds, requirements.suspects(goal, units.convention, suspects))
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cwjax.arguments import check_count, check_number, check_part
from cwjax.base import AnyArray, Attack, Number, wide
from cwjax.coverage.convention import Neurons
from cwjax.coverage.suspicion import Spectrum, most_suspicious, ochiai, spectrum
from cwjax.generation.requirements import Places, suspects_raised
from cwjax.loop import Rule, iterated
from cwjax.parts.norms import ball


def suspects_of(
    neurons: Neurons,
    x: Float[AnyArray, "M *S"],
    labels: Int[AnyArray, "M"],
    *,
    k: int = 10,
    measure: Callable[[Spectrum], Float[Array, "K N"]] = ochiai,
    threshold: Number = 0.0,
    batch: int = 500,
) -> list[Int[np.ndarray, "k"]]:
    """The k most suspicious neurons of each class, by the inputs of that class (Eniser et al. 2019, sections 3.1, 3.2).

    Neurons that no wrong input activates are not suspected, so a class without wrong inputs has none.

    Args:
      neurons: hidden ones of a classifier, channel means after the activation function as in the paper.
      x: inputs, some of which the network gets wrong.
      labels: their classes.
      k: how many for a class; of neurons with equal scores, the first come first.
      measure: of `cw.coverage.suspicion`: `ochiai`, `tarantula` or `d_star`.
      threshold: a neuron is active strictly above it.
      batch: inputs at once.

    Raises:
      ValueError: labels that do not fit the network's classes.

    Example:
      >>> from cwjax.generation import deepfault
      >>> wrong = np.array([1, 1])  # as if the first input were of class 1
      >>> [each.tolist() for each in deepfault.suspects_of(cw.coverage.neurons(network, x), x, wrong, k=2)]
      [[], [0, 2]]

    References:
      Eniser et al. 2019, "DeepFault: fault localization for deep neural networks", sections 3.1 and 3.2,
        https://arxiv.org/abs/1902.05974
    """
    check_part("neurons", neurons, Neurons)
    check_count("k", k)
    check_count("batch", batch)
    parts = [_seen(neurons, jnp.asarray(x[first : first + batch])) for first in range(0, len(x), batch)]
    logits, values = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in (0, 1))
    truth = np.asarray(labels)
    counts = spectrum(values > threshold, logits.argmax(-1) != truth, truth, classes=logits.shape[-1])
    return most_suspicious(measure(counts), k)


@jax.jit
def _seen(neurons: Neurons, x: Array) -> tuple[Array, Array]:
    outputs, activations = neurons(x)
    return outputs, activations.values


def synthesis(*, epsilon: Number = 0.1, step: Number = 1.0) -> Attack:
    """DeepFault's synthesis: one step along the slope of the suspects' mean value (Eniser et al. 2019, algorithm 2):

        x' = clip(x + clip(s·g, -d, d), 0, 1)

    The label does not steer it. For the same with many steps, give `cw.attacks.pgd` the objective `suspects_raised()`.

    Args:
      epsilon: d, the largest change of an element, > 0.
      step: s, > 0.

    Example:
      >>> from cwjax.generation import deepfault
      >>> suspects = requirements.suspects(cw.untargeted(labels), units.convention, [1])  # b - a
      >>> result = cw.batched(deepfault.synthesis(epsilon=0.5))(requirements.observed(units), keys, x, suspects)
      >>> print(np.asarray(result.x).round(2), result.success)
      [[0.4 0.6]
       [0.2 0.7]] [ True False]

    References:
      Eniser et al. 2019, "DeepFault: fault localization for deep neural networks", algorithm 2,
        https://arxiv.org/abs/1902.05974
    """
    check_number("epsilon", epsilon, least=0, above=True)
    check_number("step", step, least=0, above=True)

    def init(key, problem):
        del key
        return problem.start.astype(wide(problem.x)), ()

    def move(problem, memory, seen):
        del problem
        return seen.x + jnp.clip(-step * seen.slope, -epsilon, epsilon), memory

    return iterated(Rule(init, move), objective=suspects_raised(), distance=ball("linf").distance, steps=2)


def random_neurons(
    rng: np.random.Generator, neurons: Neurons, suspected: Int[np.ndarray, "k"], *, excluded: Places = ()
) -> Int[np.ndarray, "k"]:
    """As many neurons as are suspected, from the same layers, none of them suspected: what suspicion has to beat.

    Args:
      rng: of the draw.
      neurons: of the network.
      suspected: their places among all neurons.
      excluded: others that must not be drawn; the paper leaves out the suspects of every measure.

    Raises:
      ValueError: a layer with too few other neurons.

    Example:
      >>> from cwjax.generation import deepfault
      >>> deepfault.random_neurons(np.random.default_rng(0), units, np.array([0, 3])).tolist()
      [1, 2]
    """
    taken = np.union1d(suspected, np.asarray(excluded, int))
    drawn = []
    for part, layer in zip(neurons.convention.slices, neurons.convention.layers, strict=True):
        count = int(((suspected >= part.start) & (suspected < part.stop)).sum())
        others = np.setdiff1d(np.arange(part.start, part.stop), taken)
        if count > len(others):
            raise ValueError(f"{layer.name} has {len(others)} neurons beside the suspects, and {count} are wanted")
        drawn.append(rng.choice(others, count, replace=False))
    return np.concatenate(drawn).astype(int)
