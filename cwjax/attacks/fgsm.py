"""The fast gradient sign method (Goodfellow et al. 2015)."""

from cwjax.attacks.pgd import pgd
from cwjax.base import Attack, Number, Objective
from cwjax.parts.losses import label_cross_entropy


def fgsm(
    *,
    epsilon: Number,
    norm: str = "linf",
    objective: Objective = label_cross_entropy(),
) -> Attack:
    """One step of length epsilon (Goodfellow et al. 2015, "Explaining and harnessing adversarial examples", section 4):

        x' = x - epsilon·sign(∇loss(x))

    and, in the other norms, with the slope over its norm in place of its sign. It asks about two points: the start, for
    its slope, and x', for whether it succeeds.

    Carlini & Wagner look for the least epsilon that succeeds (section VIII-A): `minimised(fgsm(epsilon=…))`.

    Args:
      epsilon: length of the step, > 0, in the unit of x, as distances are; times `problem.scale`.
      norm: "l1", "l2" or "linf"; the paper's is the last.
      objective: what to lower. The paper's is the cross-entropy of the label.

    Example:
      >>> result = cw.batched(cw.attacks.fgsm(epsilon=0.3))(model, keys, x, goal)
      >>> print(np.asarray(result.x - x).round(1))  # the label's logit falls, the others rise
      [[-0.3  0.3  0.3]
       [ 0.3 -0.3  0.3]]

    References:
      Goodfellow et al. 2015, "Explaining and harnessing adversarial examples", section 4,
        https://arxiv.org/abs/1412.6572
    """
    return pgd(
        epsilon=epsilon,
        norm=norm,
        relative_step=1.0,
        steps=2,
        random_start=False,
        objective=objective,
    )
