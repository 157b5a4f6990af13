"""Which elements may change: the pixels that the L0 attack freezes one by one."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_channel_axis, check_number
from cwjax.base import Number, Search, found
from cwjax.parts.distances import channels

Removal = Callable[[Float[Array, "P"], Int[Array, ""]], Bool[Array, "P"]]
"""(score of every pixel, inf where it is frozen already; how many pixels changed) -> the pixels to freeze now."""


def one_pixel() -> Removal:
    """The paper's rule (section VI-B): freeze the pixel of the lowest score.

    Returns:
      `(scores [P], how many pixels have changed) -> which to freeze [P]`.

    Example:
      >>> cw.search.one_pixel()(jnp.array([0.5, 0.001, 0.2, 0.3]), jnp.int32(16)).tolist()
      [False, True, False, False]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-B,
        https://arxiv.org/abs/1608.04644
    """
    return lambda scores, changed: jnp.arange(scores.size) == jnp.argmin(scores)


def many_pixels(*, score: Number = 0.01, share: Number = 0.3) -> Removal:
    """The released code's rule (`l0_attack.py`) for the pixels to freeze.

    In ascending order of score, until one frozen had more than `score`, or `share` times the square root of the number
    of changed pixels are frozen. At least one is.

    Args:
      score: of the first pixel that is too dear.
      share: of the square root of the number of changed pixels.

    Returns:
      `(scores [P], how many pixels have changed) -> which to freeze [P]`.

    Example:
      >>> cw.search.many_pixels()(jnp.array([0.5, 0.001, 0.2, 0.3]), jnp.int32(16)).tolist()
      [False, True, True, False]
    """
    check_number("score", score, least=0)
    check_number("share", share, least=0)

    def removal(scores, changed):
        order = jnp.argsort(scores)
        rank = jnp.arange(scores.size)
        before = jnp.where(rank > 0, jnp.roll(scores[order], 1), -jnp.inf)
        enough = (rank > 0) & (rank >= share * jnp.sqrt(changed.astype(scores.dtype)))
        return jnp.zeros(scores.shape, bool).at[order].set((before <= score) & ~enough)

    return removal


_CHANGED = 1e-4  # of the released code, in widths of the box: a pixel that moved less does not count towards `share`


class ShrunkMask(NamedTuple):
    mask: Bool[Array, "*S"]  # which elements may move
    c: Float[Array, ""]  # the weight that the next round starts from
    start: Float[Array, "*S"]  # the last round's example
    over: Bool[Array, ""]


def shrink_mask(
    *,
    initial_c: Number = 1e-3,
    removal: Removal = many_pixels(),
    per_pixel: bool = True,
    channel_axis: int | None = None,
) -> Search:
    """Freeze the pixels that matter least until a round fails (section VI-B).

    A pixel's score is `|Σ_channels delta|·Σ_channels |g|`, g being the gradient of the whole penalised loss at the
    round's last iterate, in the variable that the optimiser moves, as in the released code; both are in widths of the
    box. Printed is `g_i·delta_i` with the gradient of f in the image: its smallest value is that of the most useful
    pixel, and a hinged f has no gradient at an example that meets the goal. With the change of variables the score of a
    pixel fades as it nears a bound, so that the released rule may freeze useful pixels; on affine models `projected`
    and `clipped` come closer to the fewest pixels (tests/test_affine.py).

    It also sets `start` and `c`, for the reason given in `shrink_tau`.

    Args:
      initial_c: of the first round, > 0 (released code 1e-3, paper 1e-4).
      removal: which pixels to freeze after a success: `many_pixels` or `one_pixel`.
      per_pixel: as in `distances.l0`; otherwise every element is a pixel of its own.
      channel_axis: as in `distances.l0`.

    Raises:
      ValueError: where `distances.channels` does.

    Example:
      >>> search, problem = cw.search.shrink_mask(initial_c=0.1), cw.problems.problem(x[0], goal)
      >>> search.ask(problem, search.init(problem)).mask.tolist()  # at first every pixel may change
      [True, True, True]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-B,
        https://arxiv.org/abs/1608.04644
    """
    check_number("initial_c", initial_c, least=0, above=True)
    check_channel_axis(per_pixel, channel_axis)

    def init(problem):
        c = jnp.asarray(initial_c, problem.c.dtype)
        return ShrunkMask(mask=problem.mask, c=c, start=problem.start, over=jnp.array(False))

    def tell(problem, knob, outcome):
        best, gradient = outcome.best, outcome.last.gradient
        axis = channels(problem.x.shape, per_pixel=per_pixel, channel_axis=channel_axis)

        def by_pixel(values):  # [*S] -> [P, C]
            return (
                values.reshape(-1, 1)
                if axis is None
                else jnp.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
            )

        delta = best.x.astype(gradient.dtype) - problem.x.astype(gradient.dtype)
        pixels = by_pixel(delta / problem.widths)
        scores = jnp.abs(pixels.sum(-1)) * jnp.abs(by_pixel(gradient)).sum(-1)
        movable = by_pixel(knob.mask).any(-1)
        changed = (jnp.abs(pixels) >= _CHANGED).any(-1).sum()

        frozen = removal(jnp.where(movable, scores, jnp.inf), changed)
        mask = knob.mask & ~_spread(frozen, knob.mask.shape, axis)
        nothing_left = ~knob.mask.any()
        return ShrunkMask(mask=mask, c=best.c, start=best.x, over=~found(best) | nothing_left)

    return Search(
        init=init,
        ask=lambda problem, knob: problem._replace(mask=knob.mask, c=knob.c, start=knob.start),
        tell=tell,
        done=lambda knob: knob.over,
    )


def _spread(pixels: Bool[Array, "P"], shape: tuple[int, ...], axis: int | None) -> Bool[Array, "*S"]:
    """The flag of each pixel at every element of it, for inputs of that shape with their channels along that axis."""
    if axis is None:
        return pixels.reshape(shape)
    alone = (*shape[:axis], 1, *shape[axis + 1 :])
    return jnp.broadcast_to(pixels.reshape(alone), shape)
