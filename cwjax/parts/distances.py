"""The four norms of the technical report: what a descent penalises and what is reported."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cwjax.arguments import check_channel_axis, check_cost
from cwjax.base import AnyArray, Distance

MOST_CHANNELS = 4  # of a picture: grey; grey and alpha; red, green and blue; these and alpha


def l0(*, per_pixel: bool = True, channel_axis: int | None = None, cost: float | np.ndarray = 1.0) -> Distance:
    """The number of pixels that change at all.

    The penalty is the squared L2 norm (section VI-B uses the L2 attack within).

    With costs, it is the sum of the costs of what changes. A pixel costs what the dearest of its changed channels does.

    Args:
      per_pixel: count each pixel once, whichever of its channels change (the paper's count); False: count elements.
      channel_axis: which axis of an input [*S] holds the channels of a pixel; see `channels` for what None does.
      cost: of a change of each element, finite and >= 0, of a shape that broadcasts to one input.

    Raises:
      ValueError: where `channels` does; a cost below 0, a NaN, or costs that are 0 everywhere.

    Example:
      >>> import jax.numpy as jnp, numpy as np, cwjax as cw
      >>> float(cw.distances.l0(cost=np.array([1.0, 5.0, 2.0])).measure(jnp.array([0.1, 0.0, -3.0])))
      3.0

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-B,
        https://arxiv.org/abs/1608.04644
    """
    check_channel_axis(per_pixel, channel_axis)
    check_cost(cost)

    counted = functools.partial(channels, per_pixel=per_pixel, channel_axis=channel_axis)

    def measure(delta):
        axis, paid = counted(delta.shape), jnp.where(delta != 0, costs(cost, delta), 0)
        return jnp.sum(paid if axis is None else paid.max(axis=axis))

    return Distance(
        lambda delta, tau: jnp.sum(costs(cost, delta) * delta**2), measure, norm="l0", channels=counted, cost=cost
    )


def l1(*, cost: float | np.ndarray = 1.0) -> Distance:
    """The sum of the absolute changes, each times its cost.

    Args:
      cost: of a change of each element by one, finite and >= 0, of a shape that broadcasts to one input.

    Raises:
      ValueError: a cost below 0, a NaN, or costs that are 0 everywhere.

    Example:
      >>> float(cw.distances.l1(cost=np.array([1.0, 2.0])).measure(jnp.array([-3.0, 4.0])))
      11.0
    """
    check_cost(cost)
    return Distance(
        penalty=lambda delta, tau: jnp.sum(costs(cost, delta) * _absolute(delta)),
        measure=lambda delta: jnp.sum(costs(cost, delta) * jnp.abs(delta)),
        norm="l1",
        cost=cost,
    )


def l2() -> Distance:
    """The Euclidean norm; its square is the penalty, as in the paper's L2 attack (section VI-A).

    Example:
      >>> float(cw.distances.l2().measure(jnp.array([-3.0, 4.0])))
      5.0

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-A,
        https://arxiv.org/abs/1608.04644
    """
    return Distance(
        penalty=lambda delta, tau: jnp.sum(delta**2), measure=lambda delta: jnp.sqrt(jnp.sum(delta**2)), norm="l2"
    )


def linf() -> Distance:
    """The largest absolute change.

    The penalty is `Σ_i max(|delta_i| - tau, 0)` (section VI-C, with the absolute value that the printed formula lacks
    and the released code has).

    Example:
      >>> distance, delta = cw.distances.linf(), jnp.array([-3.0, 4.0])
      >>> float(distance.measure(delta)), float(distance.penalty(delta, 2.5))
      (4.0, 2.0)

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-C,
        https://arxiv.org/abs/1608.04644
    """
    return Distance(
        penalty=lambda delta, tau: jnp.sum(jnp.where(_absolute(delta) > tau, _absolute(delta) - tau, 0)),
        measure=lambda delta: jnp.max(jnp.abs(delta)),
        norm="linf",
    )


def costs(cost: float | np.ndarray, like: Float[AnyArray, "*S"]) -> Float[Array, "..."]:
    """Costs as factors of an array: [] where all are alike, else [*S].

    Args:
      cost: a number or an array.
      like: of the shape and dtype of one input.

    Example:
      >>> print(cw.distances.costs(np.array([1.0, 2.0]), jnp.zeros((3, 2))))
      [[1. 2.]
       [1. 2.]
       [1. 2.]]
    """
    values = jnp.asarray(cost, like.dtype)
    return jnp.broadcast_to(values, like.shape) if values.ndim else values


def _absolute(delta):
    """The absolute value with slope 0 at 0: `jnp.abs` has slope 1 there, which would push every clean pixel down."""
    return delta * jnp.sign(delta)


def channels(shape: tuple[int, ...], *, per_pixel: bool = True, channel_axis: int | None = None) -> int | None:
    """The axis that holds the channels of a pixel, counted from 0. None: every element is a pixel of its own.

    An axis that is named is taken. If none is named, an input of three axes is a picture [H, W, C], and its shape has
    to say so: the last axis is at most 4 long, and the first one is longer. So [C, H, W] is never taken for [H, W, C].
    An input of any other number of axes has no channels then, and one of a single axis never has.

    Args:
      shape: of one input, [*S].
      per_pixel: False: there are no channels.
      channel_axis: the axis that is named, from 0, or from -1 backwards.

    Raises:
      ValueError: three axes of which none is named, and the shape does not say which; a named axis that is not there.

    Example:
      >>> cw.distances.channels((32, 32, 3)), cw.distances.channels((3, 32, 32), channel_axis=0)
      (2, 0)
    """
    rank = len(shape)
    if not per_pixel or rank < 2 or (channel_axis is None and rank != 3):
        return None
    if channel_axis is not None:
        if not -rank <= channel_axis < rank:
            raise ValueError(f"an input of shape {list(shape)} has no axis {channel_axis}: name another channel_axis")
        return channel_axis % rank
    first, last = shape[0] <= MOST_CHANNELS, shape[-1] <= MOST_CHANNELS
    if last and not first:
        return 2
    seems, name = ("is not clear: [H, W, C] or [C, H, W]", "channel_axis=-1 or channel_axis=0")
    if first and not last:
        seems, name = "looks like [C, H, W]", "channel_axis=0"
    elif not last:
        seems = f"is not clear: no axis at either end is at most {MOST_CHANNELS} long, as channels are"
    raise ValueError(
        f"which elements make a pixel of an input of shape {list(shape)}? It {seems}. Pass {name}, or per_pixel=False "
        "to count elements, to what counts pixels: distances.l0, shrink_mask, metrics.norms"
    )


def named(
    norm: str, *, per_pixel: bool = True, channel_axis: int | None = None, cost: float | np.ndarray = 1.0
) -> Distance:
    """The distance of that name, a key of DISTANCES.

    Pixels are counted as `l0` is told to. Costs are for L0 and L1: ValueError for those of another norm.

    Args:
      norm: "l0", "l1", "l2" or "linf".
      per_pixel: as in `l0`.
      channel_axis: as in `l0`.
      cost: as in `l0` and `l1`.

    Example:
      >>> cw.distances.named("linf").norm
      'linf'
    """
    if norm == "l0":
        return l0(per_pixel=per_pixel, channel_axis=channel_axis, cost=cost)
    if norm == "l1":
        return l1(cost=cost)
    if np.any(np.asarray(cost) != 1):
        raise ValueError(f"costs of elements are for L0 and L1, got some for {norm}")
    return DISTANCES[norm]


DISTANCES = {"l0": l0(), "l1": l1(), "l2": l2(), "linf": linf()}
