"""PDGD and PDPGD: primal-dual (proximal) gradient descent on the Lagrangian (Matyasko & Chau 2021)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cwjax.answers import Seen
from cwjax.arguments import check_number
from cwjax.base import Attack, Count, Distance, Number, Objective, Problem, wide
from cwjax.loop import Rule, iterated
from cwjax.parts import distances
from cwjax.parts.distances import DISTANCES
from cwjax.parts.losses import negative_margin
from cwjax.parts.norms import NORMS, check_norm, unit
from cwjax.parts.proximal import Adam, adam, shrunk, weighted_units
from cwjax.problems import clip

_DECAY = 0.9  # of Adam's mean


class PrimalDualMemory(NamedTuple):
    adam: Adam
    log_ratio: Float[Array, ""]  # the dual variable: log(lambda_1 / lambda_0)
    weights: Float[Array, "2"]  # moving average of (lambda_0, lambda_1), which sum to 1: of distance and of loss


class Moved(NamedTuple):
    share: Float[Array, "*S"]  # the change after Adam's step, in the box, in widths
    rate: Float[Array, ""]  # the step size


def pdgd(
    *,
    objective: Objective = negative_margin(),
    steps: Count = 500,
    primal_rate: Number = 0.1,
    primal_decay: Number = 0.01,
    dual_rate: Number = 0.1,
    dual_decay: Number = 0.1,
    first_ratio: Number = 0.01,
    least_ratio: Number = 1e-6,
    averaging: Number = 0.9,
) -> Attack:
    """Primal-dual gradient descent, L2: Adam in the change, and ascent in the weight of the loss.

    As in adv-lib 0.2.8 (Matyasko & Chau 2021).

    Seeks the saddle point of the Lagrangian of "least |delta|₂ under m <= 0", m being the loss,

        L = lambda_0·|delta|₂ + lambda_1·softplus(m(x + delta)),

    by projected Adam in delta, and by ascent in lambda = softmax(0, theta): theta rises while the goal is not met and
    falls while it is. A moving average of lambda weighs L. delta is in widths of the box.

    Args:
      objective: its loss m has to be zero on the decision boundary.
      steps: N, how many points to ask about; may be traced.
      primal_rate: Adam's learning rate, > 0, in widths of the box.
      primal_decay: what it is multiplied by in the course of N steps, exponentially; in (0, 1].
      dual_rate: of theta, >= 0.
      dual_decay: what it is multiplied by in the course of N steps, linearly; in [0, 1].
      first_ratio: lambda_0 / lambda_1 at first, in (0, 1].
      least_ratio: lambda_0 / lambda_1 stays between this and its inverse; in (0, 1].
      averaging: how much of the average of lambda stays in a step; in [0, 1).

    Raises:
      ValueError: a number out of its range.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.pdgd(steps=100)))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(1))
      [0.3 0.3]

    References:
      Matyasko & Chau 2021, "PDPGD: primal-dual proximal gradient descent adversarial attack", section 3.2,
        https://arxiv.org/abs/2106.01538
    """
    lagrangian = _Lagrangian(
        steps, primal_rate, primal_decay, dual_rate, dual_decay, first_ratio, least_ratio, averaging
    )

    def move(problem, memory, seen):
        width = problem.span
        slope = memory.weights[1] * jax.nn.sigmoid(seen.loss) * (width * seen.slope)
        gradient = memory.weights[0] * unit(seen.delta) + slope
        moved, memory = lagrangian.descended(problem, memory, seen, gradient, width)
        return seen.x - seen.delta + width * moved.share, lagrangian.risen(memory, seen)

    return iterated(
        Rule(init=lagrangian.init, move=move),
        objective=objective,
        distance=distances.l2(),
        steps=steps,
    )


def pdpgd(
    *,
    norm: str = "linf",
    objective: Objective = negative_margin(),
    distance: Distance | None = None,
    steps: Count = 500,
    primal_rate: Number = 0.1,
    primal_decay: Number = 0.01,
    dual_rate: Number = 0.1,
    dual_decay: Number = 0.1,
    first_ratio: Number = 0.01,
    least_ratio: Number = 1e-6,
    averaging: Number = 0.9,
) -> Attack:
    """Primal-dual proximal gradient descent: `pdgd` for norms without a useful gradient.

    As in adv-lib 0.2.8 (Matyasko & Chau 2021).

    Adam moves delta by the gradient of softplus(m) alone, to r; then the proximal operator of the norm, in Adam's
    metric, shrinks it. delta is in widths of the box, as in `pdgd`; in L0 and L1, in the width of each element.
    With D what Adam divided by, over its largest element d (Melchior et al. 2019, "Proximal Adam"),

        z <- prox(z - D·(z - r), lambda_0 / lambda_1 · rate / d), clipped to the box,           up to five times from r

    The operators: soft thresholding (L1), block soft thresholding (L2), what projection onto the L1 ball leaves
    (L-infinity), and in L0 that of the L2/3 norm, which the paper prefers to hard thresholding.

    Args:
      norm: "l0", "l1", "l2" or "linf".
      objective: its loss m has to be zero on the decision boundary.
      distance: what is reported and by which the closest example is chosen; that of the norm if None. In L0 that is
        pixels. To count elements: `distances.l0(per_pixel=False)`.
      steps: N; see `pdgd` for this and what follows.
      primal_rate: Adam's learning rate.
      primal_decay: its decay.
      dual_rate: of theta.
      dual_decay: its decay.
      first_ratio: lambda_0 / lambda_1 at first.
      least_ratio: the least.
      averaging: of lambda.

    Raises:
      ValueError: an unknown norm, or a number out of its range.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.pdpgd(norm="linf", steps=100)))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(1))
      [0.2 0.2]

    References:
      Matyasko & Chau 2021, "PDPGD: primal-dual proximal gradient descent adversarial attack", section 3.3,
        https://arxiv.org/abs/2106.01538
      Melchior et al. 2019, "Proximal Adam: robust adaptive update scheme for constrained optimization",
        https://arxiv.org/abs/1910.10094
    """
    check_norm(norm, tuple(NORMS))
    lagrangian = _Lagrangian(
        steps, primal_rate, primal_decay, dual_rate, dual_decay, first_ratio, least_ratio, averaging
    )

    def move(problem, memory, seen):
        clean, (width, weight) = seen.x - seen.delta, weighted_units(norm, problem)
        moved, memory = lagrangian.descended(
            problem, memory, seen, jax.nn.sigmoid(seen.loss) * width * seen.slope, width
        )
        share = shrunk(
            norm,
            moved.share,
            divisor=memory.adam.divisor(seen.taken),
            weight=memory.weights[0] / memory.weights[1] * moved.rate * weight,
            clipped=lambda share: lagrangian.clipped(problem, clean, share, width),
        )
        return clean + width * share, lagrangian.risen(memory, seen)

    return iterated(
        Rule(init=lagrangian.init, move=move),
        objective=objective,
        distance=distance or DISTANCES[norm],
        steps=steps,
    )


class _Lagrangian:
    """What both attacks share: Adam in delta, and the ascent in lambda."""

    def __init__(self, steps, primal_rate, primal_decay, dual_rate, dual_decay, first_ratio, least_ratio, averaging):
        check_number("primal_rate", primal_rate, least=0, above=True)
        check_number("primal_decay", primal_decay, least=0, above=True, most=1)
        check_number("dual_rate", dual_rate, least=0)
        check_number("dual_decay", dual_decay, least=0, most=1)
        check_number("first_ratio", first_ratio, least=0, above=True, most=1)
        check_number("least_ratio", least_ratio, least=0, above=True, most=1)
        check_number("averaging", averaging, least=0, most=1)
        self.steps = steps
        self.primal_rate, self.primal_decay = primal_rate, primal_decay
        self.dual_rate, self.dual_decay = dual_rate, dual_decay
        self.first_ratio, self.least_ratio, self.averaging = first_ratio, least_ratio, averaging

    def init(self, key: Array, problem: Problem) -> tuple[Float[Array, "*S"], PrimalDualMemory]:
        del key
        start = problem.start.astype(wide(problem.x))
        log_ratio = -jnp.log(jnp.asarray(self.first_ratio, start.dtype))
        return start, PrimalDualMemory(adam=adam(start), log_ratio=log_ratio, weights=_weights(log_ratio))

    def clipped(
        self, problem: Problem, clean: Float[Array, "*S"], share: Float[Array, "*S"], width: Float[Array, "..."]
    ) -> Float[Array, "*S"]:
        """The change, in such widths, as far as the box allows it."""
        return (clip(problem, clean + width * share) - clean) / width

    def descended(
        self,
        problem: Problem,
        memory: PrimalDualMemory,
        seen: Seen,
        gradient: Float[Array, "*S"],
        width: Float[Array, "..."],
    ) -> tuple[Moved, PrimalDualMemory]:
        """A step of Adam, down a gradient in such widths."""
        adam = memory.adam.update(gradient, _DECAY)
        rate = self.primal_rate * self.primal_decay ** (seen.taken / self.steps)
        share = seen.delta / width - rate * adam.step(seen.taken, _DECAY)
        return Moved(self.clipped(problem, seen.x - seen.delta, share, width), rate), memory._replace(adam=adam)

    def risen(self, memory: PrimalDualMemory, seen: Seen) -> PrimalDualMemory:
        """A step in the dual variable."""
        left = (self.steps - 1 - seen.taken) / jnp.maximum(jnp.asarray(self.steps) - 1, 1)
        rate = self.dual_rate * (left * (1 - self.dual_decay) + self.dual_decay)
        most = -jnp.log(jnp.asarray(self.least_ratio, memory.log_ratio.dtype))
        log_ratio = jnp.clip(memory.log_ratio + jnp.where(seen.met, -rate, rate), -most, most)
        weights = self.averaging * memory.weights + (1 - self.averaging) * _weights(log_ratio)
        return memory._replace(log_ratio=log_ratio.astype(most.dtype), weights=weights.astype(most.dtype))


def _weights(log_ratio: Float[Array, ""]) -> Float[Array, "2"]:
    return jax.nn.softmax(jnp.stack([jnp.zeros_like(log_ratio), log_ratio]))
