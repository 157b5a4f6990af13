"""The Jacobian-based saliency map attack (Papernot et al. 2016), on the softmax's outputs F and on the logits Z."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_count, check_number
from cwjax.base import Attack, Count, Distance, Number, Objective
from cwjax.loop import Rule, iterated
from cwjax.parts import distances
from cwjax.parts.objectives import comparable, logit_margin
from cwjax.problems import clip

_ROOM = 0.01  # of theta: an element that can move by less is at its bound, as in cleverhans, which Carlini & Wagner ran


class Pair(NamedTuple):
    """Two elements to change."""

    first: Int[Array, ""]  # int32: its place in the flattened input
    second: Int[Array, ""]
    exists: Bool[Array, ""]  # whether any pair will do


def label_probability(confidence: Number = 0.0) -> Objective:
    """The probability of the label: towards it `-F_t`, away from it `F_y`. The slopes of the other classes' sum are
    minus that, for all sum to one.

    Args:
      confidence: of `met`, in logits.
    """

    def loss(logits, goal):
        own, _ = _own_and_others(jax.nn.softmax(comparable(logits)), goal)
        return -goal.sign.astype(own.dtype) * own

    return logit_margin(confidence)._replace(loss=loss)


def label_and_other_logits(confidence: Number = 0.0) -> Objective:
    """The logit of the label and the sum of all others, as two losses: towards t `(-Z_t, Σ_{j≠t} Z_j)`, away from y
    `(Z_y, -Σ_{j≠y} Z_j)`.

    Args:
      confidence: of `met`, in logits.
    """

    def loss(logits, goal):
        own, others = _own_and_others(comparable(logits), goal)
        return goal.sign.astype(own.dtype) * jnp.stack([-own, others])

    return logit_margin(confidence)._replace(loss=loss)


def jsma_z(
    *,
    theta: Number = 1.0,
    gamma: Number = 1.0,
    steps: Count = 2000,
    candidates: int = 4096,
    objective: Objective = label_and_other_logits(),
    distance: Distance = distances.l0(),
) -> Attack:
    """JSMA-Z: change the pair of elements that the slopes of the logits say is worth most.

    The saliency map of the logits (Papernot et al. 2016, "The limitations of deep learning in adversarial
    settings", algorithms 2 and 3; the equations are those of Carlini & Wagner, section III-C). A step changes the pair
    of elements

        alpha_pq = Σ_{i∈{p,q}} ∂Z_t/∂x_i          beta_pq = Σ_{i∈{p,q}} Σ_{j≠t} ∂Z_j/∂x_i
        (p*, q*) = argmax_{(p,q)} -alpha_pq·beta_pq·(alpha_pq > 0)·(beta_pq < 0)

    by theta each, in widths of the box and within it; it ends when the goal is met, when no pair has these signs, or
    when the next would exceed gamma. Elements at the bound that theta drives them to are left out. Two backward passes
    a step: of Z_t, and of the sum of the others.

    Away from a label y, all four signs are turned (the non-targeted JSMA of Wiyatno & Xu 2018, "Maximal Jacobian-based
    saliency map attack"): a step lowers Z_y and raises the sum of the others.

    The pairs are searched one and all, n²/2 of them, up to n = 4096 elements. Of larger inputs only the `candidates`
    elements that, each alone, have most of both slopes are paired; the paper gives such inputs up ("2^36 work on each
    step", section VIII-B).

    Args:
      theta: by how much an element changes at a time, in widths of the box, not 0; negative to lower elements. An
        element goes to its bound at once from 1 on.
      gamma: the largest share of the elements that may differ from the clean input, in (0, 1]. The elements of an
        image [H, W, C] are H·W·C, for each channel is taken by itself.
      steps: points to ask about, at the most, >= 1.
      candidates: elements to pair, >= 2.
      objective: the two losses, of alpha and of beta.
      distance: what is reported.

    Example:
      >>> model = cw.bind(lambda weights, x: x @ weights, 3 * jnp.eye(3) - 1)
      >>> result = jax.jit(cw.batched(cw.attacks.jsma_z(theta=0.3)))(model, keys[1:], x[1:], cw.targeted([2]))
      >>> print(result.success, result.distance)  # a pair
      [ True] [2.]

    References:
      Papernot et al. 2016, "The limitations of deep learning in adversarial settings", algorithms 2 and 3,
        https://arxiv.org/abs/1511.07528
      Wiyatno & Xu 2018, "Maximal Jacobian-based saliency map attack", https://arxiv.org/abs/1808.07945
    """
    check_count("candidates", candidates, least=2)

    def choose(slope, movable):
        return _best_pair(-slope[0].reshape(-1), slope[1].reshape(-1), movable.reshape(-1), candidates)

    return _saliency(
        choose,
        theta=theta,
        gamma=gamma,
        steps=steps,
        objective=objective,
        distance=distance,
    )


def jsma_f(
    *,
    theta: Number = 1.0,
    gamma: Number = 1.0,
    steps: Count = 2000,
    elements: int = 2,
    objective: Objective = label_probability(),
    distance: Distance = distances.l0(),
) -> Attack:
    """JSMA-F, the saliency map of the softmax's outputs F: as `jsma_z`, with F for Z.

    The outputs sum to one, so beta is -alpha, and the pair with the greatest alpha² is that of the two greatest
    ∂F_t/∂x_i: one backward pass a step and no search over pairs, whatever the size of the input. Where the softmax
    saturates, the slopes may vanish in float32, and the attack fails there.

    With one element at a time it is the attack of Grosse et al. 2016 on features of malware, "Adversarial perturbations
    against deep neural networks for malware classification": the feature that is raised is the one of the largest
    ∂F_t/∂x_i. Their features may only be added: give the runner `low=x`, and their 20 changes at the most as gamma.

    Args:
      theta: by how much an element changes at a time, in widths of the box, not 0; negative to lower elements. An
        element goes to its bound at once from 1 on.
      gamma: the largest share of the elements that may differ from the clean input, in (0, 1].
      steps: points to ask about, at the most, >= 1.
      elements: that change in a step, 1 or 2.
      objective: one loss, of alpha.
      distance: what is reported.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.jsma_f(theta=0.3)))(model, keys, x, cw.targeted([1, 2]))
      >>> print(result.success, result.distance)
      [ True  True] [2. 2.]

    References:
      Papernot et al. 2016, "The limitations of deep learning in adversarial settings", https://arxiv.org/abs/1511.07528
      Grosse et al. 2016, "Adversarial perturbations against deep neural networks for malware classification",
        https://arxiv.org/abs/1606.04435
    """
    check_count("elements", elements, most=2)

    def choose(slope, movable):
        rise = jnp.where(movable, -slope, -jnp.inf).reshape(-1)
        first = second = jnp.argmax(rise)  # one pass; jax.lax.top_k sorts, or nearly
        total = rise[first]
        if elements == 2:
            others = jnp.where(jnp.arange(rise.size) == first, -jnp.inf, rise)
            second = jnp.argmax(others)
            total += others[second]
        return Pair(first, second, exists=total > 0)

    return _saliency(
        choose,
        theta=theta,
        gamma=gamma,
        steps=steps,
        objective=objective,
        distance=distance,
    )


def _saliency(choose: Callable[..., Pair], *, theta, gamma, steps, objective, distance) -> Attack:
    """The loop of both: `choose(slopes of the losses, by width and the sign of theta; which elements can move)`."""
    check_number("the absolute value of theta", abs(theta), least=0, above=True)
    check_number("gamma", gamma, least=0, above=True, most=1)

    def move(problem, memory, seen):
        further = clip(problem, seen.x + theta * problem.widths)
        movable = problem.mask & (jnp.abs(further - seen.x) > _ROOM * jnp.minimum(abs(theta), 1) * problem.widths)
        widths = jnp.broadcast_to(problem.widths, seen.slope.shape)
        pair = choose(jnp.sign(theta) * widths * seen.slope, movable)
        places = jnp.arange(seen.x.size).reshape(seen.x.shape)
        x = jnp.where((places == pair.first) | (places == pair.second), further, seen.x)
        changed = jnp.sum(x != problem.x.astype(x.dtype))
        possible = pair.exists & (changed <= gamma * seen.x.size)
        return jnp.where(possible, x, seen.x), ~possible

    return iterated(
        Rule(
            init=lambda key, problem: (problem.start, jnp.array(False)),
            move=move,
            over=lambda problem, stuck, seen: stuck | seen.met,
        ),
        objective=objective,
        distance=distance,
        steps=steps,
    )


def _best_pair(a: Float[Array, "n"], b: Float[Array, "n"], movable: Bool[Array, "n"], candidates: int) -> Pair:
    """The pair of movable elements with the greatest -(a_p + a_q)·(b_p + b_q), where the first sum is positive and the
    second negative. Of more elements than `candidates`, those are looked at that have most of a and of -b, each taken
    as a share of its largest value.
    """
    kept = jnp.arange(a.size)
    if a.size > candidates:
        share = a / jnp.maximum(jnp.max(jnp.abs(a)), 1e-30) - b / jnp.maximum(jnp.max(jnp.abs(b)), 1e-30)
        kept = jax.lax.top_k(jnp.where(movable, share, -jnp.inf), candidates)[1]
        a, b, movable = a[kept], b[kept], movable[kept]

    def saliency(p):
        """Of p with each of the others."""
        alpha, beta = a[p] + a, b[p] + b
        valid = (alpha > 0) & (beta < 0) & movable[p] & movable & (jnp.arange(a.size) != p)
        return jnp.where(valid, -alpha * beta, -1)

    # The greatest of each row first: so no n × n array is ever stored.
    greatest = jax.vmap(lambda p: jnp.max(saliency(p)))(jnp.arange(a.size))
    p = jnp.argmax(greatest)
    q = jnp.argmax(saliency(p))
    return Pair(kept[p], kept[q], exists=greatest[p] >= 0)


def _own_and_others(values, goal):
    """The value of the goal's label, NaN if it is no class, and the sum of the others."""
    own = jnp.arange(values.shape[-1]) == goal.label
    mine = jnp.where(own.any(), jnp.sum(jnp.where(own, values, 0)), jnp.nan)
    return mine, jnp.sum(jnp.where(own, 0, values))
