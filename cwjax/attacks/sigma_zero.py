"""sigma-zero: gradient descent on a smooth count of the elements that change (Cinà et al. 2024)."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from cwjax.arguments import check_number
from cwjax.base import Attack, Count, Distance, Number, Objective, wide
from cwjax.loop import Rule, iterated
from cwjax.parts import distances
from cwjax.parts.objectives import logit_margin
from cwjax.parts.schedules import annealed
from cwjax.problems import clip


def sigma_zero(
    *,
    objective: Objective = logit_margin(),
    distance: Distance = distances.l0(),
    steps: Count = 1000,
    first_step: Number = 1.0,
    sigma: Number = 1e-3,
    threshold: Number = 0.3,
    threshold_rate: Number = 0.01,
) -> Attack:
    """Sigma-zero, L0: descend on a smooth count of the changed elements, and undo small changes.

    Cinà et al. (2024, "sigma-zero: gradient-based optimization of L0-norm adversarial examples",
    algorithm 1). Towards a target as well as away from a label.

    Descends, by Adam on gradients that are divided by their largest element, on

        f(x + delta) + 1/d · Σ_i delta_i² / (delta_i² + sigma)                               (equations 5 to 7)

    for inputs with d elements, then clips to the box and undoes every change smaller than tau. With eta the step, which
    falls to a tenth along a cosine, tau grows by 0.01·eta where the goal is met and shrinks by as much where it is not.
    Lengths (delta, eta, sigma, tau) are in widths of the box, element by element; the paper's is [0, 1].

    As in the authors' code and adv-lib, the second step is as long as the first.

    Args:
      objective: f; the paper's is f6, zero where the goal is met. adv-lib's is away from a label only.
      distance: what is reported and by which the closest example is chosen. `distances.l0()` counts pixels;
        `distances.l0(per_pixel=False)` counts elements, as the paper does.
      steps: how many points to ask about; may be traced.
      first_step: eta_0, > 0: about how far an element goes in the first step, in widths of the box.
      sigma: > 0, in squares of widths; the smaller, the closer to a count, and the steeper at 0.
      threshold: tau_0, in widths, in [0, 1].
      threshold_rate: t: how much of eta tau changes by, >= 0.

    Raises:
      ValueError: a number out of its range.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.sigma_zero(steps=50)))(model, keys, x, goal)
      >>> print(result.distance)  # one element would do
      [2. 1.]

    References:
      Cinà et al. 2024, "σ-zero: gradient-based optimization of L0-norm adversarial examples", algorithm 1,
        https://arxiv.org/abs/2402.01879
    """
    check_number("first_step", first_step, least=0, above=True)
    check_number("sigma", sigma, least=0, above=True)
    check_number("threshold", threshold, least=0, most=1)
    check_number("threshold_rate", threshold_rate, least=0)
    rule = thresholded_descent(
        steps,
        first_step=first_step,
        sigma=sigma,
        threshold=threshold,
        threshold_rate=threshold_rate,
    )
    return iterated(rule, objective=objective, distance=distance, steps=steps)


class ThresholdedMemory(NamedTuple):
    threshold: Float[Array, ""]  # tau: changes smaller than it are undone
    adam: optax.OptState


def thresholded_descent(
    steps: Number,
    *,
    first_step: Number = 1.0,
    sigma: Number = 1e-3,
    threshold: Number = 0.3,
    threshold_rate: Number = 0.01,
) -> Rule:
    """What `sigma_zero` does; it says what these are. The loss is one that is 0 as soon as the goal is met.

    Lengths are in widths of the box, element by element. They do not know of the loss's own scale: how the loss and the
    count weigh against each other depends on that of the logits, as in the paper.
    """
    adam = optax.scale_by_adam()

    def init(key, problem):
        del key
        start = problem.start.astype(wide(problem.x))
        return start, ThresholdedMemory(threshold=jnp.asarray(threshold, start.dtype), adam=adam.init(start))

    def move(problem, memory, seen):
        unit = problem.widths
        clean, share = seen.x - seen.delta, seen.delta / unit
        counted = 2 * share * sigma / (share**2 + sigma) ** 2 / share.size
        gradient = unit * seen.slope + counted
        gradient = gradient / jnp.maximum(jnp.max(jnp.abs(gradient)), 1e-12)
        direction, state = adam.update(gradient, memory.adam)
        eta = annealed(first_step, first_step / 10, jnp.maximum(seen.taken - 1, 0), steps)
        delta = clip(problem, seen.x - unit * eta * jnp.asarray(direction)) - clean

        change = threshold_rate * annealed(first_step, first_step / 10, seen.taken, steps)
        tau = jnp.clip(memory.threshold + jnp.where(seen.met, change, -change), 0, 1)
        x = clean + jnp.where(jnp.abs(delta) < unit * tau, 0, delta)
        return x, ThresholdedMemory(threshold=tau.astype(memory.threshold.dtype), adam=state)

    return Rule(init=init, move=move)
