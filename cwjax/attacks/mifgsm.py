"""The iterative fast gradient sign method with momentum (Dong et al. 2018)."""

import jax.numpy as jnp

from cwjax.arguments import check_number
from cwjax.attacks.pgd import within
from cwjax.base import Attack, Count, Number, Objective, wide
from cwjax.loop import Rule, iterated
from cwjax.parts.losses import label_cross_entropy
from cwjax.parts.norms import NORMS, ball


def mifgsm(
    *,
    epsilon: Number,
    norm: str = "linf",
    relative_step: Number | None = None,
    decay: Number = 1.0,
    steps: Count = 11,
    objective: Objective = label_cross_entropy(),
) -> Attack:
    """MI-FGSM (Dong et al. 2018, "Boosting adversarial attacks with momentum", algorithm 1):

        g_{t+1} = mu·g_t + ∇loss(x_t) / |∇loss(x_t)|₁                       (6)
        x_{t+1} = Π(x_t - alpha·sign(g_{t+1}))                              (7)

    and in L2 `g / |g|₂` in place of the sign, (10). Π projects onto the ball of radius epsilon around x, and then onto
    the box; the paper's alpha = epsilon / T leaves the ball never, another may.

    Args:
      epsilon: radius of the ball, > 0, in the unit of x, as distances are; times `problem.scale`. Steps are
        shares of it.
      norm: "l1", "l2" or "linf"; the paper's is the last.
      relative_step: alpha / epsilon, > 0; by default the paper's 1 / T, T being the number of moves.
      decay: mu >= 0, the paper's is 1; 0 gives `bim`.
      steps: points to ask about, T + 1 of them, >= 1. The paper's T is 10.
      objective: what to lower. The paper's is the cross-entropy of the label.

    Example:
      >>> attack = cw.attacks.mifgsm(epsilon=0.2)
      >>> print(np.asarray(jax.jit(cw.batched(attack))(model, keys, x, goal).distance).round(2))  # in steps of 0.02
      [0.12 0.16]

    References:
      Dong et al. 2018, "Boosting adversarial attacks with momentum", algorithm 1, https://arxiv.org/abs/1710.06081
    """
    check_number("epsilon", epsilon, least=0, above=True)
    check_number("decay", decay, least=0)
    if relative_step is not None:
        check_number("relative_step", relative_step, least=0, above=True)
    space = ball(norm)

    def init(key, problem):
        start = problem.start.astype(wide(problem.x))
        return within(problem, start, space, epsilon), jnp.zeros_like(start)

    def move(problem, gathered, seen):
        gathered = decay * gathered + NORMS["l1"].unit(seen.slope)
        share = 1 / jnp.maximum(steps - 1, 1) if relative_step is None else relative_step
        alpha = share * epsilon * problem.scale
        return within(problem, seen.x - alpha * space.unit(gathered), space, epsilon), gathered

    return iterated(Rule(init, move), objective=objective, distance=space.distance, steps=steps)
