"""DeepFool (Moosavi-Dezfooli et al. 2016): onto the boundary of the model made affine, again and again."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cwjax.answers import Seen
from cwjax.arguments import check_count, check_number
from cwjax.base import Attack, Count, Number, Objective, Problem
from cwjax.loop import Rule, iterated
from cwjax.parts.norms import Norm, ball, check_norm
from cwjax.parts.objectives import comparable, logit_margin, rounding_margin

_NUDGE = 1e-4  # of the original code, in widths of the box: each step is that much longer, against rounding


def class_differences(confidence: Number = 0.0, *, classes: int = 10) -> Objective:
    """How far each of the other classes is behind, in logits, as a vector of losses: `kappa + Z_y - Z_k` away from y
    and `kappa + Z_k - Z_t` towards t, for the classes k that stand first among the others.

    A goal to leave y is met where any of them is at most 0; a goal to reach t, where all are.

    Args:
      confidence: kappa >= 0, raised as in `logit_margin`; may be traced.
      classes: how many classes to look at, the label's among them, or all if there are fewer; >= 2. A step costs one
        backward pass less than that. Ten is the choice of the original code.
    """
    check_count("classes", classes, least=2)

    def loss(logits, goal):
        logits = comparable(logits)
        own = jnp.arange(logits.shape[-1]) == goal.label
        mine = jnp.where(own.any(), jnp.sum(jnp.where(own, logits, 0)), jnp.nan)
        others = jax.lax.top_k(jnp.where(own, -jnp.inf, logits), min(classes, logits.shape[-1]) - 1)[0]
        return confidence + rounding_margin(logits) - goal.sign.astype(logits.dtype) * (mine - others)

    return logit_margin(confidence)._replace(loss=loss)


def to_boundary(
    problem: Problem, seen: Seen, objective: Objective, space: Norm, overshoot: Number
) -> Float[Array, "*S"]:
    """The step of DeepFool from a point: onto the boundary that is nearest if the model is affine, and a little on."""
    behind, slopes = losses_and_slopes(seen)
    steepness = jax.vmap(space.dual)(slopes)
    reach = jnp.abs(behind) / jnp.where(steepness > 0, steepness, 1)
    near = jnp.argmin(jnp.where(steepness > 0, reach, jnp.inf))
    far = jnp.argmax(jnp.where((steepness > 0) & (behind > 0), reach, -1))
    chosen = jnp.where(objective.reaches(problem.goal), far, near)
    return -(1 + overshoot) * (reach[chosen] + _NUDGE * problem.span) * space.unit(slopes[chosen])


def losses_and_slopes(seen: Seen) -> tuple[Float[Array, "L"], Float[Array, "L *S"]]:
    """Of all losses of a point, also where there is only one."""
    losses = jnp.atleast_1d(seen.loss)
    return losses, seen.slope.reshape(losses.shape + seen.x.shape)


def deepfool(
    *,
    norm: str = "l2",
    overshoot: Number = 0.02,
    steps: Count = 50,
    objective: Objective = class_differences(),
) -> Attack:
    """DeepFool: step to the nearest boundary of the linearised model, again and again.

    Moosavi-Dezfooli et al. (2016, "DeepFool: a simple and accurate method to fool deep neural networks",
    algorithm 2): with f_k how far class k is behind and w_k its slope,

        l = argmin_k |f_k| / |w_k|₂          r = -|f_l| / |w_l|₂² · w_l          x_{i+1} = x_i + (1 + overshoot)·r

    until the class changes; with f_k >= 0 falling along -w_k, that is the algorithm's step. In L-infinity, after the
    paper's section 3.3, |w_k|₁ stands for |w_k|₂ and r = -|f_l| / |w_l|₁ · sign(w_l).

    The paper applies the overshoot once, at the end; as in the original code and in public ones each step has it, so
    that the points asked about are those that may be returned. As there, each length |f_l| / |w_l| is raised by 1e-4,
    here in widths of the box; and as in adv-lib and foolbox each point is clipped to the box.

    Towards a target, where the paper says nothing, all boundaries have to be crossed: l is then the one that is
    farthest.

    Args:
      norm: "l2" or "linf".
      overshoot: >= 0.
      steps: points to ask about, at the most, >= 1. It ends at the first that meets the goal.
      objective: losses that are at most 0 where the goal is met: a vector as `class_differences` gives it, or one alone
        such as `logit_margin`, the difference to the strongest other class, which costs one backward pass a step.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.deepfool()))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(3), result.forwards)  # a linear model takes one step
      [0.144 0.216] [2 2]

    References:
      Moosavi-Dezfooli et al. 2016, "DeepFool: a simple and accurate method to fool deep neural networks", algorithm 2,
        https://arxiv.org/abs/1511.04599
    """
    check_number("overshoot", overshoot, least=0)
    check_norm(norm, ("l2", "linf"))
    space = ball(norm)

    def move(problem, memory, seen):
        return seen.x + to_boundary(problem, seen, objective, space, overshoot), memory

    return iterated(
        Rule(lambda key, problem: (problem.start, ()), move, over=lambda problem, memory, seen: seen.met),
        objective=objective,
        distance=space.distance,
        steps=steps,
    )
