"""EAD, the elastic-net attack (Chen et al. 2018): the L2 attack with an L1 penalty, by shrinkage."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cwjax.arguments import check_number
from cwjax.base import Abort, Attack, Count, Distance, Evaluation, Number, Objective, Search, wide
from cwjax.loop import Rule, iterated
from cwjax.parts import distances
from cwjax.parts.aborts import plateau
from cwjax.parts.objectives import logit_margin
from cwjax.problems import clip
from cwjax.search.rounds import searched
from cwjax.search.weight import binary_search


def elastic_net(beta: Number = 1e-3) -> Distance:
    """`|delta|₂² + beta·|delta|₁`: what EAD penalises, and what it measures under the decision rule "en"."""

    def measure(delta):
        return jnp.sum(delta**2) + beta * jnp.sum(jnp.abs(delta))

    return Distance(
        penalty=lambda delta, tau: jnp.sum(delta**2) + beta * distances.l1().penalty(delta, tau),
        measure=measure,
        norm="elastic net",
    )


class Shrinking(NamedTuple):
    x: Float[Array, "*S"]  # x_k, before momentum
    abort: Any
    stop: Bool[Array, ""]


def ead(
    *,
    beta: Number = 1e-3,
    decision: str = "en",
    objective: Objective = logit_margin(),
    search: Search = binary_search(),
    learning_rate: Number = 1e-2,
    steps: Count = 1000,
    accelerated: bool = True,
    abort: Abort = plateau(),
) -> Attack:
    """EAD, the elastic-net attack: minimise `c·f(x') + beta·|x' - x|₁ + |x' - x|₂²` by FISTA.

    Within the box, with the smallest c that works:

        x_{k+1} = S(y_k - alpha_k·∇g(y_k))              g(y) = c·f(y) + |y - x|₂²
        y_{k+1} = x_{k+1} + k / (k + 3)·(x_{k+1} - x_k)

        S(z)_i = min(z_i - beta, high) if z_i - x_i > beta;  max(z_i + beta, low) if z_i - x_i < -beta;  else x_i

    with alpha_k = alpha_0·sqrt(1 - k / steps). As printed and as released, the threshold of S is beta, not alpha·beta.
    beta is a length in the unit of x; others are in widths of the box. The released code's box is one wide.

    The paper picks among the x_k, about which the model has to be asked besides: two forward passes and a backward pass
    an iteration. Here the model is asked about y_k alone, within the box, and the closest of those is kept. An element
    that is clean in x_k and in x_{k-1} is so in y_k.

    Args:
      beta: weight of the L1 norm, >= 0, in the unit of x, as distances are.
      decision: what is kept and reported: "en", the least `|delta|₂² + beta·|delta|₁`, which grows with the square of
        the box's width; "l1", the least `|delta|₁`.
      objective: f.
      search: over c.
      learning_rate: alpha_0 > 0.
      steps: points to ask about in a round, at the most, >= 1.
      accelerated: FISTA, the paper's choice; or else ISTA, in which y_k = x_k.
      abort: when a round ends sooner.

    Example:
      >>> attack = cw.attacks.ead(beta=0.01, steps=50, search=cw.search.binary_search(3, initial_c=1.0))
      >>> jax.jit(cw.batched(attack))(model, keys, x, goal).success.tolist()
      [True, True]

    References:
      Chen et al. 2018, "EAD: elastic-net attacks to deep neural networks via adversarial examples", algorithm 1,
        https://arxiv.org/abs/1709.04114
    """
    check_number("beta", beta, least=0)
    check_number("learning_rate", learning_rate, least=0, above=True)
    if decision not in ("en", "l1"):
        raise ValueError(f"decision must be en or l1, got {decision!r}")

    def init(key, problem):
        start = problem.start.astype(wide(problem.x))
        return start, Shrinking(x=start, abort=abort.init(), stop=jnp.array(False))

    def move(problem, memory, seen):
        k, clean = seen.taken, problem.x.astype(seen.x.dtype)
        rate = learning_rate * jnp.sqrt(jnp.maximum(1 - k / steps, 0)).astype(clean.dtype)
        width = problem.span
        gradient = problem.c * width * seen.slope + 2 * seen.delta / width
        step = seen.x - rate * width * gradient - clean
        x = clip(problem, clean + jnp.sign(step) * jnp.maximum(jnp.abs(step) - beta, 0))
        momentum = (k / (k + 3)).astype(clean.dtype) if accelerated else 0.0
        loss = problem.c * seen.loss + elastic_net(beta / width).measure(seen.delta / width)
        evaluation = Evaluation(loss=loss, distance=seen.distance, met=seen.met, gradient=gradient)
        state, stop = abort.update(problem, memory.abort, evaluation, step=k, steps=steps)
        return x + momentum * (x - memory.x), Shrinking(x=x, abort=state, stop=stop)

    descent = iterated(
        Rule(init, move, over=lambda problem, memory, seen: memory.stop),
        objective=objective,
        distance=elastic_net(beta) if decision == "en" else distances.l1(),
        steps=steps,
    )
    return searched(descent, search)
