"""Projected gradient descent within a given radius: PGD (Madry et al. 2018) and BIM (Kurakin et al. 2017)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cwjax.arguments import check_count, check_number
from cwjax.base import Attack, Count, Number, Objective, Problem, wide
from cwjax.loop import Rule, from_clean, iterated
from cwjax.parts.losses import label_cross_entropy
from cwjax.parts.norms import Norm, ball


def pgd(
    *,
    epsilon: Number,
    norm: str = "linf",
    relative_step: Number = 0.01 / 0.3,
    steps: Count = 40,
    random_start: bool = True,
    objective: Objective = label_cross_entropy(),
) -> Attack:
    """PGD: steps up the loss within a ball of radius epsilon, from a random start.

    Projected gradient descent (Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks",
    section 2.1): from a random point of the ball of radius epsilon around x,

        x_{t+1} = Π(x_t - alpha·u(∇loss(x_t))),          u the sign, or the slope over its norm in L2 and in L1,

    Π being the projection onto the ball, and then onto the box. As public code does, the two projections follow one
    another; in L2 and L1 that is not quite the nearest point in both.

    The closest example on the way is kept, so the distance may be less than epsilon. For the least epsilon that
    succeeds, use `minimised`.

    Args:
      epsilon: radius of the ball, > 0, in the unit of x, as distances are; times `problem.scale`. Steps are
        shares of it.
      norm: "l1", "l2" or "linf".
      relative_step: alpha / epsilon, > 0. The paper's MNIST attack takes alpha = 0.01 at epsilon = 0.3.
      steps: points to ask about, the first of them the start, >= 1.
      random_start: whether the first point is uniform in the ball around `problem.start`, or that start itself. Before
        a random one the clean input is asked about, one point more: one that meets the goal already is at distance 0.
      objective: what to lower. The paper's is the cross-entropy of the label.

    Example:
      >>> attack = cw.attacks.pgd(epsilon=0.2, relative_step=0.25, steps=10)
      >>> result = jax.jit(cw.batched(attack))(model, keys, x, goal)
      >>> result.success.tolist(), bool((result.distance <= 0.2001).all())
      ([True, True], True)

    References:
      Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks", section 2.1,
        https://arxiv.org/abs/1706.06083
    """
    check_number("epsilon", epsilon, least=0, above=True)
    check_number("relative_step", relative_step, least=0, above=True)
    check_count("steps", steps)
    space = ball(norm)

    def init(key, problem):
        start = problem.start.astype(wide(problem.x))
        if random_start:
            start = start + epsilon * problem.scale * space.draw(key, start)
        return within(problem, start, space, epsilon), ()

    def move(problem, memory, seen):
        alpha = relative_step * epsilon * problem.scale
        return within(problem, seen.x - alpha * space.unit(seen.slope), space, epsilon), memory

    rule = Rule(init, move)
    return iterated(
        from_clean(rule) if random_start else rule,
        objective=objective,
        distance=space.distance,
        steps=steps + random_start,
    )


def within(problem: Problem, x: Float[Array, "*S"], space: Norm, epsilon: Number) -> Float[Array, "*S"]:
    """The point nearest to x in the ball around the clean input, whose radius is epsilon of the problem's units."""
    clean = problem.x.astype(wide(problem.x))
    return clean + space.onto(x - clean, jnp.asarray(epsilon * problem.scale, clean.dtype))


def bim(
    *,
    epsilon: Number,
    norm: str = "linf",
    relative_step: Number = 0.2,
    steps: Count = 11,
    objective: Objective = label_cross_entropy(),
) -> Attack:
    """The basic iterative method, also called iterative gradient sign: `pgd` from the clean input.

    Args:
      epsilon: radius of the ball, > 0, in the unit of x, as distances are; times `problem.scale`. Steps are
        shares of it.
      norm: "l1", "l2" or "linf"; the paper's is the last.
      relative_step: alpha / epsilon, > 0. The paper takes alpha = 1 of 255 levels, for epsilon from 2 to 32 of them;
        a fifth is foolbox's choice.
      steps: points to ask about, one more than there are moves, >= 1.
      objective: what to lower.

    Example:
      >>> attack = cw.attacks.bim(epsilon=0.2)
      >>> print(np.asarray(jax.jit(cw.batched(attack))(model, keys, x, goal).distance).round(2))  # in steps of 0.04
      [0.12 0.16]

    References:
      Kurakin et al. 2017, "Adversarial examples in the physical world", section 2.2, https://arxiv.org/abs/1607.02533
    """
    return pgd(
        epsilon=epsilon,
        norm=norm,
        relative_step=relative_step,
        steps=steps,
        random_start=False,
        objective=objective,
    )
