"""Sparse-PGD (Zhong et al. 2024): PGD on a given number of pixels, which are chosen by gradients too."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from cwjax.arguments import check_count, check_number, check_part
from cwjax.base import Attack, Count, Distance, Number, Objective, wide
from cwjax.loop import Rule, from_clean, iterated
from cwjax.parts import distances
from cwjax.parts.losses import label_cross_entropy
from cwjax.parts.norms import unit
from cwjax.problems import clip


class SparsePGDMemory(NamedTuple):
    key: PRNGKeyArray  # []: of the next draw of scores
    delta: Float[Array, "*S"]  # p: the change of each element, if its pixel is chosen
    scores: Float[Array, "*P"]  # of the pixels: [*S] with one channel; those that stand highest are chosen
    before: Bool[Array, "*P"]  # the pixels that were chosen one point ago
    same: Int[Array, ""]  # int32: points since these last changed


def sparse_pgd(
    *,
    epsilon: Number,
    relative_step: Number = 0.25,
    score_step: Number = 0.25,
    patience: Count = 3,
    projected: bool = False,
    steps: Count = 300,
    objective: Objective = label_cross_entropy(),
    distance: Distance = distances.l0(),
) -> Attack:
    """Sparse-PGD, L0: steps down the loss in the sizes of changes and in the choice of the k pixels that change.

    Algorithm 1 of Zhong et al. 2024, "Towards efficient training and evaluation of robust models against l0 bounded
    adversarial perturbations". A change is the product of its size p, of every element, and of a mask of k pixels,
    those with the highest scores m. With g the slope of the loss at `x + p·mask(m)`, s the logistic function and h the
    number of pixels, all of them follow the slope:

        p <- p - alpha·sign(g)          m <- m - beta·√h·u(Σ_channels g·p · s'(m)),          p within the box

    where u is the vector at length 1. So p changes at all pixels, the chosen or not ("unprojected gradient"); or, with
    `projected`, only at the chosen. Where the mask has not changed for `patience` points, scores are drawn anew. The
    first scores are normal variables, and the first p is uniform. An example ends at its first success.

    The authors' attack runs both kinds, and later versions of their code take the margin of logits for the loss near
    the boundary; pass `losses.negative_margin()` for that.

    For the least number of pixels that succeeds, use `minimised`.

    Args:
      epsilon: k, how many pixels may change, > 0; times `problem.scale`, rounded down, and at least one.
      relative_step: alpha, > 0, in widths of the box, by element.
      score_step: beta, > 0.
      patience: points, >= 1.
      projected: whether p changes at chosen pixels only.
      steps: points to ask about, >= 1. Before the first the clean input is asked about, one point more: one that meets
        the goal already is at distance 0. The authors' evaluation takes 10,000.
      objective: its loss is lowered. The paper's is the cross-entropy of the label.
      distance: what is reported, and what makes a pixel: `distances.l0(per_pixel=False)` counts elements.

    Raises:
      ValueError: a number out of its range.
      TypeError: a distance or an objective that is none.

    Example:
      >>> result = jax.jit(cw.batched(cw.attacks.sparse_pgd(epsilon=2, steps=50)))(model, keys, x, goal)
      >>> result.success.tolist(), bool((result.distance <= 2).all())
      ([True, True], True)

    References:
      Zhong et al. 2024, "Towards efficient training and evaluation of robust models against l0 bounded adversarial
        perturbations", algorithm 1, https://arxiv.org/abs/2405.05075
    """
    check_number("epsilon", epsilon, least=0, above=True)
    check_number("relative_step", relative_step, least=0, above=True)
    check_number("score_step", score_step, least=0, above=True)
    check_count("patience", patience)
    check_count("steps", steps)
    check_part("distance", distance, Distance)

    def pixels(values, reduce):
        """Of an array [*S], what each pixel has of it: [*S] with one channel."""
        axis = distance.channels(values.shape)
        return values if axis is None else reduce(values, axis=axis, keepdims=True)

    def chosen(problem, scores):
        """The pixels with the highest scores, of those that may change."""
        scores = jnp.where(pixels(problem.mask, jnp.any), scores, -jnp.inf).reshape(-1)
        rank = jnp.argsort(jnp.argsort(-scores)).reshape(pixels(problem.mask, jnp.any).shape)
        return rank < jnp.maximum(jnp.floor(epsilon * problem.scale), 1)

    def scores_of(problem, key):
        shape = pixels(problem.mask, jnp.any).shape
        return jax.random.normal(key, shape, wide(problem.x))

    def init(key, problem):
        key, sizes, first = jax.random.split(key, 3)
        clean, start = (each.astype(wide(problem.x)) for each in (problem.x, problem.start))
        noise = jax.random.uniform(sizes, clean.shape, clean.dtype, -1, 1)
        delta, scores = clip(problem, start + noise * problem.widths) - clean, scores_of(problem, first)
        mask = chosen(problem, scores)
        memory = SparsePGDMemory(key=key, delta=delta, scores=scores, before=mask, same=jnp.zeros((), jnp.int32))
        return clean + jnp.where(mask, delta, 0), memory

    def move(problem, memory, seen):
        clean, mask = problem.x.astype(seen.x.dtype), chosen(problem, memory.scores)
        slope = jnp.where(mask, seen.slope, 0) if projected else seen.slope
        delta = clip(problem, clean + memory.delta - relative_step * problem.widths * jnp.sign(slope)) - clean

        share = jax.nn.sigmoid(memory.scores)
        along = pixels(seen.slope * memory.delta, jnp.sum) * share * (1 - share)
        scores = memory.scores - score_step * jnp.sqrt(float(share.size)) * unit(along)

        unchanged = (seen.taken > 0) & (mask == memory.before).all()
        same = jnp.where(unchanged, memory.same + 1, 0)
        key, drawn = jax.random.split(memory.key)
        anew = same >= patience
        scores = jnp.where(anew, scores_of(problem, drawn), scores)
        delta = jnp.where(anew, memory.delta, delta)
        after = chosen(problem, scores)
        memory = SparsePGDMemory(
            key=key,
            delta=delta,
            scores=scores,
            before=jnp.where(anew, after, mask),
            same=jnp.where(anew, 0, same),
        )
        return clean + jnp.where(after, delta, 0), memory

    return iterated(
        from_clean(Rule(init, move, over=lambda problem, memory, seen: seen.met)),
        objective=objective,
        distance=distance,
        steps=steps + 1,
    )
